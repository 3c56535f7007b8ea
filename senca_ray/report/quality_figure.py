"""The figure of a cohort's quality: a panel a measure, every section a dot, limits as lines.

Up to 40 sections have a row each, the same in all panels, with their names. More are sorted within each
panel, and those farthest beyond the limit are named there.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

from senca_ray import keys
from senca_ray.analysis.quality import MEASURES, SIGNATURE, Measure, measures_beyond
from senca_ray.analysis.terminal import count
from senca_ray.config import QualityLimits
from senca_ray.errors import SencaError
from senca_ray.report.figure_panels import save_figure
from senca_ray.report.figures import CONTROL, INK, SECTION, STYLE

NAME = "quality"
MOST_NAMED = 40
"""Sections with a row and a name of their own."""
_WORST = 4
"""Sections beyond the limit that a panel of many names."""
_LOG = frozenset({"spots", "counts", "genes", "sharpness"})
"""Measures that differ by factors."""
_BEYOND = "#F7E3D8"
"""Ground of what lies beyond a limit: CONTROL, very pale."""
_PANEL, _ROW, _FRAME, _MANY, _CHARACTER = 1.5, 0.19, 1.75, 5.0, 0.075
"""Inches: width of a panel, height of a row, of titles and axes, of panels of many sections, of a letter."""
_LONGEST_NAME = 20
_TITLES = {
    "counts": "median counts\na spot",
    "genes": "median genes\na spot",
    "mito_share": "mitochondrial\nshare",
    "sharpness": "image\nsharpness",
    "off_tissue": "spots\noff tissue",
    "shift": "shift of spots\nin spot distances",
    "turned_gain": "gain in fit if\nframe is turned",
    "shared_spots": "spots shared\nwith another",
}


def quality_figure(table: pd.DataFrame, limits: QualityLimits) -> Figure:
    """Draw the table of `analysis.quality.quality_table`; at least one section."""
    named = len(table) <= MOST_NAMED
    names = [_shortened(name) for name in table[keys.SAMPLE]]
    side = 0.25 + (_CHARACTER * max(map(len, names)) if named else 0.35)
    height = _FRAME + (_ROW * max(len(table), 3) if named else _MANY)
    width = side + _PANEL * len(MEASURES)
    figure = Figure(figsize=(width, height))
    with rc_context(STYLE):
        panels = figure.subplots(1, len(MEASURES), sharey=named, squeeze=False)[0]
        figure.subplots_adjust(
            left=side / width, right=1 - 0.1 / width, bottom=0.85 / height, top=1 - 0.6 / height, wspace=0.16
        )
        for axes, measure in zip(panels, MEASURES, strict=True):
            _draw(axes, table, measure, getattr(limits, measure.limit), names if named else [])
        first: Axes = panels[0]
        if named:
            first.set_yticks(range(len(names)), names, parse_math=False)
            first.set_ylim(max(len(names), 3) - 0.5, -0.5)
        else:
            first.set_ylabel(f"{len(table):,} sections, sorted in each panel")
        figure.text(0.1 / width, 0.1 / height, _foot(table), fontsize=8, va="bottom", color=INK)
    return figure


def _draw(axes: Axes, table: pd.DataFrame, measure: Measure, limit: float, names: Sequence[str]) -> None:
    """Draw one panel; `names` is empty where sections are sorted."""
    axes.set_title(_TITLES.get(measure.column, f"{measure.title}\n"), fontsize=8)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0, labelleft=bool(names) and measure is MEASURES[0])
    values = table[measure.column].to_numpy(float)
    known = np.flatnonzero(~np.isnan(values))
    if not len(known):
        axes.set_xticks([])
        axes.spines["bottom"].set_visible(False)
        axes.text(0.5, 0.5, "not measured,\nor cannot be\ntold here", transform=axes.transAxes, fontsize=8,
                  ha="center", va="center", color=SECTION)  # fmt: skip
        return
    order = known if names else known[np.argsort(values[known], kind="stable")]
    y = order if names else np.arange(len(order))
    found = values[order]
    beyond = measure.beyond(found, limit)
    _scale(axes, measure, found, limit)
    low, high = axes.get_xlim()
    axes.axvspan(*((low, limit) if measure.least else (limit, high)), color=_BEYOND, linewidth=0, zorder=0)
    axes.axvline(limit, color=CONTROL, linewidth=1, linestyle=(0, (5, 3)), zorder=1)
    if f"{measure.column}_low" in table and names:
        ends = (table[f"{measure.column}_{end}"].to_numpy(float)[order] for end in ("low", "high"))
        axes.hlines(y, *(np.clip(end, low, high) for end in ends), color=SECTION, linewidth=1.2, zorder=2)
    size = 5.0 if names else 2.5
    style: dict[str, Any] = {"linestyle": "none", "markeredgewidth": 0, "zorder": 3, "clip_on": False}
    axes.plot(found[~beyond], y[~beyond], marker="o", markersize=size, color=INK, **style)
    axes.plot(found[beyond], y[beyond], marker="D", markersize=size, color=CONTROL, **style)
    if names:
        for row in np.flatnonzero(np.isnan(values)).tolist():
            axes.text(0.5, row, "–", transform=axes.get_yaxis_transform(), ha="center", va="center",
                      color=SECTION)  # fmt: skip
        axes.grid(axis="y", color="#E6E9EC", linewidth=0.6)
        axes.set_axisbelow(True)
    else:
        axes.set_yticks([])
        _name_worst(axes, table, order, beyond, measure)
    said = f"{beyond.sum():,} beyond" if beyond.any() else "limit"
    axes.set_xlabel(f"{said} {measure.shown(limit)}", fontsize=8, color=CONTROL if beyond.any() else SECTION)


def _scale(axes: Axes, measure: Measure, found: np.ndarray, limit: float) -> None:
    """Range of a panel: all values, and the limit."""
    ends = np.array([found.min(), found.max(), limit])
    if measure.column in _LOG and limit > 0:
        # What is nothing, or next to it, lies at the left edge.
        low, high = max(ends.min(), limit / 100), ends.max()
        axes.set_xscale("log")
        axes.set_xlim(low / 1.6, max(high, low * 10) * 1.6)
        # Only what lies inside: texts of ticks outside would count for the figure's size.
        ticks = LogLocator(numticks=4).tick_values(*axes.get_xlim())
        axes.xaxis.set_minor_formatter(NullFormatter())
        _set_ticks(axes, ticks)
        return
    low, high = min(ends.min(), 0.0), max(ends.max(), _reach(limit))
    margin = 0.06 * (high - low)
    axes.set_xlim(low - margin, high + margin)
    _set_ticks(axes, MaxNLocator(3).tick_values(*axes.get_xlim()))


def _reach(limit: float) -> float:
    """How far a linear panel reaches at least: a limit never lies at its edge."""
    return 1.5 * limit if limit > 0 else 1.0


def _set_ticks(axes: Axes, ticks: Sequence[float]) -> None:
    low, high = axes.get_xlim()
    inside = [float(tick) for tick in ticks if low <= tick <= high]
    axes.set_xticks(inside, [_short(round(tick, 9)) for tick in inside])


def _short(value: float) -> str:
    return f"{value / 1000:g}k" if value >= 1000 else f"{value:g}"


def _name_worst(
    axes: Axes, table: pd.DataFrame, order: np.ndarray, beyond: np.ndarray, measure: Measure
) -> None:
    """Name the sections farthest beyond the limit, one below the other at the panel's free side."""
    worst = np.flatnonzero(beyond)[:_WORST] if measure.least else np.flatnonzero(beyond)[::-1][:_WORST]
    if len(worst):
        lines = [_shortened(table[keys.SAMPLE].iloc[order[i]]) for i in worst]
        # Sorted upwards, values leave the upper left and the lower right empty.
        at, across, down = (
            ((0.03, 0.98), "left", "top") if measure.least else ((0.97, 0.02), "right", "bottom")
        )
        box = {"facecolor": "white", "alpha": 0.85, "edgecolor": "none", "pad": 1.5}
        axes.text(*at, "\n".join(lines), transform=axes.transAxes, fontsize=7, ha=across, va=down,
                  color=CONTROL, bbox=box, parse_math=False)  # fmt: skip


