"""`senca bench`: measure this machine, or compare two measurements."""

from __future__ import annotations

import functools
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from senca_ray.errors import SencaError

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, TaskID

    from senca_ray.bench.figure import Figure


def bench(
    only: Annotated[
        list[str] | None,
        typer.Option(
            help="Only these figures; may be repeated: startup, prepare, fit, aggregator, racing, cohort, "
            "images, overhead; and, left out otherwise, scale (15 minutes) and gpu (needs one).",
            metavar="NAME",
        ),
    ] = None,
    repeat: Annotated[
        int, typer.Option(min=1, help="Runs of each figure; the median counts.", metavar="N")
    ] = 3,
    long: Annotated[
        bool, typer.Option("--long", help="Also trials of 20 s (overhead) and 500,000 spots (scale).")
    ] = False,
    out: Annotated[
        Path | None, typer.Option(help="File for the results. Left out: printed only.", metavar="FILE.json")
    ] = None,
    compare: Annotated[
        tuple[Path, Path] | None,
        typer.Option(help="Print how B differs from A and measure nothing.", metavar="A.json B.json"),
    ] = None,
) -> None:
    """Measure this machine, or compare two measurements.

    Measures start-up, prepare, fits, the results store, racing, the study engine's overhead and large
    sections; the last two take longest. docs/benchmarks.md says what each figure is.

    \b
    Example:
      senca bench --only startup --only racing
    """
    from rich.console import Console

    console = Console()
    if compare is not None:
        if only or long or out:
            raise SencaError("--compare measures nothing; leave --only, --long and --out out")
        _compare(*compare, console)
        return
    from senca_ray.bench.suite import chosen

    names = chosen(only or ())
    if out is not None:
        _check_new(out)
    _measure(names, repeat, long, out, console)


def _check_new(out: Path) -> None:
    """Refuse a file that cannot become the result before minutes are spent on it."""
    if out.exists():
        raise SencaError(f"{out}: exists already; name a new file, or remove this one")
    if not out.parent.is_dir() or not os.access(out.parent, os.W_OK):
        raise SencaError(f"{out}: {out.parent} is no folder that can be written to; choose another --out")


def _measure(names: tuple[str, ...], repeat: int, long: bool, out: Path | None, console: Console) -> None:
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    from senca_ray.bench.record import new_record, write_record
    from senca_ray.bench.suite import measure
    from senca_ray.bench.tables import figures_table

    figures: list[Figure] = []
    missing: dict[str, str] = {}
    columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), TimeElapsedColumn())
    with Progress(*columns, console=console) as bar:
        for name in names:
            task = bar.add_task(name, total=1)
            try:
                figures += measure(name, repeat, functools.partial(_say, bar, task, name), long=long)
            except SencaError as error:
                missing[name] = str(error)
            bar.update(task, completed=1, description=name)
            if out is not None:
                # After each: hours of measuring are not lost with the last figure.
                write_record(out, new_record(figures, missing))
    console.print(figures_table(new_record(figures, missing)))
    if out is not None:
        console.print(f"results  {out}", markup=False, highlight=False, soft_wrap=True)
    if missing:
        reasons = "\n".join(f"{name}: {reason}" for name, reason in missing.items())
        raise SencaError(f"{len(missing)} of {len(names)} could not be measured\n{reasons}")


def _say(bar: Progress, task: TaskID, name: str, text: str) -> None:
    bar.update(task, description=f"{name}: {text}")


def _compare(first: Path, second: Path, console: Console) -> None:
    from senca_ray.bench.record import compare, differences, read_record
    from senca_ray.bench.tables import changes_table

    a, b = read_record(first), read_record(second)
    for letter, path, record in (("A", first, a), ("B", second, b)):
        console.print(f"{letter}  {path}, {record.date}", markup=False, highlight=False, soft_wrap=True)
    for difference in differences(a, b):
        console.print(f"not the same machine or packages: {difference}", markup=False, highlight=False)
    console.print(changes_table(compare(a, b)))
