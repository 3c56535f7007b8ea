"""The whole way of an experiment: cohort, shards, trials, results, statistics, report.

`experiments/*.py` are thin recipes over this: each names what is varied and calls `run_sweep`.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
import shutil
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from senca_ray import cluster, keys
from senca_ray.config import PrepareConfig, Setting
from senca_ray.data.prepare import Prepared, find_sections, prepare
from senca_ray.errors import SencaError
from senca_ray.methods.run import Protocol
from senca_ray.study.sweep import Sweep
from senca_ray.study.trial import Trial, versions


class Interrupted(SencaError):
    """A study was stopped before its end; what is done is kept."""


@dataclass(frozen=True, kw_only=True)
class Cohort:
    """Where an experiment's sections come from."""

    data: Path | None = None
    """Raw folder; None for the embedded simulated cohort."""
    format: str | None = None
    """Raw format; None to detect it."""
    samples: tuple[str, ...] = ()
    """Only these; all by default."""
    shards: Path | None = None
    """Where prepared sections are kept; None for the user's cache."""
    prepare: PrepareConfig = dataclasses.field(default_factory=PrepareConfig)
    weights: Path | None = None


def cache() -> Path:
    """Folder for what can be made again: SENCA_CACHE, else the user's cache folder."""
    given = os.environ.get("SENCA_CACHE")
    base = os.environ.get("XDG_CACHE_HOME")
    return Path(given) if given else (Path(base) if base else Path.home() / ".cache") / "senca_ray"


def simulated_cohort(console: Console) -> Path:
    """The embedded cohort, simulated once into the cache by this version of the simulator."""
    from senca_ray.data import synthetic

    sources = sorted(Path(synthetic.__file__).parent.glob("synthetic*.py"))
    version = hashlib.sha256(b"".join(p.read_bytes() for p in sources)).hexdigest()[:12]
    folder = cache() / f"simulated-{version}"
    if not folder.exists():
        with console.status("simulating the embedded cohort") as status:
            synthetic.simulate_cohort(folder, progress=lambda text: status.update(f"simulating: {text}"))
    return folder


def prepare_cohort(cohort: Cohort, console: Console, address: str | None = None) -> Prepared:
    """Prepare the cohort's sections, showing progress; says so when there is nothing to do."""
    data = cohort.data or simulated_cohort(console)
    store = cohort.shards or cache() / "shards"
    with _progress(console) as bar:
        task = bar.add_task("preparing sections", total=None)

        def report(sample: str, done: int, total: int) -> None:
            bar.update(task, completed=done, total=total)

        prepared = prepare(
            data,
            store,
            format=cohort.format,
            config=cohort.prepare,
            weights=cohort.weights,
            samples=cohort.samples,
            address=address,
            progress=report,
        )
    total, new = len(prepared.shards), len(prepared.new)
    done = f"{new} of {total} sections prepared" if new else f"all {total} sections were prepared before"
    console.print(f"{done}: {store}", markup=False, highlight=False, soft_wrap=True)
    return prepared


def run_sweep(sweep: Sweep, cohort: Cohort, out: Path, *, address: str | None = None) -> None:
    """Run a sweep over a cohort into the study folder `out` and report it.

    A folder that holds the same study is gone on with. Raises SencaError when it holds another one,
    ProblemsError for everything wrong in the cohort, Interrupted when stopped.
    """
    from senca_ray.analysis.description import check_vacant, open_study

    console = Console()
    check_vacant(out)
    if cohort.data and sweep.protocol.k_policy == "labels":
        _check_labels(cohort.data, cohort)
    with cluster.connected(address):
        prepared = prepare_cohort(cohort, console, address)
        description = _describe(sweep, cohort, prepared.shards)
        open_study(out, description, versions())
        _finish(out, sweep.trials(prepared.shards), console)


def resume(out: Path, *, address: str | None = None) -> None:
    """Finish the study in `out`, running no finished trial again.

    Raises SencaError when `out` holds no study or its shards are gone.
    """
    from senca_ray.analysis.description import read_description

    description = read_description(out)
    sweep = _described(description)
    with cluster.connected(address):
        _finish(out, sweep.trials(description["shards"]), Console())


