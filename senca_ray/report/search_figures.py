"""The figures of a search: its history, its parameters, and the Pareto front of two objectives."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullLocator

from senca_ray.report.figures import CONTROL, INK, SECTION, STYLE
from senca_ray.report.search import (
    COMPLETE,
    FAILED,
    RACED,
    lower_is_better,
    score_name,
    suggestions,
)
from senca_ray.report.view import StudyView

_WIDTH, _PANEL_HEIGHT, _SMALL_HEIGHT = 7.2, 3.2, 1.9
"""Inches."""
_COLUMNS, _LONGEST_LINE = 3, 22
"""Small panels a line of the figure of parameters, characters a line of the name beside them."""
_JITTER, _MARGIN = 0.18, 0.06
"""Shares of the distance between two choices and of an axis."""


@dataclass(frozen=True)
class SearchFigure:
    """One figure with what has to be said of it."""

    name: str
    """How a W&B run names it."""
    caption: str
    figure: Figure


def search_figures(view: StudyView) -> Iterator[SearchFigure]:
    """The figures for which the search has a tuning score."""
    objectives = view.description["objectives"]
    tried = suggestions(view, [view.main_fold])
    if tried[objectives].isna().all(axis=None):
        return
    yield SearchFigure(
        "history",
        "Tuning score of every suggestion, in the order of suggestions. Dots: scored on all tuning patients. "
        "Crosses: raced out, scored on fewer of them. Strokes at the foot: failed. Line: the best so far"
        + (", thin for the folds that leave a patient out." if len(view.folds) > 1 else "."),
        history_figure(view),
    )
    for objective in objectives:
        yield SearchFigure(
            f"parameters-{objective}",
            f"Tuning score ({score_name(view.description, objective)}) against the value of each searched "
            "field; dots, crosses and the ringed default as above. The other fields vary too: a cloud "
            "without a slope says that the field matters less than they do.",
            parameter_figure(view, tried, objective),
        )
    if len(objectives) == 2:
        yield SearchFigure(
            "front",
            "Both tuning scores of every suggestion scored on all tuning patients. Joined: the Pareto front, "
            "suggestions that no other one beats in both; the numbers are those of the suggestions.",
            front_figure(view, tried),
        )


def history_figure(view: StudyView) -> Figure:
    """Draw the tuning score against the suggestion's number, a panel an objective."""
    objectives = view.description["objectives"]
    main = view.main_fold
    figure = Figure(figsize=(_WIDTH, _PANEL_HEIGHT * len(objectives)), layout="constrained")
    with rc_context(STYLE):
        panels = figure.subplots(len(objectives), squeeze=False)[:, 0]
        for axes, objective in zip(panels, objectives, strict=True):
            lower = lower_is_better(view.description, objective)
            for fold in view.folds:
                shown = suggestions(view, [fold])
                thin = fold is not main
                axes.step(
                    shown["number"],
                    best_so_far(shown[objective].where(shown["state"] == COMPLETE), lower),
                    where="post",
                    color=SECTION if thin else INK,
                    linewidth=0.8 if thin else 2,
                    zorder=1,
                )
            _draw_suggestions(axes, suggestions(view, [main]), "number", objective)
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
            axes.set_ylabel(_upper(score_name(view.description, objective)))
            axes.spines[["top", "right"]].set_visible(False)
        panels[-1].set_xlabel("suggestion")
        _legend(figure, panels[0])
    return figure


def parameter_figure(view: StudyView, tried: pd.DataFrame, objective: str) -> Figure:
    """Draw the tuning score against the value of each searched field, a small panel a field."""
    space = view.description["space"]
    lines = math.ceil(len(space) / _COLUMNS)
    figure = Figure(figsize=(_WIDTH, _SMALL_HEIGHT * lines + 0.3), layout="constrained")
    with rc_context(STYLE):
        panels = figure.subplots(lines, _COLUMNS, sharey=True, squeeze=False)
        for axes, (field, given) in zip(panels.flat, space.items(), strict=False):
            places = tried.assign(place=_places(axes, tried[field], given))
            _draw_suggestions(axes, places, "place", objective)
            axes.set_xlabel(field, parse_math=False)
            axes.spines[["top", "right"]].set_visible(False)
        for axes in panels.flat[len(space) :]:
            axes.set_visible(False)
        words = textwrap.fill(_upper(score_name(view.description, objective)), _LONGEST_LINE)
        figure.supylabel(words, fontsize=STYLE["font.size"])
    return figure


