"""`senca doctor`: what would stop a study on this machine or on a cluster, before it is paid for."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from senca_ray.options import BAD_INPUT
from senca_ray.screen import Screen


def doctor(
    cluster: Annotated[
        Path | None,
        typer.Option(
            help="The cluster file that `ray up` will take. Left out: only this machine and, where "
            "SENCA_STORAGE is set, the storage.",
            metavar="FILE",
        ),
    ] = None,
    address: Annotated[
        str | None,
        typer.Option(
            help="Dashboard of a running cluster, for example http://127.0.0.1:8265, whose versions are "
            "compared with this machine's.",
            metavar="URL",
        ),
    ] = None,
) -> None:
    """Look whether everything is there for a study, and say how to mend what is not.

    Credentials, region, quotas, spot machines, images, storage, clock, versions and more: all checks run, and
    what could not be looked at says so. Starts no machine and pays for none. Exit code 2 when one failed.

    \b
    Example:
      senca doctor --cluster cluster.yaml
    """
    from rich.console import Console

    from senca_ray.cloud.doctor import all_checks, any_failed, as_table, run, summary, to_do

    with Console().status("looking at this machine") as status:
        findings = run(all_checks(cluster, address), lambda name: status.update(f"looking at: {name}"))
    screen = Screen()
    screen.table(as_table(findings))
    screen.line(summary(findings))
    for line in to_do(findings):
        screen.line(f"- {line}")
    if any_failed(findings):
        raise typer.Exit(BAD_INPUT)
