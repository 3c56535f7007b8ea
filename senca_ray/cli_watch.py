"""`senca watch`: a study on the terminal while another process runs it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from senca_ray import keys
from senca_ray.cli_study import STUDIES
from senca_ray.errors import SencaError

if TYPE_CHECKING:
    from rich.console import Console

    from senca_ray.analysis.progress import Progress

_NAMED = 20
"""Studies that an error names at most."""


def watch(
    study: Annotated[
        Path,
        typer.Argument(help="A study's folder, or a folder of studies of which one runs.", metavar="DIR"),
    ] = STUDIES,
    every: Annotated[
        float, typer.Option(min=0.2, help="Seconds from one look to the next.", metavar="SECONDS")
    ] = 2.0,
    once: Annotated[bool, typer.Option("--once", help="Look once and end.")] = False,
) -> None:
    """Watch a study while it runs in another terminal.

    Shows progress, time left, the best so far and what failed, until the study ends. Reads its folder alone:
    it starts no cluster, and Ctrl-C leaves the study alone. Without a terminal it looks once.

    \b
    Example:
      senca watch studies/sweep-neighbors-simulated
    """
    from rich.console import Console

    console = Console()
    folder = _chosen(study)
    try:
        found = _watch(folder, console, None if once or not console.is_terminal else every)
    except KeyboardInterrupt:
        _line(console, f"no longer watched; the study goes on. Look again with `senca watch {folder}`")
        return
    _line(console, _next(found))


def _watch(folder: Path, console: Console, every: float | None) -> Progress:
    """Show the study until it ends, or once where no rhythm is given; returns how far it was at last."""
    from rich.live import Live

    from senca_ray.analysis.live import LiveStudy, format_look
    from senca_ray.analysis.progress import RUNNING

    _await_sections(folder, console, every)
    study = LiveStudy(folder)
    look = study.look()
    if every is None:
        console.print(format_look(look))
        return look.progress
    with Live(console=console, auto_refresh=False) as screen:
        while True:
            ended = look.progress.state != RUNNING
            screen.update(format_look(look, None if ended else console.height - 1), refresh=True)
            if ended:
                return look.progress
            time.sleep(every)
            look = study.look()


def _await_sections(folder: Path, console: Console, every: float | None) -> None:
    """Wait for a run that prepares its sections before it says what the study is; raises SencaError."""
    from senca_ray import lock

    def preparing() -> lock.Run | None:
        return None if (folder / keys.STUDY_FILE).exists() else lock.running(folder)

    if (run := preparing()) and every is None:
        raise SencaError(f"{folder}: {run} prepares its sections; look again when its trials run")
    with console.status("its sections are being prepared"):
        while preparing():
            time.sleep(every or 0)


def _chosen(folder: Path) -> Path:
    """The study to watch: the folder itself, or the one in it that runs; raises SencaError."""
    from senca_ray import lock
    from senca_ray.analysis.progress import find_studies

    if (folder / keys.STUDY_FILE).exists() or lock.running(folder):
        return folder
    studies = find_studies(folder)
    locked = (path.parent for path in sorted(folder.glob(f"*/{keys.LOCK_FILE}")))
    running = [path for path in locked if lock.running(path)]
    if len(running) == 1:
        return running[0]
    if not running and not studies:
        raise SencaError(f"{folder}: no studies there; give the folder that is an experiment's --out")
    named = running or studies
    told = "\n".join(f"  {path}" for path in named[:_NAMED])
    more = f"\n  and {len(named) - _NAMED} more" if len(named) > _NAMED else ""
    counted = f"{len(running)} studies run there" if running else "no study runs there now"
    raise SencaError(f"{folder}: {counted}; name the one to look at:\n{told}{more}")


def _next(found: Progress) -> str:
    """What comes after this look."""
    from senca_ray.analysis.progress import FINISHED

    if found.holder:
        return f"partial page: `senca report {found.folder}`"
    if found.state != FINISHED:
        return f"stopped; go on with `senca resume {found.folder}`"
    page = found.folder / keys.REPORT_FILE
    return f"page: {page}" if page.exists() else f"make its page with `senca report {found.folder}`"


def _line(console: Console, text: str) -> None:
    console.print(text, markup=False, highlight=False, soft_wrap=True)
