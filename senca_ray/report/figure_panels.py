"""Sheets of panels as journals print them: exact width, texts that fit, one legend and small print below."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import text_to_path
from matplotlib.ticker import MaxNLocator

from senca_ray.report.figures import STYLE

WIDTHS = {"single": 85.0, "double": 174.0}
"""Millimetres of a figure over one column of a journal, and over both."""
TALLEST = 230.0
TITLE_SIZE, SMALL = 7.0, 6.0
"""Points; nothing is smaller."""
PRINT_DPI = 300

_INCH, _POINT = 25.4, 25.4 / 72
"""Millimetres."""
_WIDEST, _USUAL, _NARROWEST = 70.0, 38.0, 24.0
"""Millimetres of a panel: no wider, as wide where that fits on the page, no narrower."""
_PAD, _GAP, _NEAR = 1.0, 2.5, 0.8
"""Millimetres around a page, between panels, and between a panel and its words."""
_LEADING, _ASCENT = 1.25, 0.95
"""From one line to the next and from the top of a line to its letters' feet, in font sizes."""
_HINTING = 1.04
"""Letters on a grid of pixels may be this much wider than drawn."""
_BAR_TALL, _BAR_SHARE, _BAR_ALL = 1.6, 0.8, 6.0
"""A colour bar: its height in millimetres, its share of the panel's width, its height with its numbers."""
_TICKS = 4
_DOT, _DOT_STEP, _ENTRY_GAP = 5.0, 2.6, 4.0
"""A legend's dots in points; from one to the next and from one entry to the next in millimetres."""
_SHEET_STYLE: dict[Any, Any] = STYLE | {
    "font.size": TITLE_SIZE,
    "axes.linewidth": 0.5,
    "pdf.fonttype": 42,
    "savefig.facecolor": "white",
}


@dataclass(frozen=True)
class Panel:
    """One drawing with a title above and words below."""

    title: str
    draw: Callable[[Axes], ScalarMappable | None]
    """Fills the axes; what it returns gets a colour bar below."""
    aspect: float
    """Height of the drawing by its width."""
    below: str = ""
    italic: bool = False
    """Title in italics, as genes are written."""
    bar: bool = False
    """Whether `draw` returns something to draw a colour bar of."""


@dataclass(frozen=True)
class Entry:
    """One line of a legend: words after a dot of each colour."""

    text: str
    colours: tuple[str, ...]
    rim: str = "#666666"


@dataclass(frozen=True)
class Sheet:
    """A figure before it is cut into pages."""

    panels: tuple[Panel, ...]
    legend: tuple[Entry, ...]
    foot: str
    """Small print: what the figure rests on."""


def draw_sheet(sheet: Sheet, width: str) -> list[Figure]:
    """Draw the pages of a sheet at a width of WIDTHS, each at most TALLEST high and with the whole legend."""
    with rc_context(_SHEET_STYLE):
        across = WIDTHS[width]
        low = _Below(sheet, across)
        columns, rows = _arrange(sheet, across, TALLEST - low.height - 2 * _PAD)
        return [
            _page(sheet.panels[start : start + columns * rows], columns, across, low)
            for start in range(0, len(sheet.panels), columns * rows)
        ]


def save_figure(figure: Figure, path: Path) -> list[Path]:
    """Write PATH.pdf with text as text and its fonts embedded, and PATH.png at 300 dpi; the paths of both."""
    made = [path.with_name(f"{path.name}.{kind}") for kind in ("pdf", "png")]
    with rc_context(_SHEET_STYLE):
        for file in made:
            # The same figure always gives the same bytes.
            told = {"CreationDate": None} if file.suffix == ".pdf" else {"Software": None}
            figure.savefig(file, dpi=PRINT_DPI, metadata=told)
    return made


def page_names(name: str) -> Iterator[str]:
    """NAME, NAME-2, NAME-3, ..."""
    return (name if page == 1 else f"{name}-{page}" for page in count(1))