def _foot(table: pd.DataFrame) -> str:
    parts = ["SIMULATED sections: nothing about tissue."] if table["simulated"].any() else []
    missing = int((~table["measured"]).sum())
    if missing:
        parts.append(f"Prepared before quality was measured: {count(missing, 'section')}.")
    dash = " –: not measured, or cannot be told." if len(table) <= MOST_NAMED else ""
    bars = " Bars: quartiles." if len(table) <= MOST_NAMED else ""
    return " ".join([*parts, f"Dashed: limit; diamond: beyond it.{bars}{dash}"])


def _shortened(name: str) -> str:
    return name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 1]}…"


def write_quality(table: pd.DataFrame, limits: QualityLimits, folder: Path) -> list[Path]:
    """Write quality.pdf, quality.png and quality.csv into `folder`, all or none; returns their paths.

    The CSV's column `beyond` names the measures beyond their limits. Raises SencaError where the files cannot
    be written.
    """
    written = table.drop(columns=SIGNATURE).assign(beyond=measures_beyond(table, limits))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".quality-", dir=folder) as staging:
            files = save_figure(quality_figure(table, limits), Path(staging) / NAME)
            files.append(Path(staging) / f"{NAME}.csv")
            written.to_csv(files[-1], index=False, float_format="%.6g")
            return [file.replace(folder / file.name) for file in files]
    except OSError as error:
        raise SencaError(
            f"{folder}: cannot be written ({error}); free space there or choose another --out"
        ) from None
