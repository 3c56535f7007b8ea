"""`senca submit`, `senca attach`: an experiment sent to a cluster, and its log followed."""

from __future__ import annotations

import os
import shlex
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from senca_ray import screen
from senca_ray.cloud.cluster_file import CLUSTER_FILE, read_cluster_file
from senca_ray.errors import Interrupted, SencaError
from senca_ray.options import STOPPED
from senca_ray.screen import Screen

if TYPE_CHECKING:
    from ray.job_submission import JobDetails

    from senca_ray.cloud.jobs import Dashboard
    from senca_ray.cloud.parcel import Parcel

PASSED_ON = {"ignore_unknown_options": True, "allow_extra_args": True, "allow_interspersed_args": False}
"""Settings of the command `submit`: what stands after the script is the script's."""

_Cluster = Annotated[
    Path,
    typer.Option(help="The file that `ray up` started the cluster from.", metavar="FILE"),
]
_Address = Annotated[
    str | None,
    typer.Option(
        help="URL of the dashboard of a cluster that is reached already, in place of --cluster.",
        metavar="URL",
    ),
]
_AGAIN = "`senca submit` with the same command goes on where the study stopped"


def submit(
    context: typer.Context,
    script: Annotated[
        Path,
        typer.Argument(help="Script (.py) of an experiment, or a study file (.yaml).", metavar="SCRIPT"),
    ],
    cluster: _Cluster = CLUSTER_FILE,
    address: _Address = None,
    detach: Annotated[bool, typer.Option("--detach", help="Start it and do not follow its log.")] = False,
) -> None:
    """Run an experiment on a cluster and follow its log.

    What stands after the script goes to the script. With it travel the scripts of its folder, their configs,
    and the files below the current folder that its options name. The way there is an ssh tunnel to the head,
    which ends with the command. Ctrl-C leaves the job running; so does a laptop that sleeps, and the log goes
    on where it was. Ends with the exit code of the experiment.

    \b
    Examples:
      senca submit experiments/sweep_neighbors.py
      senca submit experiments/benchmark.py --data s3://lab-raw/her2st --seeds 15
      senca submit configs/studies/sweep_neighbors.yaml --data s3://lab-raw/her2st
      senca submit --address http://127.0.0.1:8265 --detach experiments/ablation.py
    """
    from senca_ray.cloud.jobs import reached
    from senca_ray.cloud.parcel import pack, versions

    parcel = pack(script, context.args)
    shown = Screen()
    with reached(address, cluster) as there:
        if (found := there.version()) != (ours := versions()["ray"]):
            raise SencaError(
                f"the cluster runs Ray {found}, this machine {ours}; bring the cluster to yours (the image "
                "in its file, then `ray up`), or install the cluster's here: "
                f"`pip install 'ray[default,tune,data]=={found}'`"
            )
        job = there.submit(parcel, shown.line)
        shown.line(f"job {job}")
        shown.line(_home(parcel, read_cluster_file(cluster).storage if address is None else None))
        if detach:
            shown.line(_hints(job, address, cluster))
        else:
            _follow(there, job, address, cluster)


def attach(
    job: Annotated[
        str | None, typer.Argument(help="Left out: lists the cluster's jobs.", metavar="JOB")
    ] = None,
    cluster: _Cluster = CLUSTER_FILE,
    address: _Address = None,
) -> None:
    """Follow a job's log again, or list the jobs of a cluster.

    Shows the log from its beginning and ends with the job's exit code. Ctrl-C leaves the job running.

    \b
    Examples:
      senca attach
      senca attach sweep-neighbors-20261121-201500-ab12
    """
    from senca_ray.cloud.jobs import reached

    with reached(address, cluster) as there:
        if job is None:
            _list(there)
        else:
            _follow(there, job, address, cluster)


def _follow(there: Dashboard, job: str, address: str | None, cluster: Path) -> None:
    """Show a job's log until it ends, and end as it ended."""
    from senca_ray.cloud.jobs import Gone, Lost, follow

    shown, open_line = Screen(), False

    def write(text: str) -> None:
        nonlocal open_line
        typer.echo(text, nl=False)
        open_line = not text.endswith("\n")

    def tell(text: str) -> None:
        nonlocal open_line
        shown.line(f"\n{text}" if open_line else text)
        open_line = False

    try:
        details = follow(there, job, write, tell)
    except KeyboardInterrupt:
        tell(f"no longer followed; the job goes on\n{_hints(job, address, cluster)}")
        raise typer.Exit(STOPPED) from None
    except Lost as error:
        tell("no longer followed; the job may go on")
        raise SencaError(f"{error}; when it does: `senca attach {job}{_where(address, cluster)}`") from None
    except Gone as error:
        raise Gone(f"{error}. If its head was lost or started anew: {_AGAIN}") from None
    tell(f"job {job} {str(details.status).lower()}")
    _end(job, details)


def _end(job: str, details: JobDetails) -> None:
    """End with the exit code of a job that has ended; raises SencaError where it has none."""
    if str(details.status) == "STOPPED":
        raise Interrupted(f"{job} was stopped; {_AGAIN}")
    if str(details.status) == "SUCCEEDED":
        return
    code = details.driver_exit_code
    if code is None:
        why = " ".join((details.message or "").split())
        raise SencaError(f"{job} ended without an exit code: {why:.300}\n{_AGAIN}")
    # A process that a signal ended, as a shell tells it.
    raise typer.Exit(code if code >= 0 else 128 - code)


def _list(there: Dashboard) -> None:
    from senca_ray.cloud.jobs import COMMAND

    jobs = there.jobs()
    if not jobs:
        Screen().line("no jobs yet; `senca submit experiments/sweep_neighbors.py` makes one")
        return
    table = screen.table(["job", "status", "started", "what"], [])
    for job in jobs:
        started = datetime.fromtimestamp((job.start_time or 0) / 1000).astimezone()
        what = (job.metadata or {}).get(COMMAND, job.entrypoint)
        screen.add_row(
            table, str(job.submission_id), str(job.status).lower(), f"{started:%Y-%m-%d %H:%M}", what
        )
    Screen().table(table)


def _home(parcel: Parcel, storage: str | None) -> str:
    """Where the study will be, as far as it is known here."""
    place = parcel.out or (f"{storage}/studies/{parcel.home}" if storage and parcel.home else None)
    if place:
        return f"its study: {place}; bring it home with `senca pull {place}`"
    below = f" below {storage}/studies" if storage else ""
    return f"its study{below}: the log names its folder, which `senca pull` brings home"


def _hints(job: str, address: str | None, cluster: Path) -> str:
    """How to follow a job again, and how to stop it."""
    if address is None:
        stop = shlex.join(["ray", "exec", str(cluster), f"ray job stop {job}"])
    else:
        mode = "RAY_AUTH_MODE=token " if os.environ.get("RAY_AUTH_MODE") == "token" else ""
        stop = f"{mode}ray job stop {job} --address {shlex.quote(address)}"
    return f"follow it: senca attach {job}{_where(address, cluster)}\nstop it:   {stop}"


def _where(address: str | None, cluster: Path) -> str:
    """The options that name the cluster again."""
    if address is not None:
        return f" --address {shlex.quote(address)}"
    return "" if cluster == CLUSTER_FILE else f" --cluster {shlex.quote(str(cluster))}"
