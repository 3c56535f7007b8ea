"""`senca fetch`: a public cohort into a folder, laid out as its reader wants."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from senca_ray import screen
from senca_ray.screen import Screen

if TYPE_CHECKING:
    from senca_ray.fetch.catalogue import Cohort
    from senca_ray.fetch.run import Fetched

MIRROR = "SENCA_FETCH_MIRROR"
"""Environment variable: where to ask instead, MIRROR/HOST/PATH for https://HOST/PATH."""


def fetch(
    name: Annotated[
        str | None, typer.Argument(help="The cohort. Left out: what there is.", metavar="NAME")
    ] = None,
    folder: Annotated[
        Path | None, typer.Argument(help="Where to put it. Left out: a folder NAME here.", metavar="DIR")
    ] = None,
) -> None:
    """Download a public cohort, or what is missing of it.

    Checks sizes and checksums, goes on where it was stopped, and lays the files out as the reader wants.
    Without a network it says what to download by hand, and unpacks what you put into DIR.

    \b
    Example:
      senca fetch breast-atlas data/atlas
    """
    from senca_ray.fetch.catalogue import COHORTS, cohort

    shown = Screen()
    if name is None:
        for known in COHORTS.values():
            _describe(known, shown)
        shown.line("senca fetch NAME [DIR] downloads one; it stays under its own licence: cite it.")
        return
    chosen = cohort(name)
    target = folder or Path(name)
    done = _fetch(chosen, target)
    for note in done.notes:
        shown.line(f"note: {note}")
    if not done.downloaded and not done.notes:
        shown.line("all there already, every byte as it was fetched")
    shown.line(f"{done.files} files, {_bytes(done.size)}: {target}")
    shown.line(f"cite: {chosen.citation}; licence: {chosen.licence}")
    shown.line(f"next: senca inspect {target}")


def _fetch(cohort: Cohort, folder: Path) -> Fetched:
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    from senca_ray.fetch.client import Client
    from senca_ray.fetch.run import fetch as bring

    console = Console(stderr=True)
    # What a server says is text, never markup.
    columns = TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn()
    bar = Progress(
        *columns,
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
    with bar:
        task = bar.add_task("asking", total=None)

        def progress(what: str, done: int, total: int | None) -> None:
            bar.update(task, description=what, completed=done, total=total)

        with Client(os.environ.get(MIRROR)) as client:
            return bring(cohort, folder, client, progress)


def _describe(cohort: Cohort, shown: Screen) -> None:
    table = screen.table([cohort.name, ""], [])
    for what, text in (
        ("what", cohort.what),
        ("sections", cohort.sections),
        ("download", cohort.size),
        ("licence", cohort.licence),
        ("cite", cohort.citation),
        ("source", cohort.page),
        ("format", cohort.format),
    ):
        screen.add_row(table, what, text)
    shown.table(table)


def _bytes(size: int) -> str:
    from rich import filesize

    return filesize.decimal(size)
