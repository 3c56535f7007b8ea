"""What a trial sees of a section: the arrays of one shard, read to the prefix that a setting needs."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from scipy.sparse import csr_matrix

from senca_ray import keys
from senca_ray.errors import SencaError

ALL_GENES = 2**31 - 1
"""As the number of genes to read: every gene that the shard holds."""


@dataclass(frozen=True)
class Sample:
    """One section in memory: N spots, G genes in order of normalised dispersion, K neighbours."""

    name: str
    patient: str
    label_source: str
    fingerprint: str
    encoder: str
    """Name of the image encoder behind `image_features`; 'none' without an image."""
    genes: tuple[str, ...]
    """(G,) the genes read, most dispersed first."""
    counts: csr_matrix
    """(N, G) int32 raw counts of these genes."""
    total_counts: np.ndarray
    """(N,) counts of a spot over all genes that passed the filter, read or not."""
    target_sum: float
    """Total to which a spot's counts are scaled before log1p."""
    xy: np.ndarray
    """(N, 2) float64 positions in spot distances."""
    neighbors: np.ndarray
    """(N, K) int32 indices of each spot's neighbours, nearest first, the spot itself left out."""
    image_features: np.ndarray | None
    """(N, F) float32 frozen-encoder features; None for a section without image."""
    labels: np.ndarray | None
    """(N,) str, keys.UNDETERMINED where the pathologist set none; None for an unlabelled section."""
    annotations: Mapping[str, np.ndarray] = field(default_factory=dict)
    """As `labels`, by each other annotator; no score uses them."""
    encoder_asked: str = ""
    """That encoder as `prepare` was asked for it; empty without an image."""
    patches: np.ndarray | None = None
    """(N, S, S, 3) uint8, what that encoder saw; None where they were not asked for."""

    @property
    def modality(self) -> str:
        """keys.RNA_IMAGE or keys.RNA."""
        return keys.RNA if self.image_features is None else keys.RNA_IMAGE

    def expression(self, hvgs: int) -> np.ndarray:
        """(N, hvgs) float32 log1p of counts scaled to `target_sum` a spot, the first `hvgs` genes."""
        if hvgs > len(self.genes):
            raise SencaError(
                f"{self.name}: {hvgs} HVGs asked for, {len(self.genes)} genes are in the shard; lower hvgs"
            )
        totals = np.maximum(self.total_counts, 1).astype(np.float32)
        dense = self.counts[:, :hvgs].toarray().astype(np.float32)
        return np.log1p(dense * (np.float32(self.target_sum) / totals)[:, None])

    def nearest(self, neighbors: int) -> np.ndarray:
        """(N, neighbors) int64 indices, a prefix of the stored neighbours."""
        if neighbors > self.neighbors.shape[1]:
            raise SencaError(
                f"{self.name}: {neighbors} neighbours asked for, the shard stores "
                f"{self.neighbors.shape[1]}; lower neighbors or prepare with a larger max_neighbors"
            )
        return self.neighbors[:, :neighbors].astype(np.int64)

    def subset(self, kept: np.ndarray) -> Sample:
        """The section with these spots alone, (N,) bool, as many neighbours of each as there can be."""
        if kept.all():
            return self
        from senca_ray.data.graph import nearest_neighbors

        xy = self.xy[kept]
        return dataclasses.replace(
            self,
            counts=self.counts[kept],
            total_counts=self.total_counts[kept],
            xy=xy,
            neighbors=nearest_neighbors(xy, min(self.neighbors.shape[1], len(xy) - 1)),
            image_features=None if self.image_features is None else self.image_features[kept],
            labels=None if self.labels is None else self.labels[kept],
            annotations={name: labels[kept] for name, labels in self.annotations.items()},
            patches=None if self.patches is None else self.patches[kept],
        )

    def label_count(self) -> int:
        """Number of labels without `undetermined`: k under the policy `labels`."""
        if self.labels is None:
            raise SencaError(f"{self.name}: k policy 'labels' needs labels; use fixed:N or auto")
        return len(set(self.labels.tolist()) - {keys.UNDETERMINED})