def _check_labels(data: Path, cohort: Cohort) -> None:
    """Refuse sections without labels before anything is paid for them."""
    _, sections = find_sections(data, cohort.format, cohort.samples)
    labelled = [s.sample for s in sections if s.label_source != keys.UNLABELLED]
    if len(labelled) < len(sections):
        without = ", ".join(s.sample for s in sections if s.sample not in labelled)
        choice = " ".join(f"--sample {name}" for name in labelled)
        raise SencaError(
            f"{len(sections) - len(labelled)} of {len(sections)} sections have no labels ({without}) and k "
            f"policy 'labels' needs them; choose --k auto, --k fixed:N, or the sections that have: {choice}"
        )


def _describe(sweep: Sweep, cohort: Cohort, shards: dict[str, str]) -> dict[str, Any]:
    protocol = sweep.protocol
    return {
        "name": sweep.name,
        "title": sweep.title,
        "vary": sweep.vary,
        "values": list(sweep.values),
        "default": sweep.default,
        "setting": asdict(sweep.setting),
        "seeds": list(sweep.seeds),
        "k_policy": protocol.k_policy,
        "clustering": protocol.clustering,
        "pair": list(protocol.pair) if protocol.pair else None,
        "controls": list(sweep.controls),
        "data": cohort.data.name if cohort.data else "embedded simulated cohort",
        "simulated": _simulated(shards),
        "shards": shards,
        "prepare": asdict(cohort.prepare),
    }


def _described(description: dict[str, Any]) -> Sweep:
    """The sweep that `_describe` described."""
    pair = description["pair"]
    return Sweep(
        name=description["name"],
        title=description["title"],
        vary=description["vary"],
        values=tuple(description["values"]),
        setting=Setting(**description["setting"]),
        seeds=tuple(description["seeds"]),
        protocol=Protocol(description["k_policy"], description["clustering"], tuple(pair) if pair else None),
        controls=tuple(description["controls"]),
    )


def _simulated(shards: dict[str, str]) -> bool:
    from senca_ray.data.shards import read_meta

    return any(read_meta(uri)["label_source"] == keys.SIMULATED for uri in shards.values())


def _finish(out: Path, trials: list[Trial], console: Console) -> None:
    """Run what is missing, then tables, statistics and report. Needs a connected cluster."""
    import ray

    from senca_ray.analysis.aggregator import aggregator
    from senca_ray.study.runner import run_trials, unfinished

    sink = aggregator(out)
    todo = len(unfinished(trials, ray.get(sink.keys.remote())))
    if todo:
        with _progress(console) as bar:
            task = bar.add_task("fitting", total=len(trials), completed=len(trials) - todo)
            try:
                run_trials(trials, sink, out / "tune", lambda ended: bar.advance(task))
            except KeyboardInterrupt:
                raise Interrupted(f"stopped; what is done is kept: go on with `senca resume {out}`") from None
    else:
        console.print(f"all {len(trials)} trials were finished before")
    ray.get(sink.finish.remote())
    # Tune's own state is for a study that is under way; the journal says what is done.
    shutil.rmtree(out / "tune", ignore_errors=True)
    publish(out, console)


def publish(out: Path, console: Console) -> None:
    """Statistics, terminal table, HTML page and W&B run of the results in `out`."""
    from senca_ray.analysis import tables
    from senca_ray.analysis.description import read_description
    from senca_ray.analysis.results import read_results
    from senca_ray.report.html import write_report
    from senca_ray.report.wandb_publisher import publish as publish_wandb

    description = read_description(out)
    results = read_results(out)
    default = f"{description['vary']}={description['default']}"
    summary = tables.sweep_summary(results, default)
    tables.write_summary(out, summary)
    if description["simulated"]:
        console.print("[bold]Simulated cohort[/]: shows the mechanics; its scores say nothing about tissue.")
    for table in tables.format_summary(summary, description["seeds"], description["k_policy"]):
        console.print(table)
    with console.status("drawing the report"):
        page = write_report(out)
    with console.status("publishing to W&B"):
        outcome = publish_wandb(out)
    for name, where in (("results", out / keys.RESULTS_FILE), ("report", page), ("W&B", outcome)):
        console.print(f"{name:<8} {where}", markup=False, highlight=False, soft_wrap=True)


def _progress(console: Console) -> AbstractContextManager[Any]:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns, console=console)
