"""`senca figures`: the figures of the paper for the user's cohort, as files for a manuscript."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from senca_ray import options
from senca_ray.screen import Screen


def figures(
    study: options.StudyFolder,
    out: Annotated[
        Path | None, typer.Option(help="Folder to write to. Left out: DIR/figures.", metavar="DIR")
    ] = None,
    section: options.Sections = None,
    width: Annotated[
        str, typer.Option(help="Journal columns: single (85 mm) or double (174 mm).", metavar="WIDTH")
    ] = "double",
) -> None:
    """Write Figures 2 to 5 of the paper for your sections, as PDF and PNG at journal width.

    \b
    figure2_SAMPLE  H&E, labels, and what every method or setting made of the section
    figure3_SAMPLE  the regions, and the strongest marker gene of up to six of them
    figure4_SAMPLE  the variants of an ablation, or the values of a sweep
    figure5_SAMPLE  UMAP by label and by region (without labels: by confidence)
    figure_cohort   all sections, regions of the same kind in one colour

    A figure of many panels goes on in figure2_SAMPLE-2 and so on. What a study cannot show is left out and
    named with the reason. The PDF holds text as text and spots as shapes; the PNG has 300 dpi. All files are
    written or none.

    \b
    Examples:
      senca figures studies/ablation-her2st
      senca figures studies/ablation-her2st --section H1 --section C1 --width single --out paper
    """
    from rich.console import Console
    from rich.markup import escape

    from senca_ray.report.paper_figures import write_figures

    with Console().status("drawing") as status:
        made = write_figures(
            study, out, section, width, progress=lambda text: status.update(f"drawing {escape(text)}")
        )
    shown = Screen()
    shown.line(f"{made.written[0].parent}")
    for name in dict.fromkeys(path.stem for path in made.written):
        shown.line(f"  {name}.pdf, .png")
    alike: dict[tuple[str, str], list[str]] = {}
    for left in made.left_out:
        alike.setdefault((left.place, left.message), []).append(left.sample)
    for (figure, reason), samples in alike.items():
        where = figure if samples == ["-"] else f"{figure} of {', '.join(samples)}"
        shown.line(f"left out, {where}: {reason}")
