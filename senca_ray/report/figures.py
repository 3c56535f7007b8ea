"""The figure of a sweep: one block of sections, every section its own line."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from senca_ray import keys
from senca_ray.methods import MODEL

_WIDTH, _LEAST_HEIGHT, _LINE_HEIGHT = 6.4, 3.8, 0.16
"""Inches; a figure grows with the number of labels beside it, so that none covers another."""
_INK, _SECTION, _CONTROL = "#0B3C5D", "#8A94A0", "#B5480E"
_STYLE = {"font.family": "DejaVu Sans", "font.size": 9, "svg.fonttype": "path", "svg.hashsalt": "senca"}


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
        axes.set_xlim(-1.15, len(names) - 1 + 0.75)
        axes.set_ylim(*limits)
        _draw_controls(axes, controls)
        _draw_sections(axes, x, lines, means["mean_ari"].reindex(names).to_numpy(float))
        default = names.index(f"{description['vary']}={description['default']}")
        ticks = [f"{v}{' (default)' if i == default else ''}" for i, v in enumerate(description["values"])]
        axes.set_xticks(x, ticks)
        axes.set_xlabel(description["vary"])
        axes.set_ylabel("ARI (mean over seeds)")
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def _draw_controls(axes: Axes, controls: pd.DataFrame) -> None:
    heights = controls["mean_ari"].to_numpy(float)
    for height in heights:
        axes.axhline(height, color=_CONTROL, linewidth=1, linestyle=(0, (5, 3)), zorder=1)
    _labels(axes, -1.1, None, heights, controls[keys.METHOD].tolist(), _CONTROL)


def _draw_sections(axes: Axes, x: np.ndarray, lines: pd.DataFrame, means: np.ndarray) -> None:
    for values in lines.to_numpy(float):
        axes.plot(x, values, color=_SECTION, linewidth=0.9, marker="o", markersize=2.5, zorder=2)
    axes.plot(x, means, color=_INK, linewidth=2.8, marker="o", markersize=6, zorder=3)
    # A line that stops early (a failed trial) is named at its last point's height.
    ends = [row.dropna().iloc[-1] for _, row in lines.iterrows()]
    names = [*lines.index.astype(str), "mean"]
    last = means[~np.isnan(means)]
    if len(last):
        _labels(axes, x[-1] + 0.12, x[-1], np.array([*ends, last[-1]]), names, _INK)


def _labels(
    axes: Axes, x: float, end: float | None, heights: np.ndarray, names: Sequence[str], colour: str
) -> None:
    """Write names at `x`, moved apart where they would overlap and tied to their lines' `end`."""
    low, high = axes.get_ylim()
    inches = axes.figure.get_size_inches()[1] - 1.0
    gap = _LINE_HEIGHT * (high - low) / inches
    for name, height, place in zip(names, heights, spread(heights, gap, low, high), strict=True):
        bold = "bold" if name == "mean" else "normal"
        # Names of sections are data, not mathematics.
        text = axes.text(x, place, name, color=colour, fontsize=8, va="center", weight=bold, parse_math=False)
        text.set_bbox({"facecolor": "white", "edgecolor": "none", "pad": 0.6, "alpha": 0.85})
        if end is not None:
            axes.plot([end, x - 0.02], [height, place], color=_SECTION, linewidth=0.5, zorder=1)


def spread(heights: np.ndarray, gap: float, low: float, high: float) -> np.ndarray:
    """Positions near `heights` (n,), in the same order, at least `gap` apart and inside [low, high] if they fit."""
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
