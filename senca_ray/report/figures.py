"""The figure of a comparison: one block of sections, every section its own line."""

from __future__ import annotations

import io
import math
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from senca_ray import keys
from senca_ray.methods import MODEL
from senca_ray.report.view import StudyView, settings_of, value_of

_WIDTH, _LEAST_HEIGHT, _LINE_HEIGHT = 5.8, 3.6, 0.16
_FRAME_WIDTH, _FRAME_HEIGHT, _TIE, _CHARACTER_WIDTH = 0.8, 0.8, 0.15, 0.08
"""Inches; a figure grows with the number of names beside it, so that none covers another."""
_ROW_HEIGHT = 0.34
_LONGEST_NAME, _LONGEST_LINE = 20, 24
_STROKE: dict[str, Any] = {"markersize": 15, "markeredgewidth": 3, "zorder": 3}
"""A mean among dots, which it must not hide."""
INK, SECTION, CONTROL = "#0B3C5D", "#8A94A0", "#B5480E"
STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "svg.fonttype": "path",
    "svg.hashsalt": "senca",
}


def sweep_figures(view: StudyView) -> Iterator[tuple[str, Figure]]:
    """Title and figure of every block in which the model has a score, on one ARI axis; single seeds only."""
    summary, sections = (f[f[keys.CLUSTERING] != keys.CONSENSUS] for f in (view.summary, view.sections))
    values = pd.concat([sections["mean_ari"], summary["mean_ari"]]).dropna()
    if values.empty:
        return
    limits = min(0.0, math.floor(values.min() * 10) / 10), max(0.5, math.ceil(values.max() * 10) / 10)
    draw = value_figure if view.description.get("vary") else category_figure
    for title, rows in summary.groupby("block", sort=False):
        if rows.loc[rows[keys.METHOD] == MODEL, "mean_ari"].notna().any():
            yield str(title), draw(rows, sections[sections["block"] == title], view.description, limits)


def value_figure(
    summary: pd.DataFrame, sections: pd.DataFrame, description: dict[str, Any], limits: tuple[float, float]
) -> Figure:
    """Draw ARI against the values of one field for one block.

    `summary` and `sections` hold the block's rows (of the statistics and of the section table); `limits`
    is the range of the ARI axis. Thin lines are sections (mean over seeds), the thick line is the mean over
    patients, dashed lines are controls.
    """
    names = settings_of(description)
    lines, means = _model(summary, sections, names)
    controls = summary[summary[keys.METHOD] != MODEL].dropna(subset=["mean_ari"])
    rows = max(len(lines) + 1, len(controls))
    figure = Figure(figsize=(_WIDTH, max(_LEAST_HEIGHT, _LINE_HEIGHT * rows + 1)), layout="constrained")
    with rc_context(STYLE):
        axes = figure.add_subplot()
        x = np.arange(len(names), dtype=float)
        left, right = _text_width(controls[keys.METHOD]), _text_width([*lines.index, "mean"])
        unit = max(len(names) - 1, 1) / (_WIDTH - _FRAME_WIDTH - left - right)
        axes.set_xlim(-left * unit, x[-1] + right * unit)
        axes.set_ylim(*limits)
        ticks = [f"{value_of(description, n)}{_default_mark(description, n)}" for n in names]
        axes.set_xticks(x, ticks, parse_math=False)
        axes.set_xlabel(description["vary"])
        axes.set_ylabel("ARI (mean over seeds)")
        axes.spines[["top", "right"]].set_visible(False)
        heights = controls["mean_ari"].to_numpy(float)
        tie = _TIE * unit
        axes.hlines(heights, -tie, axes.get_xlim()[1], color=CONTROL, linewidth=1, linestyle=(0, (5, 3)))
        _label(axes, -2 * tie, np.full(len(heights), -tie), heights, controls[keys.METHOD].tolist(), CONTROL)
        _draw_sections(axes, x, lines, means["mean_ari"].to_numpy(float), x[-1] + tie)
    return figure