@lru_cache(maxsize=4096)
def text_width(text: str, size: float, italic: bool = False) -> float:
    """Millimetres that a line of text takes at most."""
    points = text_to_path.get_text_width_height_descent(text, _font(size, italic), False)[0]
    return float(points) * _POINT * _HINTING


def wrapped(text: str, size: float, across: float, italic: bool = False) -> list[str]:
    """Lines of text at most `across` millimetres wide; a word that is longer is broken."""
    lines = [""]
    for word in text.split(" "):  # not at spaces that do not break
        longer = f"{lines[-1]} {word}".strip()
        if text_width(longer, size, italic) <= across:
            lines[-1] = longer
            continue
        if lines[-1]:
            lines.append("")
        for letter in word:
            if lines[-1] and text_width(lines[-1] + letter, size, italic) > across:
                lines.append("")
            lines[-1] += letter
    return lines


@cache
def _font(size: float, italic: bool) -> FontProperties:
    return FontProperties(family=STYLE["font.family"], size=size, style="italic" if italic else "normal")


def _lines(n: int, size: float) -> float:
    return n * size * _LEADING * _POINT


class _Below:
    """Legend and small print, laid out in millimetres from the left and from their upper edge."""

    def __init__(self, sheet: Sheet, across: float) -> None:
        room, line = across - 2 * _PAD, _lines(1, TITLE_SIZE)
        self.entries: list[tuple[float, float, Entry]] = []
        x, y = 0.0, 0.0
        for entry in sheet.legend:
            dots = _DOT_STEP * len(entry.colours)
            text = wrapped(entry.text, TITLE_SIZE, room - dots)
            wide = dots + max(text_width(part, TITLE_SIZE) for part in text)
            if x and x + wide > room:
                x, y = 0.0, y + line
            self.entries.append((x, y, entry))
            x, y = x + wide + _ENTRY_GAP, y + line * (len(text) - 1)
        self.room = room
        self.top = y + line + _NEAR if sheet.legend else 0.0
        self.foot = wrapped(sheet.foot, SMALL, room)
        self.height = self.top + _lines(len(self.foot), SMALL)

    def draw(self, ink: Axes, top: float) -> None:
        for x, y, entry in self.entries:
            middle = top + y + _lines(1, TITLE_SIZE) / 2
            for i, colour in enumerate(entry.colours):
                ink.plot(
                    *([_PAD + x + _DOT_STEP * (i + 0.4)], [middle]),
                    marker="o",
                    markersize=_DOT,
                    markerfacecolor=colour,
                    markeredgecolor=entry.rim,
                    markeredgewidth=0.4,
                )
            dots = _DOT_STEP * len(entry.colours)
            text = wrapped(entry.text, TITLE_SIZE, self.room - dots)
            _write(ink, _PAD + x + dots, top + y, text, TITLE_SIZE)
        _write(ink, _PAD, top + self.top, self.foot, SMALL, color="#333333")


def _write(ink: Axes, x: float, y: float, lines: Sequence[str], size: float, **look: Any) -> None:
    """Write lines downwards from y millimetres."""
    for i, line in enumerate(lines):
        foot = y + _lines(i, size) + _ASCENT * size * _POINT
        # A name is data, not mathematics.
        ink.text(x, foot, line, size=size, va="baseline", parse_math=False, **look)


def _arrange(sheet: Sheet, across: float, room: float) -> tuple[int, int]:
    """Columns and rows of a page: panels of usual size, smaller to fit on one, else several pages."""
    n, width = len(sheet.panels), across - 2 * _PAD
    usual, most = int(width / _USUAL), int(width / _NARROWEST)
    for columns in range(min(usual, n), most + 1):
        needed = math.ceil(n / columns)
        # Rows of equal length where the larger panels fit, too.
        for chosen in (math.ceil(n / needed), columns):
            if needed <= _rows(sheet, chosen, across, room):
                return chosen, needed
    return most, max(_rows(sheet, most, across, room), 1)


