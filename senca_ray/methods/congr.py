"""ConGcR and ConGaR: a graph-convolution encoder of expression, contrasted with the image of each spot.

Both are one network. ConGcR learns from the contrast alone, ConGaR also from rebuilding the spatial graph.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from senca_ray import keys
from senca_ray.config import Setting
from senca_ray.data.sample import ALL_GENES, Sample
from senca_ray.errors import SencaError
from senca_ray.methods.base import Embedding, Method

if TYPE_CHECKING:
    from torch import Tensor, nn

_SETTINGS: Mapping[str, Any] = MappingProxyType(
    {
        # Defaults of the authors' script for these breast tumours, besides batch size and epochs, for which
        # their tutorial gives the values below.
        "genes": 500,
        "expressed_in": 0.01,
        "neighbors": 4,
        "hidden": 256,
        "embedding": 128,
        "projection": 128,
        "temperature": 0.1,
        "learning_rate": 1e-3,
        "batch": 128,
        "epochs": 15,
        "contrast_weight": 1.0,
        # Ours: as wide as the features of the ResNet-18 whose place the head takes.
        "image_hidden": 512,
    }
)
_CITATION = (
    "Lin et al., A contrastive learning approach to integrate spatial transcriptomics and histological "
    "images, Computational and Structural Biotechnology Journal 23, 2024"
)
_FOLLOWED = (
    "Followed, after the description and the authors' public code with its settings for these sections: raw"
    " counts of the 500 genes of highest variance on one min-max scale, a graph of 4 neighbours, two tanh "
    "graph convolutions, NT-Xent between the modalities in unshuffled batches of 128 spots, 15 epochs, "
    "k-means on the second layer. Changed: the original trains a ResNet-18 on the patches from scratch; "
    "here a small trainable head stands on frozen features of the image encoder."
)


class _ConGr(Method):
    """What ConGcR and ConGaR share."""

    citation = _CITATION
    kind = keys.PUBLISHED
    source = keys.REIMPLEMENTED
    clusterings = ("kmeans",)

    def genes_needed(self, setting: Setting) -> int:
        """All: the most variable ones are chosen among them by raw counts."""
        return ALL_GENES

    def embed(self, sample: Sample, setting: Setting, seed: int) -> Embedding:
        """Train and return the second layer of the expression encoder, (N, embedding).

        Raises SencaError where the section lacks the image that the method needs, and when training diverges.
        """
        if self.needs_image and sample.image_features is None:
            raise SencaError(f"{sample.name}: {self.name} needs an image and the section has none")
        import torch

        from senca_ray.fit.determinism import one_thread
        from senca_ray.methods.graph_training import edge_index, fit_full_graph
        from senca_ray.model.losses import nt_xent
        from senca_ray.model.senca import standardise

        settings = self.settings
        with one_thread():
            expression = torch.from_numpy(scaled_counts(sample, settings["genes"], settings["expressed_in"]))
            edges = edge_index(sample.nearest(settings["neighbors"]), self_loops=False)
            features = sample.image_features
            image = None if features is None else standardise(torch.tensor(features))
            spots, batch = len(expression), settings["batch"]
            batches = -(-spots // batch)

            def loss(network: nn.ModuleDict, step: int) -> Tensor:
                encoded = _encode(network, expression, edges)
                terms = []
                if image is not None:
                    start = (step - 1) % batches * batch
                    rows = slice(start, start + batch)
                    seen, shown = network["projection"](encoded[rows]), network["image"](image[rows])
                    terms.append(settings["contrast_weight"] * nt_xent(seen, shown, settings["temperature"]))
                if settings["graph_weight"] > 0:
                    terms.append(settings["graph_weight"] * graph_loss(encoded, edges))
                return torch.stack(terms).sum()

            network, losses = fit_full_graph(
                lambda: _network(expression.shape[1], None if image is None else image.shape[1], settings),
                loss,
                epochs=settings["epochs"] * batches,
                learning_rate=settings["learning_rate"],
                seed=seed,
            )
            with torch.no_grad():
                values = _encode(network, expression, edges).numpy()
        return Embedding(values, tuple(np.reshape(losses, (-1, batches)).mean(axis=1).tolist()))


class ConGcr(_ConGr):
    """Learns from nothing but the contrast of a spot's expression with its image."""

    name = "congcr"
    title = "ConGcR: graph convolution of expression, contrasted with the image, k-means"
    modality = "expression and image"
    needs_image = True
    settings = MappingProxyType({**_SETTINGS, "graph_weight": 0.0})
    checked = (
        f"{_FOLLOWED} Its only loss contrasts the modalities, so without an image nothing would be trained: "
        "such sections are refused. Not checked against the published mean ARI (0.268): of its eight "
        "sections one, A1, was at hand with an image (0.215 here, 3 seeds)."
    )


