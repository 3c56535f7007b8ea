"""What a study ends with: tables on the terminal and in files, the page, the W&B run."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from senca_ray import keys, lock
from senca_ray.errors import SencaError


def publish(out: Path, console: Console) -> None:
    """Statistics, terminal tables, HTML page and W&B run of the results in `out`.

    Of a study that has not finished, running or stopped, those of the trials that have ended; the page says
    so, and nothing goes to W&B. Raises SencaError where there is nothing to show yet, or no disk for it.
    """
    from senca_ray.analysis import tables
    from senca_ray.analysis.description import SIMULATED, read_description
    from senca_ray.analysis.progress import partial
    from senca_ray.analysis.results import read_results, tables_current, write_tables
    from senca_ray.analysis.sections import make_portraits
    from senca_ray.report.html import write_report

    description = read_description(out)
    results = read_results(out)
    rests_on, run = partial(out, description, results), lock.running(out)
    if rests_on is None and run is None and not tables_current(out):
        write_tables(out)  # its run was killed after the last trial
    if description["simulated"]:
        console.print(SIMULATED, style="bold")
    if rests_on:
        console.print(f"[bold]Partial[/]: {rests_on} have ended; everything below rests on these alone.")
    summary, shown = _summary(out, description, results, rests_on)
    tables.write_summary(out, summary)
    for table in shown:
        console.print(table)
        console.print()
    with console.status("drawing the sections") as status:
        make_portraits(out, lambda text: status.update(f"drawing the sections: {escape(text)}"))
    with console.status("drawing the report"):
        page = write_report(out)
    if rests_on and partial(out, description, read_results(out)) is None:
        console.print("The study has finished meanwhile: once more, from all its results.")
        publish(out, console)
        return
    with console.status("publishing to W&B") as status:
        outcome = _to_wandb(
            out, rests_on, run, lambda text: status.update(f"publishing to W&B: {escape(text)}")
        )
    rows = out / (keys.RESULTS_FILE if tables_current(out) else keys.JOURNAL_FILE)
    for name, where in (("results", rows), ("report", page), ("W&B", outcome)):
        console.print(f"{name:<8} {where}", markup=False, highlight=False, soft_wrap=True)


def _to_wandb(out: Path, rests_on: str | None, run: lock.Run | None, told: Callable[[str], None]) -> str:
    """What became of the study's W&B run."""
    from senca_ray.report.wandb_publisher import publish as publish_wandb

    if rests_on:
        return f"not published: partial results ({rests_on}); the finished study will be"
    if run and run.pid != os.getpid():
        return f"left to {run}, which is about to publish the study"
    return str(publish_wandb(out, told))


def _summary(
    out: Path, description: dict[str, Any], results: pd.DataFrame, rests_on: str | None
) -> tuple[pd.DataFrame, list[Table | str]]:
    """The summary, and the tables that the terminal shows."""
    from senca_ray.analysis import selection as chosen
    from senca_ray.analysis.benchmark import benchmark_summary
    from senca_ray.analysis.benchmark_tables import format_benchmark
    from senca_ray.analysis.objectives import format_agreement, objective_agreement
    from senca_ray.analysis.tables import format_summary, sweep_summary
    from senca_ray.methods.protocol import Protocol

    if description["kind"] == "benchmark":
        summary = benchmark_summary(results, description)
        return summary, list(format_benchmark(summary, results, description))
    seeds, protocol, default = description["seeds"], Protocol.read(description), description["default"]
    agreement = format_agreement(objective_agreement(results))
    if description["kind"] == "grid":
        _check_begun(out, results, default, rests_on)
        summary = sweep_summary(results, default, order=list(description["variants"]))
        shown = [*format_summary(summary, seeds, protocol), *agreement]
        return summary, [*shown, *_markers(out, description)]
    if rests_on and not (out / keys.SELECTION_FILE).exists():
        raise _too_early(out, "no suggestion has been told of", rests_on)
    selection = chosen.read_selection(out)
    compared = chosen.with_selection(results, selection)
    _check_begun(out, compared, default, rests_on)
    summary = sweep_summary(compared, default)
    more = [
        chosen.format_choices(chosen.choices(selection, results), selection),
        chosen.format_suggestions(chosen.suggestion_table(selection)),
    ]
    return summary, [*format_summary(summary, seeds, protocol), *more, *agreement]


def _check_begun(out: Path, results: pd.DataFrame, default: str, rests_on: str | None) -> None:
    """Raise SencaError while nothing has ended of what everything else is compared with."""
    from senca_ray.methods import MODEL

    mine = (results[keys.METHOD] == MODEL) & (results[keys.SETTING] == default)
    if rests_on and not mine.any():
        raise _too_early(out, f"no trial of the default setting, {default}, has ended", rests_on)


def _too_early(out: Path, lacking: str, rests_on: str) -> SencaError:
    return SencaError(
        f"{out}: too early for a page: {lacking} ({rests_on}); ask again in a while, or go on with "
        f"`senca resume {out}` where nothing runs"
    )


def _markers(out: Path, description: dict[str, Any]) -> Iterator[Table | str]:
    """The marker tables of a study that asks for them."""
    if description.get("markers") is None:
        return
    from senca_ray.analysis.study_markers import format_study_markers, study_markers, write_markers

    markers = study_markers(out, description)
    write_markers(out, markers)
    yield from format_study_markers(markers, description["markers"])
