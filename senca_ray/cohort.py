"""The cohort of an experiment: where its sections come from, and their way to shards."""

from __future__ import annotations

import dataclasses
import hashlib
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from senca_ray import keys
from senca_ray.config import PrepareConfig
from senca_ray.data.prepare import Prepared, find_sections, prepare
from senca_ray.data.shards import damaged_files, read_meta
from senca_ray.errors import Problem, ProblemsError, SencaError
from senca_ray.files import cache


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
    with progress_bar(console) as bar:
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


def check_labels(cohort: Cohort) -> None:
    """Refuse sections without labels, which k policy 'labels' needs, before anything is paid for them."""
    if cohort.data is None:
        return
    sections = find_sections(cohort.data, cohort.format, cohort.samples)
    labelled = [s.sample for s in sections if s.label_source != keys.UNLABELLED]
    if len(labelled) < len(sections):
        without = ", ".join(s.sample for s in sections if s.sample not in labelled)
        choice = " ".join(f"--sample {name}" for name in labelled)
        raise SencaError(
            f"{len(sections) - len(labelled)} of {len(sections)} sections have no labels ({without}) and k "
            f"policy 'labels' needs them; choose --k auto, --k fixed:N, or the sections that have: {choice}"
        )


def fingerprints(shards: dict[str, str]) -> dict[str, str]:
    """Fingerprint of every shard, as a study remembers it."""
    return {sample: str(read_meta(uri)["fingerprint"]) for sample, uri in shards.items()}


def check_unchanged(shards: dict[str, str], remembered: dict[str, str]) -> None:
    """Raise ProblemsError naming every shard that is gone, damaged, or not what a study began with."""
    problems = []
    for sample, uri in shards.items():
        try:
            found = str(read_meta(uri)["fingerprint"])
            damaged = [] if "://" in uri else damaged_files(Path(uri))
        except SencaError as error:
            problems.append(Problem(sample, "shard", str(error)))
            continue
        if found != remembered.get(sample, found):
            message = f"fingerprint {found} found, {remembered[sample]} expected; use another --out"
            problems.append(Problem(sample, uri, message))
        for name in damaged:
            problems.append(
                Problem(sample, f"{uri}/{name}", "missing or changed; delete the shard, prepare again")
            )
    if problems:
        raise ProblemsError(problems, f"the {len(shards)} shards of the study")


def simulated(shards: dict[str, str]) -> bool:
    """True when a section of the cohort is simulated: its scores say nothing about tissue."""
    about = (read_meta(uri) for uri in shards.values())
    # The label source tells it of shards made before, unless they have no labels.
    return any(meta.get("simulated", meta["label_source"] == keys.SIMULATED) for meta in about)


def progress_bar(console: Console) -> AbstractContextManager[Any]:
    """A bar that counts what is done."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns, console=console)
