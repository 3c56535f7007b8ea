"""`senca clean`: what takes how much disk, and its removal after asking."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from senca_ray import screen
from senca_ray.cli_study import STUDIES
from senca_ray.screen import Screen

if TYPE_CHECKING:
    from rich.table import Table

    from senca_ray.disk import Item


def clean(
    studies: Annotated[Path, typer.Option(help="Folder of studies to look at.", metavar="DIR")] = STUDIES,
    yes: Annotated[
        bool,
        typer.Option(
            "--yes", help="Do not ask; keeps every study, and what unfinished studies need to go on."
        ),
    ] = False,
) -> None:
    """Show what takes how much disk; remove what you agree to.

    Looks at the cache and at a folder of studies. Nothing that runs is touched. Studies elsewhere are not
    asked whether they need the prepared sections: name their folder with --studies.

    \b
    Example:
      senca clean --studies studies
    """
    from senca_ray import disk
    from senca_ray.cohort import cache

    shown = Screen()
    items = disk.survey(cache(), studies)
    shown.line(f"cache   {cache()}")
    shown.line(f"studies {studies.resolve()}")
    if not items:
        shown.line("nothing there to remove")
        return
    shown.table(_usage(items))
    freed = 0
    kept: list[str] = []
    for question, group, dispensable in _questions(items):
        if dispensable if yes else typer.confirm(question):
            bytes_freed, reasons = disk.remove(group, cache(), studies)
            freed, kept = freed + bytes_freed, kept + reasons
    whole = [item for item in items if item.category == disk.STUDIES and not item.kept]
    if whole and not yes and typer.confirm(f"Choose studies to remove, one by one ({len(whole)})?"):
        for study in whole:
            if typer.confirm(f"Remove {study.path.name} with all its results, {_bytes(study.size)}?"):
                bytes_freed, reasons = disk.remove([study], cache(), studies)
                freed, kept = freed + bytes_freed, kept + reasons
    for reason in kept:
        shown.line(f"kept: {reason}")
    shown.line(f"freed {_bytes(freed)}")


def _questions(items: list[Item]) -> list[tuple[str, list[Item], bool]]:
    """What to ask about all but whole studies, what goes on yes, and whether it can be spared unasked."""
    from senca_ray import disk

    then = {
        disk.UNFINISHED: "nothing is lost",
        disk.LEFTOVERS: "results are kept",
        disk.SIMULATED: "simulated again when wanted",
        disk.PACKAGES: "`senca methods install NAME` makes them again",
        disk.SHARDS: "`senca prepare` makes them again from the raw data; reports show maps only with them",
    }
    questions = []
    for category, consequence in then.items():
        of_it = [item for item in items if item.category == category and not item.kept]
        free = [item for item in of_it if not item.needed_by]
        needed = [item for item in of_it if item.needed_by]
        if free:
            questions.append((f"Remove {_amount(category, free)}? ({consequence})", free, True))
        if needed:
            who = ", ".join(sorted({name for item in needed for name in item.needed_by}))
            without = "fits under way start over" if category == disk.LEFTOVERS else "it cannot go on without"
            ask = f"Remove {_amount(category, needed)} needed by unfinished {who}? ({without})"
            questions.append((ask, needed, False))
    return questions


def _amount(category: str, items: list[Item]) -> str:
    return f"{category}: {len(items)}, {_bytes(sum(item.size for item in items))}"


def _usage(items: list[Item]) -> Table:
    """Number and size by category, and every study by itself."""
    from senca_ray import disk

    table = screen.table(["what", ""], ["number", "size"])
    for category in disk.CATEGORIES:
        of_it = [item for item in items if item.category == category]
        if of_it:
            needed, kept = sum(bool(i.needed_by) for i in of_it), sum(bool(i.kept) for i in of_it)
            counts = {"needed by unfinished studies": needed, "in use or in the making": kept}
            remark = ", ".join(f"{count} {words}" for words, count in counts.items() if count)
            screen.add_row(table, category, remark, str(len(of_it)), _bytes(sum(item.size for item in of_it)))
    for item in items:
        if item.category == disk.STUDIES:
            screen.add_row(table, f"  {item.path.name}", item.kept, "", _bytes(item.size))
    return table


def _bytes(size: int) -> str:
    from rich import filesize

    return filesize.decimal(size)
