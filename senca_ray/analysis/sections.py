"""Makes the portraits of a study's sections: of the variant to go on with, what there is to show of it."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from threadpoolctl import threadpool_limits

from senca_ray import keys
from senca_ray.analysis.benchmark import main_rows, reference_of
from senca_ray.analysis.confidence import seed_agreement
from senca_ray.analysis.dendrogram import embedding_tree
from senca_ray.analysis.description import read_description
from senca_ray.analysis.embeddings import KeptEmbedding, read_embedding
from senca_ray.analysis.kind_control import match_control, read_control, write_control
from senca_ray.analysis.kinds import match_kinds
from senca_ray.analysis.markers import region_markers, top_markers
from senca_ray.analysis.portrait import (
    Portrait,
    made_from,
    read_portrait,
    read_portraits,
    write_portrait,
)
from senca_ray.analysis.region_profiles import RegionProfiles, region_profiles
from senca_ray.analysis.results import read_fits
from senca_ray.analysis.selection import main_fold, read_selection
from senca_ray.analysis.trials import typical_row
from senca_ray.analysis.umap import umap_layout
from senca_ray.data.sample import ALL_GENES, Sample
from senca_ray.data.shards import read_sample
from senca_ray.errors import SencaError
from senca_ray.methods import METHODS, MODEL
from senca_ray.methods.protocol import Protocol

_log = logging.getLogger(__name__)

KEPT_MARKERS = 100
"""Genes kept of every region: those of highest effect among all that are significantly higher inside.

