"""The figures of a benchmark: every section's score of every method, and differences to the reference."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from senca_ray import keys
from senca_ray.analysis.benchmark_tables import method_name
from senca_ray.analysis.statistics import paired_differences
from senca_ray.report.figures import INK, SECTION, STYLE
from senca_ray.report.view import StudyView

KIND_COLOURS = {
    keys.MODEL_KIND: "#0B5CAD",
    keys.NULL: "#B5480E",
    keys.SIMPLE: "#00735C",
    keys.PUBLISHED: "#6B2A6E",
}
"""Dark enough to be read as text; the kind is also written out, so that none depends on its colour."""
_WIDTH, _FRAME_HEIGHT = 7.6, 0.95
"""Inches."""
_ROW_HEIGHT, _DENSE, _DENSE_HEIGHT = 0.3, 16, 0.235
"""Inches of a row, and of a row where there are more than so many."""
_SPREAD = 0.22
"""How far dots of a row lie above and below it, so that equal ones do not hide each other."""
_LONGEST = 34
"""Characters of a name beside a row."""


@dataclass(frozen=True)
class BenchmarkFigure:
    """One figure of one block with what has to be said of it."""

    block: str
    name: str
    """How a W&B run names it: 'scores' or 'differences'."""
    caption: str
    figure: Figure


def benchmark_figures(view: StudyView) -> Iterator[BenchmarkFigure]:
    """The figures of every block that has scores; its scores share one ARI axis with those of the others."""
    single = [f[f[keys.CLUSTERING] != keys.CONSENSUS] for f in (view.summary, view.sections)]
    summary, sections = (f.dropna(subset=["mean_ari"]) for f in single)
    if summary.empty:
        return
    values, unit = sections["mean_ari"], view.description["unit"]
    limits = min(0.0, np.floor(values.min() * 10) / 10), max(0.5, np.ceil(values.max() * 10) / 10)
    for title, rows in summary.groupby("block", sort=False):
        here = sections[sections["block"] == title]
        yield BenchmarkFigure(
            str(title),
            "scores",
            "ARI of every method, best mean first. Small dots: sections, mean over seeds. Thick strokes: "
            f"mean over {unit}s. Dashed: the mean of the reference. On the right: the kind of method.",
            score_figure(rows, here, limits),
        )
        reference = rows[rows["is_default"]]
        compared = rows[~rows["is_default"] & (rows["n_paired"].fillna(0) > 0)]
        if len(reference) and len(compared):
            yield BenchmarkFigure(
                str(title),
                "differences",
                f"Difference to the reference, {method_name(reference.iloc[0])}; right of the line is better "
                f"than it. Small dots: {unit}s. Diamonds: mean difference, with its 95 % interval where "
                f"there is one. On the right: in how many {unit}s the method is higher.",
                difference_figure(compared, reference, here, unit),
            )


def score_figure(rows: pd.DataFrame, sections: pd.DataFrame, limits: tuple[float, float]) -> Figure:
    """Draw the ARI of every method of one block, a row a method.

    `rows` and `sections` hold the block's rows with a score (of the summary, in its order, and of the section
    table); `limits` is the range of the ARI axis.
    """
    most = rows["n_sections"].max()
    names = [
        _shortened(method_name(row)) + (f", {n} of {most}" if (n := row["n_sections"]) < most else "")
        for row in rows.to_dict("records")
    ]
    with rc_context(STYLE):
        figure, axes = _frame(names, [str(kind) for kind in rows["kind"]])
        axes.set_xlim(*limits)
        axes.set_xlabel("ARI (mean over seeds)")
        for place, row in enumerate(rows.to_dict("records")):
            scores = _section_scores(sections, row)
            colour = KIND_COLOURS.get(row["kind"], INK)
            _dots(axes, scores.to_numpy(float), place)
            # Longer than the dots are spread, so that they may lie on it.
            axes.plot(row["mean_ari"], place, "|", color=colour, markersize=14, markeredgewidth=3.4, zorder=2)
            for label in (axes.get_yticklabels()[place], figure.axes[1].get_yticklabels()[place]):
                label.set_color(colour)
                if row["is_default"]:
                    label.set_fontweight("bold")
        for row in rows[rows["is_default"]].to_dict("records"):
            _reference_line(axes, row["mean_ari"], f"reference: {_shortened(method_name(row))}")
    return figure


def difference_figure(
    rows: pd.DataFrame, reference: pd.DataFrame, sections: pd.DataFrame, unit: str
) -> Figure:
    """Draw the paired differences of every method to the reference in one block, a row a method.

    `rows` are those of the summary that were compared, `reference` is the reference's own; `unit` is what
    counts as one observation.
    """
    theirs = _section_scores(sections, reference.iloc[0])
    wins = [f"{row['wins']} of {row['n_paired']}" for row in rows.to_dict("records")]
    with rc_context(STYLE):
        figure, axes = _frame([_shortened(method_name(row)) for row in rows.to_dict("records")], wins)
        for place, row in enumerate(rows.to_dict("records")):
            _dots(axes, paired_differences(_section_scores(sections, row), theirs, unit), place)
            axes.hlines(place, row["interval_low"], row["interval_high"], color=INK, linewidth=2.2, zorder=1)
            axes.plot(
                row["mean_difference"],
                place,
                "D",
                color=INK,
                markersize=6,
                markeredgecolor="white",
                markeredgewidth=0.8,
                zorder=4,
            )
        axes.margins(x=0.04)
        axes.set_xlabel("difference in ARI to the reference")
        _reference_line(axes, 0.0, f"reference: {_shortened(method_name(reference.iloc[0]))}")
    return figure


def _frame(left: list[str], right: list[str]) -> tuple[Figure, Axes]:
    """A figure with a row for every name, the first on top, words on both sides; `axes[1]` is the right."""
    height = _DENSE_HEIGHT if len(left) > _DENSE else _ROW_HEIGHT
    figure = Figure(figsize=(_WIDTH, height * len(left) + _FRAME_HEIGHT), layout="constrained")
    axes = figure.add_subplot()
    beside = axes.twinx()
    y = np.arange(len(left))
    for part, words in ((axes, left), (beside, right)):
        part.set_ylim(len(left) - 0.5, -0.5)
        part.set_yticks(y, words, parse_math=False)
        part.tick_params(axis="y", length=0)
        part.spines[["top", "right", "left"]].set_visible(False)
    axes.hlines(y, 0, 1, transform=axes.get_yaxis_transform(), color="#E3E7EB", linewidth=0.8, zorder=0)
    axes.grid(axis="x", color="#EEF1F4", linewidth=0.8)
    axes.set_axisbelow(True)
    return figure, axes


def _reference_line(axes: Axes, place: float, words: str) -> None:
    axes.axvline(place, color=INK, linewidth=1.2, linestyle=(0, (5, 3)), zorder=1)
    low, high = axes.get_xlim()
    share = (place - low) / (high - low)
    axes.annotate(
        words,
        (place, 1),
        xycoords=axes.get_xaxis_transform(),
        xytext=(0, 4),
        textcoords="offset points",
        # Words that begin in the outer quarters would leave the frame.
        ha="left" if share < 0.25 else "right" if share > 0.75 else "center",
        va="bottom",
        color=INK,
        parse_math=False,
    )


def _dots(axes: Axes, values: np.ndarray, place: int) -> None:
    """A dot a value; the golden ratio spreads them evenly without chance."""
    apart = np.modf(np.arange(1, len(values) + 1) * 0.618)[0] * 2 - 1
    height = place + _SPREAD * apart
    rim: dict[str, Any] = {"markeredgecolor": "white", "markeredgewidth": 0.5}
    axes.plot(values, height, "o", color=SECTION, markersize=4.2, zorder=3, **rim)


def _section_scores(sections: pd.DataFrame, row: Any) -> pd.Series:
    """Scores of a method's sections, by patient and sample."""
    own = (sections[keys.METHOD] == row[keys.METHOD]) & (sections[keys.CLUSTERING] == row[keys.CLUSTERING])
    return sections[own].set_index([keys.PATIENT, keys.SAMPLE])["mean_ari"]


def _shortened(name: str) -> str:
    return name if len(name) <= _LONGEST else f"{name[: _LONGEST - 1]}…"
