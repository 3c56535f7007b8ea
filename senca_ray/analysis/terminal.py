"""What the tables for a terminal of 80 columns have in common."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence

import pandas as pd
from rich import box
from rich.table import Table
from rich.text import Text

from senca_ray import keys


def plain_table(title: str, names: Sequence[str], numbers: Sequence[str], notes: Iterable[str] = ()) -> Table:
    """A table without frame: columns of text that may fold, then columns of numbers; notes below it."""
    table = Table(
        title=Text(title),
        caption=Text("\n".join(notes)),  # a reason may hold what rich would take for its own signs
        box=box.SIMPLE_HEAD,
        padding=0,
        show_edge=False,
        title_justify="left",
        caption_justify="left",
    )
    for name in names:
        table.add_column(name, overflow="fold")
    for name in numbers:
        table.add_column(name, justify="right", no_wrap=True)
    return table


def number(value: float, sign: str = "") -> str:
    """Three decimals; nothing for what is not known. `sign` '+' shows the sign of positive numbers too."""
    return "" if pd.isna(value) else f"{value:{sign}.3f}"


def p_value(value: float) -> str:
    """A p-value; nothing for a test that was not run."""
    return "<0.001" if value < 0.001 else number(value)


def count(how_many: int, noun: str) -> str:
    """'1 section', '2 sections'."""
    return f"{how_many} {noun}{'s' if how_many != 1 else ''}"


def natural(text: str) -> tuple[tuple[int, float, str], ...]:
    """Sort key that puts neighbors=4 before neighbors=16."""
    parts = re.split(r"(\d+(?:\.\d+)?)", text)
    return tuple((0, float(p), "") if i % 2 else (1, math.inf, p) for i, p in enumerate(parts))


def row_name(method: str, setting: str, clustering: str) -> str:
    """Method and setting, or, for a control with none, its clustering: 'smoothed-pca (kmeans)'."""
    return f"{method} ({clustering})" if setting == keys.FIXED else f"{method} {setting}"


def remark_lines(remarks: Iterable[tuple[str, str]]) -> list[str]:
    """Each remark once, with the names of the rows it is about unless it is about all of them.

    `remarks` are name and remark of every row, '' for none.
    """
    about: dict[str, list[str]] = {}
    for name, text in remarks:
        about.setdefault(text, []).append(name)
    everything = sum(map(len, about.values()))
    return [
        text if len(names) == everything else f"{', '.join(names)}: {text}"
        for text, names in about.items()
        if text
    ]