More than anyone shows of one region: which genes a kind of region has in section after section is read from
them, and of eleven sections' strongest five hardly any recurred in the commonest kinds.
"""
_VERSION = 1
"""To be raised with every change in how a portrait follows from what it is made of."""

Told = Callable[[str], None]
"""Hears what is being done, in a few words."""


_OF_ROW = (keys.SAMPLE, keys.FINGERPRINT, keys.ENCODER, keys.METHOD, keys.SETTING)


@dataclass(frozen=True)
class _Basis:
    """What the portrait of a section of N spots follows from."""

    sample: str
    fingerprint: str
    encoder: str
    method: str
    setting: str
    clustering: str
    form: str
    """How they were computed: keys.EXACT or keys.LARGE."""
    regions: np.ndarray
    """(N,) those to go on with."""
    partitions: tuple[np.ndarray, ...]
    """(N,) each: the regions of the seeds, where `regions` is their consensus; else none."""
    embedding: KeptEmbedding | None
    """The one that was kept; None where that is none, or none that can be used."""
    unusable: str
    """Why a kept one cannot be used."""

    @property
    def digest(self) -> str:
        """Of equal ones the portraits are equal too, but for the kinds, which other sections decide."""
        named = [_VERSION, self.sample, self.fingerprint, self.method, self.setting, self.clustering]
        if self.form != keys.EXACT:
            named.append(self.form)
        found = hashlib.sha256(json.dumps(named).encode())
        for regions in (self.regions, *self.partitions):
            found.update(hashlib.sha256(regions.tobytes()).digest())
        if self.embedding is not None:
            found.update(json.dumps([self.embedding.seed, *self.embedding.values.shape]).encode())
            found.update(self.embedding.values.tobytes())
        return found.hexdigest()


def make_portraits(folder: Path, told: Told | None = None) -> None:
    """Write a portrait of every section of a study (analysis/portrait.py), one section after the other.

    The variant is that to go on with: of a grid the model's default setting, of a search the setting chosen
    in the main fold (where that chose none, the default), of a benchmark its reference. The regions are the
    consensus of the seeds; without one (one seed, or one that failed) those of the typical seed. In the end
    regions are matched across sections (analysis/kinds.py). A section without regions or whose shard cannot
    be read has no portrait, and one of an earlier time is removed. Where nothing changed nothing is done,
    and a portrait that would come out the same is left alone but for its kinds.

    Raises SencaError where the study's tables cannot be read or a portrait cannot be written.
    """
    description, told = read_description(folder), told or _unheard
    rows = _rows(folder, description)
    if _current(folder, rows, description["shards"]):
        return
    profiles = []
    for sample, shard in description["shards"].items():
        basis = _basis(folder, rows[rows[keys.SAMPLE] == sample])
        profile = None if basis is None else _section(folder, basis, shard, told)
        if profile is not None:
            profiles.append(profile)
    told("regions across sections")
    _write_kinds(folder, profiles)


def _unheard(words: str) -> None:
    """Nobody listens."""


def _current(folder: Path, rows: pd.DataFrame, shards: Mapping[str, str]) -> bool:
    """True when all portraits are there, made from what there is now, with their kinds, and no others."""
    bases = (_basis(folder, rows[rows[keys.SAMPLE] == sample]) for sample in shards)
    found = {basis.sample: _same(folder, basis) for basis in bases if basis is not None}
    complete = all(portrait and portrait.kinds for portrait in found.values())
    return complete and not _others(folder, found) and (not found or _matched(folder))


def _matched(folder: Path) -> bool:
    try:
        return read_control(folder) is not None
    except SencaError:  # it says to remove the file; a new one takes its place
        return False


def _same(folder: Path, basis: _Basis) -> Portrait | None:
    """The portrait that was made from the same; None where there is none that can be read."""
    if made_from(folder, basis.sample) != basis.digest:
        return None
    try:
        return read_portrait(folder, basis.sample)
    except SencaError:  # as above
        return None


def _others(folder: Path, samples: Collection[str]) -> list[Path]:
    """Portraits of other sections."""
    return [p for p in sorted((folder / keys.PORTRAIT_FOLDER).glob("*.parquet")) if p.stem not in samples]


def _section(folder: Path, basis: _Basis, shard: str, told: Told) -> RegionProfiles | None:
    """Make one portrait, unless it is there, and profile its regions; None where that cannot be done."""
    try:
        with threadpool_limits(1):
            sample = read_sample(shard, ALL_GENES, basis.encoder)
            profile = region_profiles(sample, basis.regions)
            portrait = None if _same(folder, basis) else _portrait(folder, basis, sample, told)
    except Exception as error:  # noqa: BLE001  one section must not cost the others theirs, nor the study its page
        reason = str(error) if isinstance(error, SencaError) else f"{type(error).__name__}: {error}"
        _log.warning("%s: no portrait of it (%s)", basis.sample, reason)
        return None
    if portrait is not None:
        write_portrait(folder, portrait, basis.digest)
    return profile


def _write_kinds(folder: Path, profiles: Sequence[RegionProfiles]) -> None:
    """Match regions over the sections and keep what came of it; remove the portraits of all others.

    In such an order that a stop at any point leaves a section without kinds or a portrait too many, by which
    the next call sees that the kinds are not current.
    """
    if profiles:
        write_control(folder, match_control(profiles))
    kinds = match_kinds(profiles)
    old = read_portraits(folder, list(kinds))
    for sample, portrait in sorted(old.items(), key=lambda one: not one[1].kinds):
        if portrait.kinds != kinds[sample]:
            new = dataclasses.replace(portrait, kinds=kinds[sample])
            write_portrait(folder, new, str(made_from(folder, sample)))
    for path in _others(folder, kinds):
        path.unlink()


def _rows(folder: Path, description: dict[str, Any]) -> pd.DataFrame:
    """The rows of the variant to go on with that did not fail, seeds and consensus, each with its regions."""
    protocol, setting = Protocol.read(description), description["default"]
    method, clustering = MODEL, protocol.clustering_of(METHODS[MODEL])
    if description["kind"] == "search":
        setting = main_fold(read_selection(folder))["chosen"] or setting
    elif description["kind"] == "benchmark":
        # A benchmark has one setting of each method, whatever it is called.
        (method, clustering), setting = reference_of(description), None
    rows = main_rows(read_fits(folder), description)
    rows = rows[(rows[keys.METHOD] == method) & (rows[keys.STATUS] == keys.OK)]
    rows = rows[rows[keys.CLUSTERING].isin([clustering, keys.CONSENSUS])]
    if setting is not None:
        rows = rows[rows[keys.SETTING] == setting]
    return rows.dropna(subset=keys.REGIONS)


def _basis(folder: Path, rows: pd.DataFrame) -> _Basis | None:
    """What there is of one section; None where every fit failed."""
    agreed = rows[keys.CLUSTERING] == keys.CONSENSUS
    seeds = rows[~agreed].sort_values(keys.SEED)
    row = rows[agreed].iloc[0] if agreed.any() else typical_row(seeds)
    if row is None:
        return None
    regions = np.asarray(row[keys.REGIONS], dtype=np.int16)
    partitions = tuple(np.asarray(r, dtype=np.int16) for r in seeds[keys.REGIONS]) if agreed.any() else ()
    embedding, unusable = _embedding(folder, row, len(regions))
    return _Basis(
        **{name: row[name] for name in _OF_ROW},
        clustering=seeds.iloc[0][keys.CLUSTERING],
        # Studies of earlier versions do not say; they knew no other.
        form=keys.LARGE if row[keys.FORM] == keys.LARGE else keys.EXACT,
        regions=regions,
        partitions=partitions,
        embedding=embedding,
        unusable=unusable,
    )


def _embedding(folder: Path, row: pd.Series, n_spots: int) -> tuple[KeptEmbedding | None, str]:
    """The embedding that was kept, and why it cannot be used."""
    try:
        found = read_embedding(folder, *(row[name] for name in (keys.METHOD, keys.SETTING, keys.SAMPLE)))
    except SencaError as error:
        return None, str(error)
    if found is None:
        return None, ""
    if len(found.values) != n_spots:
        return None, f"its embedding is of {len(found.values)} spots; expected {n_spots}"
    if not np.isfinite(found.values).all():
        return None, "its embedding holds NaN or infinite values"
    return found, ""


def _portrait(folder: Path, basis: _Basis, sample: Sample, told: Told) -> Portrait:
    regions = basis.regions
    shown: dict[str, Any] = {}
    if basis.unusable:
        _log.warning("%s: shown without UMAP, tree and curve (%s)", basis.sample, basis.unusable)
    if basis.embedding is not None:
        values, kept = basis.embedding.values, regions != keys.NO_REGION
        told(f"{basis.sample}: UMAP")
        shown |= {"seed": basis.embedding.seed, "umap": umap_layout(values, kept)}
        told(f"{basis.sample}: tree")
        shown |= {"tree": embedding_tree(values, kept, basis.clustering, basis.form)}
        shown |= {"curve": _curve(values[kept], basis.clustering, basis.form)}
    told(f"{basis.sample}: markers")
    return Portrait(
        **{name: getattr(basis, name) for name in ("sample", "method", "setting", "regions")},
        n_seeds=max(len(basis.partitions), 1),
        confidence=seed_agreement(regions, basis.partitions) if basis.partitions else None,
        markers=_markers(folder, basis, sample),
        **shown,
    )


def _curve(values: np.ndarray, clustering: str, form: str) -> dict[int, float]:
    """The curve that the policy `auto` goes by; empty for a method that finds regions by itself."""
    from senca_ray.fit.regions import silhouette_curve

    return {} if clustering == keys.OWN else silhouette_curve(values, clustering, form)


def _markers(folder: Path, basis: _Basis, sample: Sample) -> pd.DataFrame:
    """The strongest genes of every region, tested again unless the study has tested these very regions."""
    found = _tested(folder, basis)
    if found is None:
        about = (sample.counts, sample.genes, sample.total_counts, sample.target_sum)
        found = region_markers(*about, basis.regions)
    return top_markers(found, KEPT_MARKERS)


def _tested(folder: Path, basis: _Basis) -> pd.DataFrame | None:
    """What markers.parquet holds of the section; None where that is nothing, or of other regions."""
    try:
        mine = [(keys.SAMPLE, "==", basis.sample)]
        found = pd.read_parquet(folder / keys.MARKERS_FILE, filters=mine).drop(columns=keys.SAMPLE)
    except (OSError, ValueError, KeyError, pa.ArrowException):
        return None
    sizes = found.groupby("region")["n_spots_in"].first().to_dict()
    names, spots = np.unique(basis.regions[basis.regions != keys.NO_REGION], return_counts=True)
    return found if sizes == dict(zip(names.tolist(), spots.tolist(), strict=True)) else None
