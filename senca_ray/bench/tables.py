"""The tables that `senca bench` prints."""

from __future__ import annotations

from rich import box
from rich.table import Table

from senca_ray.bench.figure import Figure
from senca_ray.bench.record import Change, Record


def figures_table(record: Record) -> Table:
    """Median, spread, bound and verdict of every figure."""
    table = _table("figure", "median", "lowest", "highest", "bound", "")
    previous = None
    for figure in record.figures:
        group = figure.name.split(".")[0]
        if previous not in (None, group):
            table.add_section()
        previous = group
        spread = (min(figure.runs), max(figure.runs))
        values = [_with_unit(figure.median, figure.unit), *map(_number, spread)]
        table.add_row(figure.title, *values, _bound(figure), _VERDICTS[figure.met])
    machine = record.machine
    table.caption = (
        f"{machine['cpus']} CPUs, {machine['memory_gb']} GB, Python {machine['python']}; "
        f"runs a figure: {_runs(record)}"
    )
    return table


def changes_table(changes: list[Change]) -> Table:
    """Medians of two records and their ratio."""
    table = _table("figure", "A", "B", "B / A", "B is")
    for change in changes:
        medians = ("" if v is None else _with_unit(v, change.unit) for v in (change.first, change.second))
        ratio = "" if change.ratio is None else f"{change.ratio:.2f}"
        table.add_row(change.title, *medians, ratio, change.verdict)
    return table


_BARE = ("ratio", "share")
"""Units that go without saying."""
_VERDICTS = {True: "met", False: "MISSED", None: ""}


def _table(first: str, *others: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False, caption_justify="left")
    table.add_column(first, overflow="fold")
    for name in others:
        table.add_column(name, justify="right" if name else "left", no_wrap=True)
    return table


def _bound(figure: Figure) -> str:
    if figure.bound is None:
        return ""
    return f"{'<=' if figure.better == 'lower' else '>='} {_number(figure.bound)}"


def _with_unit(value: float, unit: str) -> str:
    return _number(value) if unit in _BARE else f"{_number(value)} {unit}"


def _number(value: float) -> str:
    """Three digits, and no decimals where there are as many before the point."""
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _runs(record: Record) -> str:
    counts = sorted({len(figure.runs) for figure in record.figures})
    return " to ".join(map(str, counts[:: max(1, len(counts) - 1)])) or "none"
