"""One section's AnnData table, from HDF5 or zarr alike: counts, positions, labels and what is known of it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.sparse import csr_matrix

from senca_ray import keys
from senca_ray.data.readers import anndata_elements as elements
from senca_ray.data.readers import positions
from senca_ray.data.readers.findings import Findings
from senca_ray.data.readers.matrices import checked_counts, unique_names
from senca_ray.data.readers.tables import MISSING, quantity, quote, quote_some
from senca_ray.data.section import MAIN_ANNOTATOR, RawSection, SectionFiles
from senca_ray.errors import ProblemsError, SencaError

ROW, COLUMN, IN_TISSUE = "array_row", "array_col", "in_tissue"
_ANNOTATOR = f"{keys.OBS_LABEL}."
"""Columns of further annotators begin with this, as `senca export` writes them."""
_MOST_LABELS = 1000
"""A column with more different values names spots, or measures something."""


@dataclass(frozen=True)
class Table:
    """N spots, G genes, as the table holds them; nothing is matched to an image yet."""

    kept: np.ndarray
    """(N,) which rows of the table the spots are."""
    spots: tuple[str, ...]
    genes: tuple[str, ...]
    counts: csr_matrix
    """(N, G) int32."""
    xy: np.ndarray | None
    """(N, 2) array coordinates in spot distances; None where the table has none."""
    spot_distance_um: float | None
    labels: tuple[str, ...] | None
    annotations: dict[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class About:
    """What a table tells of its section without its counts being read."""

    patient: str | None = None
    label_source: str = keys.UNLABELLED
    simulated: bool = False


def about(group: Any, chosen: np.ndarray | None = None) -> About:
    """Look at a table's columns, of the rows `chosen` (all spots,) bool where given.

    Raises SencaError for a damaged one.
    """
    known = {}
    for name in ("patient", "label_source", "simulated"):
        if (element := elements.member(group, f"uns/senca/{name}")) is not None:
            known[name] = elements.text(element)
    patient = known.get("patient")
    if (column := elements.member(group, "obs/patient")) is not None:
        patients = pd.Series(elements.read(column, "obs/patient"))
        names = pd.unique((patients if chosen is None else patients[chosen]).dropna())
        patient = str(names[0]) if len(names) == 1 else None
    source = known.get("label_source")
    if elements.member(group, f"obs/{keys.OBS_LABEL}") is None:
        source = keys.UNLABELLED
    elif source not in (keys.TRANSFERRED, keys.SIMULATED):
        source = keys.ANNOTATED
    return About(
        patient=re.sub(r"[^A-Za-z0-9_.-]+", "_", patient).lstrip(".") if patient else None,
        label_source=source,
        simulated=known.get("simulated") == "True" or source == keys.SIMULATED,
    )


def with_about(files: SectionFiles, known: About) -> SectionFiles:
    """`files` with the patient and labels that the table tells."""
    return replace(
        files,
        patient=known.patient or files.patient,
        label_source=known.label_source,
        simulated=known.simulated,
    )


def read_positions(group: Any) -> np.ndarray:
    """(N, 2) float64 of obsm['spatial']; raises SencaError."""
    element = elements.member(group, f"obsm/{keys.OBSM_SPATIAL}")
    if element is None:
        obsm = elements.member(group, "obsm")
        others = quote_some(sorted(obsm)) if obsm is not None and len(obsm) else "nothing"
        raise SencaError(
            f"no obsm['spatial'] (obsm holds {others}); expected the spots' positions in pixels of the "
            "full-resolution image; write them there"
        )
    values = np.asarray(elements.read(element, "obsm['spatial']"))
    if values.ndim != 2 or values.shape[1] != 2 or values.dtype.kind not in "iuf":
        raise SencaError(
            f"obsm['spatial'] is {' x '.join(map(str, values.shape))} of type {values.dtype}; expected two "
            "columns of numbers, x and y; write these"
        )
    values = values.astype(np.float64)
    wrong = int((~np.isfinite(values)).any(axis=1).sum())
    if wrong:
        raise SencaError(
            f"obsm['spatial'] has no position for {quantity(wrong, 'spot')} (NaN or infinite); expected x "
            "and y for every spot; write them, or remove the spots"
        )
    return values


def read_table(findings: Findings, path: Path, group: Any, chosen: np.ndarray | None = None) -> Table | None:
    """Read a table's spots, genes, counts, array coordinates and labels; None with problems.

    `chosen` (all spots,) bool says which spots belong to the section; without it all do.
    """
    frames = {}
    for name in ("obs", "var"):
        with findings.collecting(path):
            element = elements.member(group, name)
            if element is None:
                raise SencaError(f"no {name} found; expected AnnData, with obs, var and X; write it as .h5ad")
            frames[name] = pd.DataFrame(elements.read(element, name))
    if len(frames) < 2:
        return None
    obs = frames["obs"]
    spots = tuple(map(str, obs.index))
    kept = np.ones(len(obs), dtype=bool) if chosen is None else chosen.copy()
    if IN_TISSUE in obs and pd.api.types.is_numeric_dtype(obs[IN_TISSUE]):
        outside = kept & (obs[IN_TISSUE] == 0).to_numpy(dtype=bool, na_value=False)
        findings.note(int(outside.sum()), "spot", f"left out: obs['{IN_TISSUE}'] is 0")
        kept &= ~outside
    if not kept.any():
        findings.problem(path, "no spots found; expected one or more; write the file again")
        return None
    unique_names(findings, path, "spot", [spots[i] for i in np.flatnonzero(kept)])
    found = None
    with findings.collecting(path):
        found = _read_counts(findings, path, group, spots, frames["var"])
    xy, hexagons = None, False
    with findings.collecting(path):
        xy, hexagons = _array_xy(obs[kept])
    labels, annotations = None, {}
    with findings.collecting(path):
        labels = _labels(findings, obs[kept])
        if labels is not None:
            annotations = {
                name.removeprefix(_ANNOTATOR): _words(obs[kept][name], name)
                for name in map(str, obs.columns)
                if name.startswith(_ANNOTATOR) and name.removeprefix(_ANNOTATOR) not in ("", MAIN_ANNOTATOR)
            }
    if found is None:
        return None
    counts, genes = found
    everything = bool(kept.all())
    return Table(
        kept=np.flatnonzero(kept),
        spots=spots if everything else tuple(spots[i] for i in np.flatnonzero(kept)),
        genes=genes,
        counts=counts if everything else counts[kept],
        xy=xy,
        spot_distance_um=positions.VISIUM_UM if hexagons else None,
        labels=labels,
        annotations=annotations,
    )


def section_of(
    findings: Findings, path: Path, table: Table, places: np.ndarray, pixel_xy: np.ndarray | None
) -> RawSection:
    """The section of a table whose spots are at `places` (N, 2) in pixels, or whatever else they are in.

    `pixel_xy` (N, 2) is in the frame of the image of `findings.files`. Without array coordinates, `places`
    divided by the distance of adjacent spots are the positions. Raises ProblemsError.
    """
    files, xy = findings.files, table.xy
    with findings.collecting(path):
        if xy is None:
            xy = places / positions.spot_distance(places)
        elif positions.swapped(xy, places):
            raise SencaError(
                f"x of the spots' positions goes with obs['{ROW}'] and y with obs['{COLUMN}']; expected x to "
                "the right, as the columns, and y down, as the rows; probably x and y are swapped: turn them "
                "round"
            )
    if xy is None or findings.problems:
        raise ProblemsError(findings.problems, "1 section")
    if table.labels is not None and files.label_source == keys.UNLABELLED:
        files = replace(files, label_source=keys.ANNOTATED)
    return RawSection(
        files=files,
        spots=table.spots,
        genes=table.genes,
        counts=table.counts,
        xy=xy,
        pixel_xy=pixel_xy,
        labels=table.labels,
        annotations=table.annotations,
        spot_distance_um=table.spot_distance_um,
        notes=tuple(findings.notes),
    )


def _read_counts(
    findings: Findings, path: Path, group: Any, spots: tuple[str, ...], var: pd.DataFrame
) -> tuple[csr_matrix, tuple[str, ...]] | None:
    """Counts and genes from the first of X, layers['counts'] and raw.X that holds whole numbers."""
    tried: list[str] = []
    first = Findings(findings.files)
    for name, element, frame in _candidates(group, var):
        genes = tuple(map(str, frame.index))
        trial = Findings(findings.files)
        matrix = elements.read_counts_matrix(element, name, (len(spots), len(genes)))
        counts = checked_counts(trial, path, matrix, spots, genes, where=name)
        if counts is not None:
            why = (
                f": {', '.join(tried)} {'holds' if len(tried) == 1 else 'hold'} other numbers"
                if tried
                else ""
            )
            findings.notes.append(f"counts from {name}{why}")
            return (counts, genes) if unique_names(findings, path, "gene", genes) else None
        tried.append(name)
        first = first if first.problems else trial
    if not tried:
        raise SencaError("no X found, nor layers['counts'] or raw.X; expected raw counts in one of them")
    others = f"; {' and '.join(tried[1:])} held no counts either" if tried[1:] else ""
    findings.problems += [replace(p, message=p.message + others) for p in first.problems]
    return None


def _candidates(group: Any, var: pd.DataFrame) -> Iterator[tuple[str, Any, pd.DataFrame]]:
    """Name, element and table of genes of whatever may hold the counts."""
    for name, place in (("X", "X"), ("layers['counts']", "layers/counts")):
        element = elements.member(group, place)
        if element is not None and element.attrs.get("encoding-type") != "null":
            yield name, element, var
    element, raw_var = elements.member(group, "raw/X"), elements.member(group, "raw/var")
    if element is not None and raw_var is not None:
        yield "raw.X", element, pd.DataFrame(elements.read(raw_var, "raw.var"))


def _array_xy(obs: pd.DataFrame) -> tuple[np.ndarray | None, bool]:
    """Array coordinates in spot distances and whether the grid is Visium's; (None, False) without any."""
    if ROW not in obs or COLUMN not in obs:
        return None, False
    values = obs[[ROW, COLUMN]].apply(pd.to_numeric, errors="coerce").to_numpy(np.float64, na_value=np.nan)
    wrong = ~(np.isfinite(values) & (values == np.round(values))).all(axis=1)
    if wrong.any():
        raise SencaError(
            f"obs['{ROW}'] and obs['{COLUMN}'] are no whole numbers for "
            f"{quantity(int(wrong.sum()), 'spot')}, first {quote(str(obs.index[int(np.argmax(wrong))]))}; "
            "expected array coordinates; correct or remove the columns"
        )
    twice = int(len(values) - len(np.unique(values, axis=0)))
    if twice:
        raise SencaError(
            f"{quantity(twice, 'spot')} at the array coordinates of another one; expected every place once; "
            "the file may hold several sections: write one for each"
        )
    rows, columns = values.T
    return positions.grid_xy(rows, columns), positions.on_hexagons(rows, columns)


