"""The figure of a sweep: one block of sections, every section its own line."""

from __future__ import annotations

import io
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from senca_ray import keys
from senca_ray.methods import MODEL
from senca_ray.report.view import StudyView

_WIDTH, _LEAST_HEIGHT, _LINE_HEIGHT = 5.8, 3.6, 0.16
_FRAME_WIDTH, _FRAME_HEIGHT, _TIE, _CHARACTER_WIDTH = 0.8, 0.8, 0.15, 0.08
"""Inches; a figure grows with the number of names beside it, so that none covers another."""
_LONGEST_NAME = 20
_INK, _SECTION, _CONTROL = "#0B3C5D", "#8A94A0", "#B5480E"
_STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "svg.fonttype": "path",
    "svg.hashsalt": "senca",
}


def sweep_figures(view: StudyView) -> Iterator[tuple[str, Figure]]:
    """Title and figure of every block in which the model has a score, on one ARI axis."""
    values = pd.concat([view.sections["mean_ari"], view.summary["mean_ari"]]).dropna()
    if values.empty:
        return
    limits = min(0.0, math.floor(values.min() * 10) / 10), max(0.5, math.ceil(values.max() * 10) / 10)
    for title, summary in view.summary.groupby("block", sort=False):
        sections = view.sections[view.sections["block"] == title]
        if summary.loc[summary[keys.METHOD] == MODEL, "mean_ari"].notna().any():
            yield str(title), sweep_figure(summary, sections, view.description, limits)


def sweep_figure(
    summary: pd.DataFrame, sections: pd.DataFrame, description: dict[str, Any], limits: tuple[float, float]
) -> Figure:
    """Draw ARI against the swept value for one block.

    `summary` and `sections` hold the block's rows (of the statistics and of the section table); `limits`
    is the range of the ARI axis. Thin lines are sections (mean over seeds), the thick line is the mean over
    patients, dashed lines are controls.
    """
    names = [f"{description['vary']}={value}" for value in description["values"]]
    model = sections[sections[keys.METHOD] == MODEL]
    lines = model.pivot_table("mean_ari", keys.SAMPLE, keys.SETTING, aggfunc="first").reindex(columns=names)
    lines = lines.dropna(how="all")
    means = summary[summary[keys.METHOD] == MODEL].drop_duplicates(keys.SETTING).set_index(keys.SETTING)
    controls = summary[summary[keys.METHOD] != MODEL].dropna(subset=["mean_ari"])
    rows = max(len(lines) + 1, len(controls))
    figure = Figure(figsize=(_WIDTH, max(_LEAST_HEIGHT, _LINE_HEIGHT * rows + 1)), layout="constrained")
    with rc_context(_STYLE):
        axes = figure.add_subplot()
        x = np.arange(len(names), dtype=float)
        left, right = _text_width(controls[keys.METHOD]), _text_width([*lines.index, "mean"])
        unit = max(len(names) - 1, 1) / (_WIDTH - _FRAME_WIDTH - left - right)
        axes.set_xlim(-left * unit, x[-1] + right * unit)
        axes.set_ylim(*limits)
        default = names.index(f"{description['vary']}={description['default']}")
        ticks = [f"{v}{' (default)' if i == default else ''}" for i, v in enumerate(description["values"])]
        axes.set_xticks(x, ticks)
        axes.set_xlabel(description["vary"])
        axes.set_ylabel("ARI (mean over seeds)")
        axes.spines[["top", "right"]].set_visible(False)
        heights = controls["mean_ari"].to_numpy(float)
        tie = _TIE * unit
        axes.hlines(heights, -tie, axes.get_xlim()[1], color=_CONTROL, linewidth=1, linestyle=(0, (5, 3)))
        _label(axes, -2 * tie, np.full(len(heights), -tie), heights, controls[keys.METHOD].tolist(), _CONTROL)
        _draw_sections(axes, x, lines, means["mean_ari"].reindex(names).to_numpy(float), x[-1] + tie)
    return figure


def _draw_sections(axes: Axes, x: np.ndarray, lines: pd.DataFrame, means: np.ndarray, place: float) -> None:
    """Draw the lines and name each at its last point, which failed fits can bring forward."""
    every = [*lines.to_numpy(float), means]
    for values in every[:-1]:
        axes.plot(x, values, color=_SECTION, linewidth=0.9, marker="o", markersize=2.5, zorder=2)
    axes.plot(x, means, color=_INK, linewidth=2.8, marker="o", markersize=6, zorder=3)
    last = [np.flatnonzero(~np.isnan(values))[-1] for values in every]
    heights = np.array([values[i] for values, i in zip(every, last, strict=True)])
    _label(axes, place, x[last], heights, [*lines.index, "mean"], _INK)


def _label(
    axes: Axes, place: float, ends: np.ndarray, heights: np.ndarray, names: Sequence[str], colour: str
) -> None:
    """Name the lines that end at (`ends`, `heights`) beside x = `place`, apart where names would overlap."""
    low, high = axes.get_ylim()
    figure = axes.get_figure(root=True)
    inches = figure.get_figheight() - _FRAME_HEIGHT if figure else _LEAST_HEIGHT
    gap = _LINE_HEIGHT * (high - low) / inches
    levels = spread(heights, gap, low, high)
    for name, end, height, level in zip(names, ends, heights, levels, strict=True):
        on_right = place > end
        axes.plot([end, place], [height, level], color=colour, linewidth=0.5, alpha=0.6, zorder=1)
        axes.text(
            place,
            level,
            f" {_shortened(name)} ",
            color=colour,
            weight="bold" if name == "mean" else "normal",
            ha="left" if on_right else "right",
            va="center",
            parse_math=False,  # a name is data, not mathematics
        )


def _shortened(name: str) -> str:
    return name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 1]}…"


def _text_width(names: Iterable[str]) -> float:
    """Inches that names beside lines need, with their ties."""
    return 2.3 * _TIE + _CHARACTER_WIDTH * max((len(_shortened(name)) for name in names), default=0)


def spread(heights: np.ndarray, gap: float, low: float, high: float) -> np.ndarray:
    """Positions near `heights` (n,), in the same order and at least `gap` apart.

    They lie in [low, high] if they fit there, else they start at `low`.
    """
    order = np.argsort(heights, kind="stable")
    steps = gap * np.arange(len(heights))
    # Apart by a gap means that what is left after taking the gaps away never falls.
    rest = np.asarray(heights, float)[order] - steps
    rest = (np.maximum.accumulate(rest) + np.minimum.accumulate(rest[::-1])[::-1]) / 2
    top = max(high - steps[-1], low) if len(heights) else low
    places = np.empty(len(heights))
    places[order] = np.clip(rest, low, top) + steps
    return places


def render(figure: Figure, kind: str) -> bytes:
    """A figure as 'svg' or 'png' bytes; the same figure always gives the same bytes."""
    buffer = io.BytesIO()
    with rc_context(_STYLE):
        figure.savefig(buffer, format=kind, dpi=130, metadata={"Date": None} if kind == "svg" else None)
    return buffer.getvalue()
