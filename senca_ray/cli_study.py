"""`senca study ...`: which studies there are, how far each is, how two compare."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from senca_ray import keys, options, recipe, screen
from senca_ray.errors import SencaError
from senca_ray.screen import Screen

if TYPE_CHECKING:
    import pandas as pd
    from rich.table import Table

    from senca_ray.analysis.progress import Progress

STUDIES = Path("studies")
"""Where experiments keep their studies unless told otherwise."""

study_app = typer.Typer(
    help="Run a study from a file; list, show and compare studies.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@study_app.command("list")
def list_studies(
    folder: Annotated[Path, typer.Argument(help="Folder of studies.", metavar="DIR")] = STUDIES,
) -> None:
    """List the studies in a folder and how far they are.

    Shows state, trials done, failed rows and last change. Reads the folders alone, so it may be asked at any
    time, also while the studies run.

    \b
    Example:
      senca study list
    """
    from senca_ray.analysis.progress import find_studies, progress

    shown = Screen()
    table = screen.table(["study", "state"], ["trials", "failed", "last change"])
    unreadable = []
    studies = find_studies(folder)
    for study in studies:
        try:
            found = progress(study)
        except SencaError as error:
            unreadable.append(str(error))
            screen.add_row(table, study.resolve().name, "unreadable", "", "", "")
        else:
            changed = f"{found.updated.astimezone():%Y-%m-%d %H:%M}"
            failed = str(found.failed) if found.failed else ""
            screen.add_row(table, study.resolve().name, found.state, _trials(found), failed, changed)
    if not studies:
        shown.line(f"{folder}: no studies yet; `python experiments/sweep_neighbors.py` makes one")
        return
    shown.table(table)
    for text in unreadable:
        shown.line(f"unreadable: {text}")


@study_app.command()
def show(study: Annotated[Path, typer.Argument(help="A study's folder.", metavar="DIR")]) -> None:
    """Show one study: how far, what failed, what to do next.

    Says what it is, how long it will take, why rows failed, and of a search the best of every fold. May be
    asked while the study runs.

    \b
    Example:
      senca study show studies/sweep-neighbors-simulated
    """
    from senca_ray.analysis.description import read_description
    from senca_ray.analysis.live import fold_table
    from senca_ray.analysis.progress import progress
    from senca_ray.analysis.selection import read_selection

    shown = Screen()
    found, description = progress(study), read_description(study)
    shown.line(found.title)
    for name, text in {**_identity(description, found), "state": _state(found)}.items():
        shown.line(f"{name:<9} {text}")
    if found.failures:
        shown.table(_failures(found))
    if found.kind == "search" and (study / keys.SELECTION_FILE).exists():
        shown.table(fold_table(read_selection(study), found.state == "finished"))
    shown.line(f"{'next':<9} {_next(found)}")


@study_app.command()
def run(
    file: Annotated[Path, typer.Argument(help="A study's YAML file, as in configs/studies.", metavar="FILE")],
    out: Annotated[
        str | None,
        typer.Option(
            help="The study's folder or address (s3://, gs://); where it holds this very study, that is gone "
            "on with. Left out: studies/NAME-COHORT, below SENCA_STORAGE where that is set.",
            metavar="DIR",
        ),
    ] = None,
    data: options.Data = None,
    format: options.Format = None,
    address: options.Address = None,
) -> None:
    """Run the study that a YAML file describes.

    The same command again goes on where it stopped. docs/studies.md lists every key of the file.

    \b
    Example:
      senca study run configs/studies/sweep_neighbors.yaml --out studies/mine
    """
    recipe.run_file(file, data=data, format=format, out=out, address=address)


@study_app.command()
def compare(
    a: Annotated[Path, typer.Argument(help="Folder of a finished study.", metavar="A")],
    b: Annotated[Path, typer.Argument(help="Folder of the other.", metavar="B")],
) -> None:
    """Compare two finished studies, paired over patients.

    By ARI, on the sections that both scored. Shows what both hold under one name, and the two default
    settings where their names differ, with tests corrected for their number.

    \b
    Example:
      senca study compare studies/before studies/after
    """
    from senca_ray.analysis.compare import compare_studies, format_comparison
    from senca_ray.analysis.description import SIMULATED, read_description

    descriptions = [read_description(folder) for folder in (a, b)]
    first, second = (str(description["default"]) for description in descriptions)
    names = (a.resolve().name, b.resolve().name)
    if names[0] == names[1]:
        names = (str(a), str(b))
    results_a, results_b = (_finished(folder, d) for folder, d in zip((a, b), descriptions, strict=True))
    comparison = compare_studies(results_a, results_b, *names, (first, second))
    shown = Screen()
    if any(description["simulated"] for description in descriptions):
        shown.line(SIMULATED)
    for table in format_comparison(comparison):
        shown.table(table)


def _finished(folder: Path, description: dict[str, Any]) -> pd.DataFrame:
    """The rows of a study under its own protocol; raises SencaError for one that has not finished."""
    from senca_ray.analysis.benchmark import main_rows
    from senca_ray.analysis.progress import partial
    from senca_ray.analysis.results import read_results

    rows = read_results(folder)
    if rests_on := partial(folder, description, rows):
        raise SencaError(
            f"{folder}: has not finished ({rests_on}); finish it first, with `senca resume {folder}`"
        )
    return main_rows(rows, description)


def _identity(description: dict[str, Any], found: Progress) -> dict[str, str]:
    """What the study is, as name and text."""
    samples, seeds = list(description["shards"]), description["seeds"]
    oracle = " (an oracle)" if description["k_policy"] == "labels" else ""
    facts = {
        "folder": str(found.folder),
        "cohort": f"{description['data']}: {_number(len(samples), 'section')} ({', '.join(samples)})",
        "seeds": f"{len(seeds)}, k policy {description['k_policy']}{oracle}, {description['clustering']}",
        "created": f"{found.created.astimezone():%Y-%m-%d %H:%M}",
    }
    if found.kind == "benchmark":
        return {
            "compared": f"{', '.join(description['methods'])}; against {description['reference']}",
            **facts,
        }
    if found.kind == "grid":
        variants = (
            f"{label} (default)" if label == description["default"] else label
            for label in description["variants"]
        )
        return {"compared": ", ".join(variants), **facts}
    objectives, select = ", ".join(description["objectives"]), description["select"]
    return {
        "searched": "; ".join(_range(field, given) for field, given in description["space"].items()),
        "by": f"{description['aggregate']} {objectives}, {description['suggestions']} suggestions a fold, "
        f"select {select}{', racing' if description['racing'] else ''}",
        **facts,
    }


def _range(field: str, given: Any) -> str:
    """A field of the search space as --space takes it."""
    if isinstance(given, list):
        return f"{field}={','.join(map(str, given))}"
    step = f":{given['step']}" if given["step"] else ""
    return f"{field}={given['low']}..{given['high']}{':log' if given['log'] else step}"


def _state(found: Progress) -> str:
    from senca_ray.analysis.live import about

    text = f"{found.state}, {_trials(found)} trials"
    if found.kind == "search" and found.trials is not None and found.state != "finished":
        text += " at most"
    if found.holder:
        text += f", by {found.holder}"
    if found.seconds_left is not None:
        most = "at most " if found.kind == "search" else ""
        text += f"; {most}{about(found.seconds_left)} left"
    elif found.holder:
        text += "; time left is told after a few trials"
    return text


def _trials(found: Progress) -> str:
    if found.trials is None or (found.kind == "search" and found.state == "finished"):
        return str(found.done)
    return f"{found.done} of {found.trials}"


def _failures(found: Progress) -> Table:
    table = screen.table(["failed because", "samples"], ["rows"])
    for failure in found.failures:
        screen.add_row(table, failure.reason, ", ".join(failure.samples), str(failure.rows))
    return table


def _next(found: Progress) -> str:
    if found.holder:
        return f"wait, or stop it (Ctrl-C) and go on later with `senca resume {found.folder}`"
    if found.state == "stopped":
        return f"go on with `senca resume {found.folder}`"
    page = found.folder / keys.REPORT_FILE
    return f"open {page}" if page.exists() else f"make its report with `senca report {found.folder}`"


def _number(count: int, noun: str) -> str:
    return f"{count} {noun}{'s' if count != 1 else ''}"