def _labels(findings: Findings, obs: pd.DataFrame) -> tuple[str, ...] | None:
    column = findings.files.label_column
    if column is None:
        if keys.OBS_LABEL not in obs:
            return None
        column = keys.OBS_LABEL
    elif column not in obs:
        raise SencaError(
            f"no column {quote(column)} in obs; found {quote_some(list(map(str, obs.columns))) or 'none'}; "
            "expected the label column; correct its name in the cohort file"
        )
    labels = _words(obs[column], column)
    without = labels.count(keys.UNDETERMINED)
    if without == len(labels):
        raise SencaError(
            f"obs[{quote(column)}] labels no spot; expected labels; remove or correct the column"
        )
    empty = int(obs[column].isna().sum())
    findings.note(empty, "spot", f"without a label: {keys.UNDETERMINED}")
    return labels


def _words(column: pd.Series, name: str) -> tuple[str, ...]:
    """(N,) the values of a column as labels; keys.UNDETERMINED for missing and empty ones."""
    codes, values = pd.factorize(column)
    if len(values) > _MOST_LABELS:
        raise SencaError(
            f"obs[{quote(name)}] holds {len(values):,} different values; expected labels; name another column"
        )
    words = [f"{v:g}" if isinstance(v, float) else str(v).strip() for v in values]
    words = [keys.UNDETERMINED if word in MISSING else word for word in words]
    return tuple(np.array([*words, keys.UNDETERMINED], dtype=object)[codes].tolist())