def front_figure(view: StudyView, tried: pd.DataFrame) -> Figure:
    """Draw one objective against the other, with the suggestions of the Pareto front joined."""
    first, second = view.description["objectives"]
    complete = tried[tried["state"] == COMPLETE]
    front = complete[complete["label"].isin(view.main_fold["front"])].sort_values(first)
    figure = Figure(figsize=(_WIDTH, 1.3 * _PANEL_HEIGHT), layout="constrained")
    with rc_context(STYLE):
        axes = figure.add_subplot()
        axes.plot(complete[first], complete[second], "o", color=SECTION, markersize=4, fillstyle="none")
        axes.plot(front[first], front[second], "-D", color=INK, markersize=6, linewidth=1.2, zorder=3)
        left, below = (lower_is_better(view.description, name) for name in (first, second))
        for row in front.to_dict("records"):
            axes.annotate(
                str(row["number"]),
                (row[first], row[second]),
                # On the better side of the front there is nothing else.
                (-5 if left else 5, -5 if below else 5),
                textcoords="offset points",
                ha="right" if left else "left",
                va="top" if below else "bottom",
                color=INK,
            )
        _ring(axes, complete, first, second)
        axes.margins(0.08)
        for set_label, name in ((axes.set_xlabel, first), (axes.set_ylabel, second)):
            better = "lower" if lower_is_better(view.description, name) else "higher"
            set_label(f"{_upper(score_name(view.description, name))} ({better} is better)")
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def best_so_far(scores: pd.Series, lower: bool) -> np.ndarray:
    """The best of the scores up to each, (n,), passing over NaN; NaN before the first score."""
    return np.asarray((scores.cummin() if lower else scores.cummax()).ffill())


def _draw_suggestions(axes: Axes, shown: pd.DataFrame, x: str, objective: str) -> None:
    """One mark a suggestion; what became of it is told by shape, not by colour alone."""
    complete, raced, failed = (shown[shown["state"] == state] for state in (COMPLETE, RACED, FAILED))
    axes.plot(complete[x], complete[objective], "o", color=INK, markersize=4, label="all patients", zorder=3)
    axes.plot(raced[x], raced[objective], "x", color=CONTROL, markersize=4.5, label="raced out", zorder=2)
    if len(failed):
        foot, height = axes.get_xaxis_transform(), np.full(len(failed), 0.02)
        axes.plot(failed[x], height, "|", color="black", markersize=9, transform=foot, label="failed")
    _ring(axes, shown, x, objective)


def _ring(axes: Axes, shown: pd.DataFrame, x: str, y: str) -> None:
    """Mark suggestion 0, the study's own setting."""
    default = shown[shown["number"] == 0]
    axes.plot(default[x], default[y], "o", markersize=10, fillstyle="none", color="black", label="default")


def _legend(figure: Figure, axes: Axes) -> None:
    figure.legend(*axes.get_legend_handles_labels(), loc="outside upper center", ncols=4, frameon=False)


def _places(axes: Axes, values: pd.Series, given: dict[str, Any] | list[Any]) -> np.ndarray:
    """Positions (n,) of values on the axis of a searched field, which is prepared for them."""
    if isinstance(given, list):
        # The default need not be among the choices.
        choices = [*given, *(v for v in dict.fromkeys(values.tolist()) if v not in given)]
        axes.set_xticks(range(len(choices)), [str(choice) for choice in choices], parse_math=False)
        axes.set_xlim(-0.5, len(choices) - 0.5)
        # Equal choices would hide each other; the golden ratio spreads them evenly without chance.
        apart = np.modf(np.arange(len(values)) * 0.618)[0] * 2 - 1
        return np.array([choices.index(v) for v in values.tolist()]) + _JITTER * apart
    # The default need not lie in the range.
    low, high = min(given["low"], values.min()), max(given["high"], values.max())
    if given.get("log"):
        middle = float(f"{math.sqrt(given['low'] * given['high']):.1g}")
        axes.set_xscale("log")
        axes.set_xlim(low * (low / high) ** _MARGIN, high * (high / low) ** _MARGIN)
        ticks = (given["low"], middle, given["high"])
        axes.set_xticks(ticks, [f"{tick:.2g}" if tick < 100 else f"{tick:.0f}" for tick in ticks])
        axes.xaxis.set_minor_locator(NullLocator())
    else:
        axes.set_xlim(low - _MARGIN * (high - low), high + _MARGIN * (high - low))
        axes.xaxis.set_major_locator(MaxNLocator(4))
    return values.to_numpy(float)


def _upper(text: str) -> str:
    return text[0].upper() + text[1:]
