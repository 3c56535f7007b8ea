"""`senca export`: a study's regions as files that scanpy, squidpy, QuPath and spreadsheets open."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from senca_ray import options
from senca_ray.screen import Screen


def export(
    study: options.StudyFolder,
    out: Annotated[
        Path | None, typer.Option(help="Folder to write to. Left out: DIR/export.", metavar="DIR")
    ] = None,
    section: options.Sections = None,
    spatialdata: Annotated[
        bool,
        typer.Option("--spatialdata", help="SAMPLE.zarr too; needs pip install 'senca-ray[spatialdata]'."),
    ] = False,
) -> None:
    """Write each section's regions as files to carry on with.

    \b
    SAMPLE/SAMPLE.h5ad             counts, regions, embedding, UMAP, image: for scanpy and squidpy
    SAMPLE/SAMPLE_regions.geojson  outlines in pixels of the full-resolution image: for QuPath
    SAMPLE/SAMPLE_regions.csv      a row a spot
    SAMPLE/SAMPLE_markers.csv      the strongest genes of every region
    SAMPLE/SAMPLE.zarr             the same as SpatialData, with --spatialdata
    cohort_regions.csv             a row a region of all sections

    Of a section without image the outlines are SAMPLE_regions_spots.geojson, in spot distances. A section
    without regions, or whose shard cannot be read, is left out with the reason. docs/export.md tells how to
    open the files.

    \b
    Examples:
      senca export studies/ablation-her2st
      senca export studies/ablation-her2st --section H1 --section C1 --out for-qupath
    """
    from rich.console import Console
    from rich.markup import escape

    from senca_ray.analysis.description import SIMULATED
    from senca_ray.export.study import COHORT_FILE, export_study

    with Console().status("exporting") as status:
        made = export_study(
            *(study, out, section, spatialdata),
            told=lambda sample: status.update(f"exporting {escape(sample)}"),
        )
    shown = Screen()
    if made.simulated:
        shown.line(SIMULATED)
    shown.line(f"{made.folder}")
    for sample, names in made.files.items():
        shown.line(f"  {sample}: {', '.join(names)}")
    shown.line(f"  {COHORT_FILE}")
    for problem in made.left_out:
        shown.line(f"left out: {problem.sample}, {problem.place}: {problem.message}")
