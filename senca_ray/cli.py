"""The `senca` command: every step of a sample's way is one subcommand."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

import typer

from senca_ray import keys, options
from senca_ray.cli_bench import bench
from senca_ray.cli_clean import clean
from senca_ray.cli_doctor import doctor
from senca_ray.cli_export import export
from senca_ray.cli_fetch import fetch
from senca_ray.cli_figures import figures
from senca_ray.cli_methods import methods_app
from senca_ray.cli_plan import plan
from senca_ray.cli_pull import pull
from senca_ray.cli_quality import quality
from senca_ray.cli_study import study_app
from senca_ray.cli_submit import PASSED_ON, attach, submit
from senca_ray.cli_wandb import wandb_app
from senca_ray.cli_watch import watch
from senca_ray.errors import ProblemsError
from senca_ray.model.encoders.files import weights_by_encoder

app = typer.Typer(
    help="Multi-sample experiments on tissue-region segmentation: spatial transcriptomics plus H&E.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

app.add_typer(study_app, name="study")
app.add_typer(methods_app, name="methods")
app.add_typer(wandb_app, name="wandb")


@app.command()
def simulate(
    out: Annotated[Path, typer.Argument(help="Folder to write; must not exist, or be empty.", metavar="DIR")],
    seed: Annotated[int, typer.Option(help="Another seed, another cohort.", metavar="N")] = 0,
    visium_hd: Annotated[
        int | None,
        typer.Option(
            help="Instead one Visium HD section of so many bins of 8 micrometres, without image.",
            metavar="BINS",
        ),
    ] = None,
) -> None:
    """Write a simulated cohort in the HER2ST folder layout.

    For trying things out, never as evidence.
    """
    from rich.console import Console

    from senca_ray.data.synthetic import simulate_cohort
    from senca_ray.data.synthetic_hd import simulate_hd

    console = Console()
    if visium_hd is not None:
        with console.status(f"simulating {visium_hd:,} bins"):
            simulate_hd(out, visium_hd, seed)
        console.print(f"1 section of {visium_hd:,} bins or a few more: {out}")
        console.print("Simulated: shows the mechanics; its scores say nothing about tissue.")
        return
    with console.status("simulating") as status:
        samples = simulate_cohort(out, seed=seed, progress=lambda text: status.update(f"simulating: {text}"))
    console.print(f"{len(samples)} sections ({', '.join(samples)}): {out}")
    console.print("A simulated cohort shows the mechanics; its scores say nothing about tissue.")


@app.command()
def inspect(
    path: Annotated[
        str,
        typer.Argument(
            help="A raw folder, a cohort file, a shard, a folder of shards, or the address of one (s3://, "
            "gs://).",
            metavar="DIR",
        ),
    ],
    format: options.Format = None,
) -> None:
    """Show what a raw folder or a shard holds, and its problems."""
    from rich.console import Console

    from senca_ray.data.inspection import inspect as look

    table, notes, problems = look(path, format)
    console = Console()
    console.print(table)
    for note in notes:
        console.print(f"note: {note}", highlight=False, markup=False)
    if problems:
        raise ProblemsError(problems, path)


@app.command()
def prepare(
    data: Annotated[
        str,
        typer.Argument(
            help="Folder with raw sections, a cohort file, or an address (s3://, gs://).", metavar="DIR"
        ),
    ],
    out: Annotated[
        str | None,
        typer.Option(help="Folder or address where shards go. Left out: your cache folder.", metavar="DIR"),
    ] = None,
    format: options.Format = None,
    sample: options.Samples = None,
    encoder: options.Encoder = None,
    encoder_weights: options.EncoderWeights = None,
    patches: options.Patches = False,
    config: options.Config = None,
    set: options.Set = None,
    strict: Annotated[
        bool,
        typer.Option(
            "--strict/--keep-going",
            help="At the first section with problems: stop, or prepare the others and tell all problems at "
            "the end (exit code 2 too).",
        ),
    ] = False,
    address: options.Address = None,
) -> None:
    """Turn raw sections into shards, which every study reads.

    Filters, orders genes, finds neighbours and encodes the image, once. A section that has its shard already
    costs nothing.
    """
    from rich.console import Console

    from senca_ray.cohort import Cohort, prepare_cohort

    chosen = options.configs(config, set, encoder).prepare
    cohort = Cohort(
        data=data,
        format=format,
        samples=tuple(sample or ()),
        shards=out,
        prepare=dataclasses.replace(chosen, store_patches=patches or chosen.store_patches),
        weights=weights_by_encoder(encoder_weights, chosen.encoders, "--encoder-weights"),
        strict=strict,
    )
    console = Console()
    for name, shard in prepare_cohort(cohort, console, address).shards.items():
        console.print(f"  {name}  {shard}", highlight=False, soft_wrap=True)


@app.command()
def fit(
    shard: Annotated[str, typer.Argument(help="A shard, as `senca prepare` lists them.", metavar="SHARD")],
    out: Annotated[Path | None, typer.Option(help="Left out: SAMPLE.h5ad", metavar="FILE")] = None,
    method: Annotated[
        str,
        typer.Option(help="senca, or another one that `senca methods` lists.", metavar="NAME"),
    ] = "senca",
    seed: Annotated[int, typer.Option(help="Seed of the fit.", metavar="N")] = 0,
    k: options.KPolicy = "labels",
    clustering: options.Clustering = "ward",
    pair: options.Pair = None,
    undetermined: options.Undetermined = keys.UNSCORED,
    refined: options.Refined = False,
    config: options.Config = None,
    set: options.Set = None,
) -> None:
    """Fit one section and write an h5ad that scanpy opens.

    It holds regions, embedding and scores.
    """
    from senca_ray.h5ad import fit_to_h5ad
    from senca_ray.methods.protocol import Protocol

    setting = options.configs(config, set).setting
    protocol = Protocol(k, clustering, pair, undetermined, refined)
    typer.echo(fit_to_h5ad(shard, out, method, setting, seed, protocol))


@app.command()
def resume(
    study: Annotated[
        str,
        typer.Argument(help="The study's folder or address (an experiment's --out).", metavar="DIR"),
    ],
    retry_failed: Annotated[
        bool,
        typer.Option(
            "--retry-failed",
            help="Run trials with failed fits again, for example of a method installed since. Without it a "
            "failure stays: the same error would come again.",
        ),
    ] = False,
    address: options.Address = None,
) -> None:
    """Finish a study that was stopped; no finished trial runs again.

    One at an address (s3://, gs://) may have been stopped on another machine.
    """
    from senca_ray.experiment import resume as finish

    finish(study, address=address, retry_failed=retry_failed)


@app.command()
def report(study: options.StudyFolder) -> None:
    """Make a study's tables and page again from its results."""
    from rich.console import Console

    from senca_ray.publish import publish

    publish(study, Console())


app.command()(fetch)
app.command()(quality)
app.command()(watch)
app.command()(figures)
app.command()(export)
app.command()(plan)
app.command(context_settings=PASSED_ON)(submit)
app.command()(attach)
app.command()(pull)
app.command()(doctor)
app.command()(clean)
app.command()(bench)


def main() -> None:
    """Entry point of `senca`."""
    options.guarded(app)
