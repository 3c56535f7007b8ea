"""What a study ends with: tables on the terminal and in files, the page, the W&B run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console
from rich.table import Table

from senca_ray import keys


def publish(out: Path, console: Console) -> None:
    """Statistics, terminal tables, HTML page and W&B run of the results in `out`."""
    from senca_ray.analysis import tables
    from senca_ray.analysis.description import read_description
    from senca_ray.analysis.results import read_results
    from senca_ray.report.html import write_report
    from senca_ray.report.wandb_publisher import publish as publish_wandb

    description = read_description(out)
    results = read_results(out)
    if description["simulated"]:
        console.print("[bold]Simulated cohort[/]: shows the mechanics; its scores say nothing about tissue.")
    summary, shown = _summary(out, description, results)
    tables.write_summary(out, summary)
    for table in shown:
        console.print(table)
        console.print()
    with console.status("drawing the report"):
        page = write_report(out)
    with console.status("publishing to W&B"):
        outcome = publish_wandb(out)
    for name, where in (("results", out / keys.RESULTS_FILE), ("report", page), ("W&B", outcome)):
        console.print(f"{name:<8} {where}", markup=False, highlight=False, soft_wrap=True)


def _summary(
    out: Path, description: dict[str, Any], results: pd.DataFrame
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
    seeds, protocol = description["seeds"], Protocol.read(description)
    agreement = format_agreement(objective_agreement(results))
    if description["kind"] == "grid":
        summary = sweep_summary(results, description["default"], order=list(description["variants"]))
        shown = [*format_summary(summary, seeds, protocol), *agreement]
        return summary, [*shown, *_markers(out, description)]
    selection = chosen.read_selection(out)
    summary = sweep_summary(chosen.with_selection(results, selection), description["default"])
    more = [
        chosen.format_choices(chosen.choices(selection, results), selection),
        chosen.format_suggestions(chosen.suggestion_table(selection)),
    ]
    return summary, [*format_summary(summary, seeds, protocol), *more, *agreement]


def _markers(out: Path, description: dict[str, Any]) -> Iterator[Table | str]:
    """The marker tables of a study that asks for them."""
    if description.get("markers") is None:
        return
    from senca_ray.analysis.study_markers import format_study_markers, study_markers, write_markers

    markers = study_markers(out, description)
    write_markers(out, markers)
    yield from format_study_markers(markers, description["markers"])