class ConGar(_ConGr):
    """ConGcR with a graph autoencoder: the embedding also has to tell neighbours from other spots."""

    name = "congar"
    title = "ConGaR: ConGcR with a graph autoencoder, k-means"
    modality = "expression, and image where there is one"
    # Of the authors' tutorial; their script's default of 0 is ConGcR.
    settings = MappingProxyType({**_SETTINGS, "graph_weight": 100.0})
    checked = (
        f"{_FOLLOWED} The graph autoencoder rebuilds the spatial graph from inner products. Without an image"
        " that term alone is left, as when the original's weight of the contrast is set to 0: a plain graph"
        " autoencoder of expression. So fitted, the mean ARI over the eight annotated sections was 0.155 (3"
        " seeds); the published 0.187 is with images and cannot be compared (A1, the one section at hand "
        "with an image: 0.191 with it, 0.188 without)."
    )


def scaled_counts(sample: Sample, genes: int, expressed_in: float) -> np.ndarray:
    """Raw counts of the genes of highest variance, scaled to 0..1 by their common range; (N, genes) float32.

    Only genes expressed in at least that share of the spots are taken; fewer where there are fewer.
    """
    counts = sample.counts.astype(np.float64)
    share = counts.getnnz(axis=0) / counts.shape[0]
    means, squares = (np.asarray(c.mean(axis=0)).ravel() for c in (counts, counts.power(2)))
    variances = np.where(share >= expressed_in, squares - means**2, -np.inf)
    chosen = np.argsort(-variances, kind="stable")[: min(genes, int((share >= expressed_in).sum()))]
    dense = counts[:, np.sort(chosen)].toarray()
    low, high = dense.min(), dense.max()
    return ((dense - low) / max(high - low, 1.0)).astype(np.float32)


def graph_loss(embedding: Tensor, edges: Tensor) -> Tensor:
    """How badly inner products of the embedding (N, D) tell edges from other pairs of spots; a scalar.

    Cross-entropy over all N * N pairs, every spot counted as its own neighbour, edges weighted by how much
    rarer they are. `edges` (2, M) without self loops, both directions.
    """
    import torch
    from torch.nn import functional

    pairs, joined = len(embedding) ** 2, edges.shape[1]
    adjacency = torch.eye(len(embedding))
    adjacency[edges[0], edges[1]] = 1.0
    rarity = torch.tensor((pairs - joined) / joined)
    entropy = functional.binary_cross_entropy_with_logits(
        embedding @ embedding.T, adjacency, pos_weight=rarity
    )
    return pairs / (2 * (pairs - joined)) * entropy


def _network(genes: int, features: int | None, settings: Mapping[str, Any]) -> nn.ModuleDict:
    from torch import nn
    from torch_geometric.nn import GCNConv

    network = nn.ModuleDict(
        {
            "first": GCNConv(genes, settings["hidden"], bias=False),
            "second": GCNConv(settings["hidden"], settings["embedding"], bias=False),
            "projection": nn.Linear(settings["embedding"], settings["projection"]),
        }
    )
    if features is not None:
        hidden = settings["image_hidden"]
        network["image"] = nn.Sequential(
            nn.Linear(features, hidden), nn.ReLU(), nn.Linear(hidden, settings["projection"])
        )
    return network


def _encode(network: nn.ModuleDict, expression: Tensor, edges: Tensor) -> Tensor:
    hidden = network["first"](expression, edges).tanh()
    return network["second"](hidden, edges).tanh()
