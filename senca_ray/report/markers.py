"""What the page shows of the marker genes of a study's regions."""

from __future__ import annotations

from typing import Any

import pandas as pd

from senca_ray import keys
from senca_ray.analysis.markers import log_expression, missing_genes, top_markers
from senca_ray.analysis.study_markers import gene_table, model_regions
from senca_ray.data.sample import ALL_GENES
from senca_ray.data.shards import read_sample
from senca_ray.errors import SencaError
from senca_ray.report.figures import render
from senca_ray.report.marker_figures import expression_maps, marker_figure
from senca_ray.report.view import StudyView

_TOP, _DOTS, _MAPS = 5, 3, 8
"""Genes a region in the table, in the figure of dots, and maps of single genes a section."""
_MOST_DOTS = 36
"""Genes that fit side by side."""


def marker_content(view: StudyView) -> list[dict[str, Any]]:
    """Of every section with markers: table, dots and maps; none for a study that reports no markers."""
    path = view.folder / keys.MARKERS_FILE
    asked = view.description.get("markers")
    if asked is None or not path.is_file():
        return []
    markers = pd.read_parquet(path)
    regions = model_regions(view.folder, view.description)
    return [
        _section(view, str(sample), rows, asked, regions[str(sample)])
        for sample, rows in markers.groupby(keys.SAMPLE, sort=False)
    ]


def _section(
    view: StudyView, sample: str, rows: pd.DataFrame, asked: list[str], regions: Any
) -> dict[str, Any]:
    strongest = top_markers(rows, _TOP)
    found = gene_table(rows, asked)
    leading = [*strongest.groupby("region").head(_DOTS)["gene"], *found["gene"]]
    drawn = list(dict.fromkeys(leading))[:_MOST_DOTS]
    # The best of each region first, so that every region has a map.
    mapped = list(dict.fromkeys([*strongest.groupby("region").head(1)["gene"], *found["gene"], *drawn]))[
        :_MAPS
    ]
    return {
        "sample": sample,
        "strongest": strongest.to_dict("records"),
        "asked": found.to_dict("records"),
        "missing": missing_genes(asked, list(rows["gene"].unique())),
        "dots": render(marker_figure(rows, drawn), "svg") if drawn else None,
        "maps": _maps(view, sample, mapped, regions),
        "mapped": mapped,
    }


def _maps(view: StudyView, sample: str, genes: list[str], regions: Any) -> bytes | None:
    """Maps of single genes beside the regions; None where the shard is gone."""
    try:
        read = read_sample(view.description["shards"][sample], ALL_GENES)
    except (SencaError, OSError):
        return None
    values = log_expression(read.counts, read.genes, read.total_counts, read.target_sum, genes)
    return render(expression_maps(read.xy, regions, values), "svg")
