"""The cohort of an experiment: where its sections come from, and their way to shards."""

from __future__ import annotations

import dataclasses
import fcntl
import hashlib
import math
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from senca_ray import cluster, keys
from senca_ray.config import PrepareConfig, QualityLimits
from senca_ray.data import copies
from senca_ray.data.location import connect, in_words, is_remote, list_files, upload
from senca_ray.data.prepare import Prepared, find_sections, prepare
from senca_ray.data.shards import damaged_files, read_meta
from senca_ray.errors import Problem, ProblemsError, SencaError
from senca_ray.files import cache
from senca_ray.home import shards_home

_LINE_EVERY = 60.0
"""Seconds between two lines about what is done, where no bar can be shown."""
_RAW = "raw"
"""Folder among the shards of an address that holds the embedded cohort."""
_WARNINGS = 5
"""Lines about the sections' quality that are printed after preparing them."""


@dataclass(frozen=True, kw_only=True)
class Cohort:
    """Where an experiment's sections come from."""

    data: str | None = None
    """Raw folder, cohort file or their address (s3://, gs://); None for the embedded simulated cohort."""
    format: str | None = None
    """Raw format; None to detect it."""
    samples: tuple[str, ...] = ()
    """Only these; all by default."""
    shards: str | None = None
    """Folder or address where prepared sections are kept; None for the user's cache."""
    prepare: PrepareConfig = dataclasses.field(default_factory=PrepareConfig)
    weights: Mapping[str, Path] = dataclasses.field(default_factory=dict)
    """File of weights of each encoder that is given one."""
    strict: bool = False
    """Stop at the first section with problems instead of preparing the others."""

    @property
    def name(self) -> str:
        """The last part of its folder, file or address; 'simulated' for the embedded one."""
        if self.data is None:
            return "simulated"
        path = PurePosixPath(self.data) if "://" in self.data else Path(self.data).resolve()
        return path.stem if path.suffix in (".yaml", ".yml", ".csv") else path.name


def simulated_cohort(console: Console) -> Path:
    """The embedded cohort, simulated once into the cache by this version of the simulator."""
    from senca_ray.data import synthetic

    sources = sorted(Path(synthetic.__file__).parent.glob("synthetic*.py"))
    version = hashlib.sha256(b"".join(p.read_bytes() for p in sources)).hexdigest()[:12]
    folder = cache() / f"simulated-{version}"
    cache().mkdir(parents=True, exist_ok=True)
    with copies.locked(cache() / keys.LOCK_FILE, fcntl.LOCK_EX):  # two studies may start at once
        if not folder.exists():
            with console.status("simulating the embedded cohort") as status:
                synthetic.simulate_cohort(folder, progress=lambda text: status.update(f"simulating: {text}"))
    return folder


def prepare_cohort(cohort: Cohort, console: Console, address: str | None = None) -> Prepared:
    """Prepare the cohort's sections, showing progress; says so when there is nothing to do.

    Raises SencaError where they, or their shards, lie on this machine alone and the cluster has others.
    """
    store = cohort.shards or shards_home()
    data = cohort.data or str(simulated_cohort(console))
    if address and is_remote(store) and cohort.data is None:
        data = _sent(Path(data), f"{store.rstrip('/')}/{_RAW}")
    with ExitStack() as held:
        if address:
            held.enter_context(cluster.connected(address))
            _check_shared(data, store)
        bar = held.enter_context(progress_bar(console))
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
            strict=cohort.strict,
            address=address,
            progress=report,
        )
    total, new = len(prepared.shards), len(prepared.new)
    done = f"{new} of {total} sections prepared" if new else f"all {total} sections were prepared before"
    console.print(f"{done}: {store}", markup=False, highlight=False, soft_wrap=True)
    _print_warnings(prepared.shards, console)
    return prepared


def _print_warnings(shards: dict[str, str], console: Console) -> None:
    """Say what is worth a look before anything is trained on the sections; nothing where nothing is."""
    from senca_ray.analysis.quality import quality_table, quality_warnings, summary_lines
    from senca_ray.analysis.terminal import count

    warnings = quality_warnings(quality_table(shards), QualityLimits())
    for line in summary_lines(warnings)[:_WARNINGS]:
        console.print(f"warning: {line}", markup=False, highlight=False)
    if warnings:
        console.print(f"{count(len(warnings), 'warning')}: `senca quality` tells more", highlight=False)


def _sent(folder: Path, home: str) -> str:
    """Address of a copy of a raw folder, which every machine of a cluster reads; files there are kept."""
    uri = f"{home}/{folder.name}"
    filesystem, path = connect(uri)
    there = list_files(uri)
    for file in sorted(p for p in folder.rglob("*") if p.is_file()):
        name = file.relative_to(folder).as_posix()
        if name not in there or there[name].size != file.stat().st_size:
            with in_words(f"{uri}/{name}"):
                upload(filesystem, file, f"{path}/{name}")
    return uri


def _check_shared(data: str, store: str) -> None:
    """Raise ProblemsError for what other machines of the connected cluster do not see."""
    problems = []
    if not is_remote(store):
        Path(store).mkdir(parents=True, exist_ok=True)
    for place, option in ((data, "--data"), (store, "--shards")):
        if not is_remote(place) and (without := cluster.nodes_without(Path(place).resolve())):
            message = f"not there on {', '.join(without)}; expected an address (s3://, gs://), or a folder "
            message += "on a disk that all machines of the cluster share"
            problems.append(Problem("-", f"{option} {place}", message))
    if problems:
        raise ProblemsError(problems, "what the cluster reads")


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
    """A bar that counts what is done; a line now and then where no terminal shows it, as in a job's log."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns, console=console) if console.is_terminal else _Lines(console)


class _Lines:
    """Counts what is done in lines: one when it begins to count, one a minute, one at the end."""

    def __init__(self, console: Console) -> None:
        self._console, self._began = console, time.monotonic()
        self._text, self._shown, self._at = "", "", -math.inf

    def __enter__(self) -> _Lines:
        return self

    def __exit__(self, *_: object) -> None:
        self._show()

    def add_task(self, description: str, total: int | None = None, completed: int = 0) -> int:
        """As rich's; there is one task."""
        self._description = description
        self.update(0, total=total, completed=completed)
        return 0

    def update(self, _task: int, *, total: int | None = None, completed: int = 0) -> None:
        """As rich's."""
        if total is None:
            return
        minutes, seconds = divmod(int(time.monotonic() - self._began), 60)
        self._text = f"{self._description}: {completed} of {total}, {minutes}:{seconds:02d}"
        if time.monotonic() - self._at >= _LINE_EVERY:
            self._show()

    def _show(self) -> None:
        if self._text != self._shown:
            self._console.print(self._text, highlight=False)
            self._shown, self._at = self._text, time.monotonic()
