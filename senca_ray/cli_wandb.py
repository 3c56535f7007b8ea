"""`senca wandb ...`: a study's runs in W&B."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from senca_ray.errors import SencaError
from senca_ray.screen import Screen

wandb_app = typer.Typer(
    rich_markup_mode=None, no_args_is_help=True, help="A study's runs in W&B (Weights & Biases)."
)


@wandb_app.callback()
def _group() -> None:
    """Keep `sync` a command of its own, as others may follow."""


@wandb_app.command()
def sync(
    study: Annotated[Path, typer.Argument(help="The folder of a finished study.", metavar="DIR")],
) -> None:
    """Send a study's runs to W&B: those that were kept when no key, no network or no time was there.

    What was sent before is not sent again, so the command can be repeated until all is there. Ctrl-C loses
    nothing.

    \b
    Example:
      senca wandb sync studies/sweep-neighbors-simulated
    """
    from rich.console import Console
    from rich.text import Text

    from senca_ray.report.wandb_publisher import sync as send

    with Console().status("reading the study") as status:
        outcome = send(study, lambda text: status.update(Text(text)))
    if outcome.mode != "online":
        raise SencaError(str(outcome))
    Screen().line(str(outcome))