def category_figure(
    summary: pd.DataFrame, sections: pd.DataFrame, description: dict[str, Any], limits: tuple[float, float]
) -> Figure:
    """Draw ARI of variants that have no order, one below the other, the default first; see `value_figure`.

    Thick strokes are means over patients; controls lie below the model's variants.
    """
    ran = set(summary.loc[summary[keys.METHOD] == MODEL, keys.SETTING])
    names = [name for name in settings_of(description) if name in ran]
    lines, means = _model(summary, sections, names)
    controls = summary[summary[keys.METHOD] != MODEL].dropna(subset=["mean_ari"])
    wrapped = [textwrap.wrap(name + _default_mark(description, name), _LONGEST_LINE) for name in names]
    ticks = [*("\n".join(parts) for parts in wrapped), *controls[keys.METHOD]]
    top = _text_width(lines.index)
    side = _CHARACTER_WIDTH * max(len(line) for tick in ticks for line in tick.split("\n"))
    width = max(_WIDTH, side + _FRAME_WIDTH + _LINE_HEIGHT * len(lines))
    rows = len(ticks) + bool(len(controls)) / 2
    figure = Figure(figsize=(width, top + _ROW_HEIGHT * rows + _FRAME_HEIGHT), layout="constrained")
    with rc_context(STYLE):
        axes = figure.add_subplot()
        y = np.arange(len(names), dtype=float)
        # Half a row lies between the model's variants and the controls.
        below = len(names) + 0.5 + np.arange(len(controls))
        axes.set_xlim(*limits)
        axes.set_ylim(rows - 0.5, -0.5 - top / _ROW_HEIGHT)
        axes.set_yticks([*y, *below], ticks, parse_math=False)
        axes.set_xlabel("ARI (mean over seeds)")
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.tick_params(axis="y", length=0)
        for tick in axes.get_yticklabels()[len(names) :]:
            tick.set_color(CONTROL)
        _draw_controls(axes, controls, sections, below)
        for values in lines.to_numpy(float):
            axes.plot(values, y, color=SECTION, linewidth=0.9, marker="o", markersize=2.5, zorder=2)
        axes.plot(means["mean_ari"], y, "|", color=INK, **_STROKE)
        _name_above(axes, lines, width - side - _FRAME_WIDTH)
    return figure


def _model(
    summary: pd.DataFrame, sections: pd.DataFrame, names: list[str]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """ARI of every section (a line a section, a column a setting) and the summary's row of every setting."""
    model = sections[sections[keys.METHOD] == MODEL]
    lines = model.pivot_table("mean_ari", keys.SAMPLE, keys.SETTING, aggfunc="first").reindex(columns=names)
    means = summary[summary[keys.METHOD] == MODEL].drop_duplicates(keys.SETTING).set_index(keys.SETTING)
    return lines.dropna(how="all"), means.reindex(names)


def _default_mark(description: dict[str, Any], name: str) -> str:
    """How an axis marks the default; that of a search says so by its name."""
    return " (default)" if name == description["default"] and description["kind"] == "grid" else ""


def _draw_controls(axes: Axes, controls: pd.DataFrame, sections: pd.DataFrame, below: np.ndarray) -> None:
    """Draw every control in its own row, a dashed line leading up to the model's variants."""
    for row, place in zip(controls.to_dict("records"), below.tolist(), strict=True):
        same = (sections[keys.METHOD] == row[keys.METHOD]) & (sections[keys.SETTING] == row[keys.SETTING])
        scores = sections.loc[same, "mean_ari"]
        axes.plot(scores, np.full(len(scores), place), ".", color=CONTROL, markersize=4, alpha=0.6)
        axes.plot(row["mean_ari"], place, "|", color=CONTROL, **_STROKE)
        axes.vlines(row["mean_ari"], -0.4, place, color=CONTROL, linewidth=0.8, linestyle=(0, (5, 3)))


def _name_above(axes: Axes, lines: pd.DataFrame, inches: float) -> None:
    """Name the sections' lines at their first points, upright above the axes' rows, apart from each other."""
    low, high = axes.get_xlim()
    values = lines.to_numpy(float)
    first = [int(np.flatnonzero(~np.isnan(row))[0]) for row in values]
    starts = np.array([row[i] for row, i in zip(values, first, strict=True)])
    places = spread(starts, _LINE_HEIGHT * (high - low) / inches, low, high)
    for name, start, row, place in zip(lines.index, starts, first, places, strict=True):
        axes.plot([start, place], [row, -0.9], color=INK, linewidth=0.5, alpha=0.6, zorder=1)
        axes.text(
            place,
            -0.9,
            f" {_shortened(name)} ",
            color=INK,
            rotation=90,
            ha="center",
            va="bottom",
            parse_math=False,  # a name is data, not mathematics
        )


def _draw_sections(axes: Axes, x: np.ndarray, lines: pd.DataFrame, means: np.ndarray, place: float) -> None:
    """Draw the lines and name each at its last point, which failed fits can bring forward."""
    every = [*lines.to_numpy(float), means]
    for values in every[:-1]:
        axes.plot(x, values, color=SECTION, linewidth=0.9, marker="o", markersize=2.5, zorder=2)
    axes.plot(x, means, color=INK, linewidth=2.8, marker="o", markersize=6, zorder=3)
    last = [np.flatnonzero(~np.isnan(values))[-1] for values in every]
    heights = np.array([values[i] for values, i in zip(every, last, strict=True)])
    _label(axes, place, x[last], heights, [*lines.index, "mean"], INK)


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
    with rc_context(STYLE):
        figure.savefig(buffer, format=kind, dpi=130, metadata={"Date": None} if kind == "svg" else None)
    return buffer.getvalue()