def _rows(sheet: Sheet, columns: int, across: float, room: float) -> int:
    """Rows of panels that fit into so many millimetres."""
    cell = _cell(columns, across)
    return int(room / (cell * _aspect(sheet.panels) + sum(_words(sheet.panels, cell)) + _GAP))


def _aspect(panels: Sequence[Panel]) -> float:
    return max(panel.aspect for panel in panels)


def _cell(columns: int, across: float) -> float:
    """Width of a panel, in millimetres."""
    return min((across - 2 * _PAD - (columns - 1) * _GAP) / columns, _WIDEST)


def _title(panel: Panel, cell: float) -> list[str]:
    return wrapped(panel.title, TITLE_SIZE, cell, panel.italic)


def _words(panels: Sequence[Panel], cell: float) -> tuple[float, float]:
    """Millimetres for what stands above and below the panels of a row."""
    above = max(len(_title(panel, cell)) for panel in panels)
    below = max(len(wrapped(panel.below, SMALL, cell)) if panel.below else 0 for panel in panels)
    bar = _BAR_ALL if any(panel.bar for panel in panels) else 0
    return _lines(above, TITLE_SIZE) + _NEAR, _NEAR + bar + _lines(below, SMALL)


def _page(panels: Sequence[Panel], columns: int, across: float, low: _Below) -> Figure:
    """One page; every position in millimetres from its upper left corner, so that panels are of one size."""
    cell = _cell(columns, across)
    rows = [panels[i : i + columns] for i in range(0, len(panels), columns)]
    words = [_words(row, cell) for row in rows]
    highs = [cell * _aspect(row) for row in rows]
    height = sum(highs) + len(rows) * _GAP + sum(map(sum, words)) + low.height + 2 * _PAD
    figure = Figure(figsize=(across / _INCH, height / _INCH))
    FigureCanvasAgg(figure)

    def place(x: float, y: float, wide: float, tall: float) -> Axes:
        return figure.add_axes((x / across, 1 - (y + tall) / height, wide / across, tall / height))

    # All words but those that a drawing has inside.
    ink = place(0, 0, across, height)
    ink.set(xlim=(0, across), ylim=(height, 0))
    ink.set_axis_off()
    # Few panels stand in the middle rather than fill the width.
    longest = min(columns, len(panels))
    left, y = (across - longest * cell - (longest - 1) * _GAP) / 2, _PAD
    for row, high, (above, below) in zip(rows, highs, words, strict=True):
        for i, panel in enumerate(row):
            x, middle = left + i * (cell + _GAP), left + i * (cell + _GAP) + cell / 2
            title, tall = _title(panel, cell), cell * panel.aspect
            top, under = y + above, y + above + high + _NEAR
            style = "italic" if panel.italic else "normal"
            start = top - _NEAR - _lines(len(title), TITLE_SIZE)
            _write(ink, middle, start, title, TITLE_SIZE, ha="center", style=style)
            shown = panel.draw(place(x, top, cell, tall))
            if shown is not None:
                wide = cell * _BAR_SHARE
                _draw_bar(shown, place(middle - wide / 2, under, wide, _BAR_TALL))
                under += _BAR_ALL
            lines = wrapped(panel.below, SMALL, cell) if panel.below else []
            _write(ink, middle, under, lines, SMALL, ha="center")
        y += above + high + below + _GAP
    low.draw(ink, y)
    return figure


def _draw_bar(shown: ScalarMappable, axes: Axes) -> None:
    low, high = shown.get_clim()
    values = np.asarray(shown.get_array(), dtype=float)
    beyond = {(True, True): "both", (True, False): "min", (False, True): "max", (False, False): "neither"}
    extend = beyond[bool((values < low).any()), bool((values > high).any())]
    ticks = [
        tick
        for tick in MaxNLocator(_TICKS, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high)
        if low <= tick <= high
    ]
    bar = axes.figure.colorbar(shown, cax=axes, orientation="horizontal", extend=extend, ticks=ticks)
    axes.tick_params(length=1.5, width=0.4, pad=1, labelsize=SMALL)
    bar.outline.set_linewidth(0.4)
