"""Portraits: what pages, figures and exported files show of each section's regions, kept in the study.

A portrait is of one variant of the study, the one to go on with, and of the regions that its seeds agree
on. It is one Parquet file a section: a row a spot, all else in the file's metadata.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from senca_ray import keys
from senca_ray.analysis.markers import MARKER_COLUMNS
from senca_ray.errors import SencaError
from senca_ray.files import write_whole

SMALL_SHARE = 0.05
"""A region of fewer spots than this share is small: pages name it, so that it is not lost silently."""


@dataclass(frozen=True)
class Tree:
    """The upper part of a dendrogram: L leaves, each a group of spots that only finer cuts would divide."""

    linkage: str
    """How groups were joined: ward, average or complete."""
    leaf: np.ndarray
    """(N,) int16 leaf of each spot; keys.NO_REGION for spots left out of clustering."""
    merges: np.ndarray
    """(L - 1, 3) float64: the two groups joined, and the height. Groups below L are leaves, L + i is what
    merge i made; heights rise."""


@dataclass(frozen=True)
class Portrait:
    """One section of N spots in k regions."""

    sample: str
    method: str
    setting: str
    """Label of the setting, as result rows spell it."""
    regions: np.ndarray
    """(N,) int16 the regions to go on with; keys.NO_REGION for spots left out of clustering."""
    n_seeds: int
    """How many seeds the regions rest on: with several they are their consensus, with one its own."""
    seed: int | None = None
    """The seed whose embedding UMAP, tree and curve come from; None where none was kept."""
    confidence: np.ndarray | None = None
    """(N,) float32 share of the seeds that agree with a spot's region; None with one seed."""
    umap: np.ndarray | None = None
    """(N, 2) float32; NaN for spots left out."""
    tree: Tree | None = None
    curve: dict[int, float] = field(default_factory=dict)
    """Mean silhouette of the embedding by number of regions; empty without an embedding."""
    kinds: tuple[int, ...] = ()
    """The kind of every region in the cohort, by region; empty where sections were not matched."""
    markers: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=list(MARKER_COLUMNS)))
    """The strongest genes of every region, with the columns of `region_markers`."""

    @property
    def k(self) -> int:
        """Number of regions."""
        return len(np.unique(self.regions[self.regions != keys.NO_REGION]))

    @property
    def shares(self) -> dict[int, float]:
        """Share of the clustered spots in every region."""
        names, sizes = np.unique(self.regions[self.regions != keys.NO_REGION], return_counts=True)
        return {int(name): float(size / sizes.sum()) for name, size in zip(names, sizes, strict=True)}

    def kinds_of_spots(self, without: int) -> np.ndarray:
        """(N,) kind of every spot's region, `without` for spots that have none; needs kinds."""
        return np.array([*self.kinds, without])[self.regions]  # NO_REGION takes the last one

    @property
    def confidence_by_region(self) -> dict[int, float]:
        """Mean confidence of every region's spots; empty where nothing is known of it."""
        if self.confidence is None:
            return {}
        return {region: float(self.confidence[self.regions == region].mean()) for region in self.shares}

    @property
    def small(self) -> tuple[int, ...]:
        """Regions of less than SMALL_SHARE of the spots."""
        return tuple(region for region, share in self.shares.items() if share < SMALL_SHARE)


def write_portrait(study_dir: Path, portrait: Portrait, made_from: str) -> None:
    """Keep a portrait, whole or not at all; `made_from` tells what it was made of. Raises SencaError."""
    tree = portrait.tree
    table = pa.table(
        {
            "region": pa.array(portrait.regions, pa.int16()),
            **_column("confidence", portrait.confidence),
            **_column("umap_1", None if portrait.umap is None else portrait.umap[:, 0]),
            **_column("umap_2", None if portrait.umap is None else portrait.umap[:, 1]),
            **({} if tree is None else {"leaf": pa.array(tree.leaf, pa.int16())}),
        }
    )
    told = {
        "made_from": made_from,
        **{name: getattr(portrait, name) for name in ("sample", "method", "setting", "n_seeds", "seed")},
        "tree": None if tree is None else {"linkage": tree.linkage, "merges": tree.merges.tolist()},
        "curve": list(portrait.curve.items()),
        "kinds": list(portrait.kinds),
        "markers": json.loads(portrait.markers.to_json(orient="records", double_precision=15)),
    }
    path = _path(study_dir, portrait.sample)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SencaError(f"{path.parent}: cannot be made ({error.strerror}); free some space there") from None
    write_whole(path, lambda temporary: pq.write_table(_told(table, told), temporary))


def read_portrait(study_dir: Path, sample: str) -> Portrait | None:
    """The portrait of a section; None where there is none. Raises SencaError for a damaged file."""
    path = _path(study_dir, sample)
    if not path.exists():
        return None
    try:
        table = pq.read_table(path)
        told = json.loads(table.schema.metadata[b"senca"])
        spots = {name: table[name].to_numpy() for name in table.column_names}
        tree = told["tree"]
        return Portrait(
            **{name: told[name] for name in ("sample", "method", "setting", "n_seeds", "seed")},
            regions=spots["region"],
            confidence=spots.get("confidence"),
            umap=np.column_stack([spots["umap_1"], spots["umap_2"]]) if "umap_1" in spots else None,
            tree=tree and Tree(tree["linkage"], spots["leaf"], np.array(tree["merges"]).reshape(-1, 3)),
            curve={int(k): float(value) for k, value in told["curve"]},
            kinds=tuple(told["kinds"]),
            markers=pd.DataFrame(told["markers"], columns=list(MARKER_COLUMNS)),
        )
    except (OSError, pa.ArrowException, KeyError, TypeError, ValueError) as error:
        raise _damaged(path, error) from None


def read_portraits(study_dir: Path, samples: Sequence[str]) -> dict[str, Portrait]:
    """The portraits of these sections, those without one left out; raises SencaError."""
    found = {sample: read_portrait(study_dir, sample) for sample in samples}
    return {sample: portrait for sample, portrait in found.items() if portrait is not None}


def made_from(study_dir: Path, sample: str) -> str | None:
    """What a section's portrait was made of; None where there is no portrait that can be read."""
    try:
        told = json.loads(pq.read_schema(_path(study_dir, sample)).metadata[b"senca"])
        return str(told["made_from"])
    except (OSError, pa.ArrowException, KeyError, TypeError, ValueError):
        return None


def _column(name: str, values: np.ndarray | None) -> dict[str, pa.Array]:
    return {} if values is None else {name: pa.array(np.asarray(values, dtype=np.float32))}


def _told(table: pa.Table, told: dict[str, Any]) -> pa.Table:
    return table.replace_schema_metadata({"senca": json.dumps(told)})


def _damaged(path: Path, error: Exception) -> SencaError:
    return SencaError(
        f"{path}: not a portrait ({error}); remove the file and make it again with "
        f"`senca report {path.parent.parent}`"
    )


def _path(study_dir: Path, sample: str) -> Path:
    # Sample ids were checked when the section was read.
    return Path(study_dir) / keys.PORTRAIT_FOLDER / f"{sample}.parquet"
