"""`senca pull`: a study at an address, brought to this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from senca_ray import options
from senca_ray.errors import SencaError


def pull(
    study: Annotated[
        str,
        typer.Argument(
            help="Address of the study (s3://, gs://), or its name below SENCA_STORAGE/studies, where "
            "SENCA_STORAGE is that of this machine or of the cluster file.",
            metavar="STUDY",
        ),
    ],
    out: Annotated[
        Path | None, typer.Option(help="Folder to bring it to. Left out: studies/NAME.", metavar="DIR")
    ] = None,
    cluster: options.ClusterPath = None,
) -> None:
    """Bring a study home from S3 or GCS: results, report and offline W&B runs.

    May be repeated while the study runs: only what is new comes. Nothing at the address changes.

    \b
    Example:
      senca pull s3://my-bucket/senca/studies/sweep-neighbors-her2st
      senca pull sweep-neighbors-her2st
    """
    from rich.console import Console

    from senca_ray import lease, mirror
    from senca_ray.analysis.progress import progress

    address = (study if "://" in study else _address(study, cluster)).rstrip("/")
    folder = out or Path("studies") / address.rpartition("/")[2]
    console = Console()

    def say(text: str) -> None:
        console.print(text, markup=False, highlight=False, soft_wrap=True)

    with console.status(f"reading {address}"):
        holder = lease.read_lease(address)
        count = mirror.pull(address, folder)
    found = progress(folder)
    say(f"{folder}: {count} files came" if count else f"{folder}: nothing new")
    of = f" of {found.trials}" if found.trials is not None else ""
    state = f"running, by {holder}" if holder else found.state
    say(f"{state}: {found.done}{of} trials, {found.failed} failed rows")
    if holder:
        say("bring the rest later with the same command")
    elif found.state == "finished":
        say(f"open {folder}/report.html")
        if (folder / "wandb").is_dir():
            say(f"send its runs to W&B with `senca wandb sync {folder}`")
    else:
        say(f"it was stopped: go on with `senca resume {address}`, on the cluster")


def _address(name: str, file: Path | None) -> str:
    from senca_ray.cloud.cluster_file import CLUSTER_FILE, read_cluster_file
    from senca_ray.cloud.doctor_file import has_placeholder
    from senca_ray.home import storage

    base = storage()
    file = file or (CLUSTER_FILE if CLUSTER_FILE.exists() else None)
    if base is None and file is not None:
        base = read_cluster_file(file).storage
        if base and has_placeholder(base):
            raise SencaError(f"{file}: SENCA_STORAGE={base} found; put your bucket there")
    if base is None:
        raise SencaError(
            f"{name}: the name of a study found, and no storage to look for it: give its address, set "
            "SENCA_STORAGE, or name the cluster file with --cluster"
        )
    return f"{base.rstrip('/')}/studies/{name}"
