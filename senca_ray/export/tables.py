"""Regions and markers as CSV, safe to open in a spreadsheet."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from senca_ray import keys
from senca_ray.analysis.markers import top_markers
from senca_ray.analysis.portrait import Portrait
from senca_ray.export.section import ExportedSection
from senca_ray.export.table import annotator_column
from senca_ray.files import write_text

_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")
"""How a text begins that a spreadsheet would run."""
_TOP = 5

SPOT_COLUMNS = (
    *("spot", "x", "y", "pixel_x", "pixel_y"),
    *("region", "kind", "confidence", "label"),
)
COHORT_COLUMNS = (
    *("sample", "patient", "region", "kind", "spots", "share", "mean_confidence", "top_markers"),
)


def spot_regions(section: ExportedSection) -> pd.DataFrame:
    """A row a spot with SPOT_COLUMNS, and a label of each other annotator; what is not known is empty."""
    portrait, sample = section.portrait, section.sample
    pixels = np.full(sample.xy.shape, np.nan) if section.pixel_xy is None else section.pixel_xy
    return pd.DataFrame(
        {
            "spot": section.spots,
            "x": sample.xy[:, 0],
            "y": sample.xy[:, 1],
            "pixel_x": pixels[:, 0],
            "pixel_y": pixels[:, 1],
            "region": _numbers(portrait.regions),
            "kind": None if section.kinds is None else _numbers(section.kinds),
            "confidence": portrait.confidence,
            "label": sample.labels,
        },
        columns=list(SPOT_COLUMNS),
    ).assign(**{annotator_column(name): labels for name, labels in sample.annotations.items()})


def cohort_regions(portraits: Mapping[str, Portrait], patients: Mapping[str, str]) -> pd.DataFrame:
    """A row a section and region with COHORT_COLUMNS; share of its section's clustered spots."""
    rows = []
    for sample, portrait in portraits.items():
        strongest = top_markers(portrait.markers, _TOP)
        for region, share in portrait.shares.items():
            inside = portrait.regions == region
            sure = portrait.confidence_by_region.get(region)
            genes = "; ".join(strongest.loc[strongest["region"] == region, "gene"])
            kind = portrait.kinds[region] if portrait.kinds else None
            rows.append((sample, patients[sample], region, kind, int(inside.sum()), share, sure, genes))
    return pd.DataFrame(rows, columns=list(COHORT_COLUMNS)).astype({"kind": "Int64"})


def write_csv(table: pd.DataFrame, path: Path) -> None:
    """Write a table, whole or not at all; raises SencaError when the disk refuses.

    A text that a spreadsheet would take for a formula gets an apostrophe before it.
    """
    safe = table.copy()
    for name in safe.select_dtypes(object):
        safe[name] = [_safe(value) for value in safe[name]]
    write_text(path, safe.to_csv(index=False, lineterminator="\n"))


def _safe(value: object) -> object:
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value


def _numbers(values: np.ndarray) -> pd.Series:
    """(N,) whole numbers, missing where there is no region."""
    return pd.Series(values).astype("Int64").mask(values == keys.NO_REGION)
