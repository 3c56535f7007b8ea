"""Figure `overhead`: a study's wall time divided by that of the same trials in a plain loop.

The plain loop is one warm process a core that takes trial after trial and stores nothing: no engine can beat
it. The time of the study runs from a cluster that is up to the last row on disk, its workers' start included.
"""

from __future__ import annotations

import contextlib
import functools
import math
import multiprocessing
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from senca_ray import keys
from senca_ray.bench.figure import Figure
from senca_ray.bench.process import fresh
from senca_ray.errors import SencaError

if TYPE_CHECKING:
    from senca_ray.study.trial import Trial

_TRIALS_A_CORE = 30
"""60 on 2 cores: the ratio compares between machines only where a study is as long on each."""
_BOUNDS = {1.0: 1.15, 3.0: 1.07, 20.0: 1.02}
"""Seconds of a trial to the ratio demanded."""
_LONG = 20.0
_SEEDS = 5
_START_LIMIT = 300.0
"""Seconds that the processes of the plain loop may take to come up."""

_AT_REST = 0.15
"""CPU seconds a second of a cluster that has nothing to do; measured: 0.05."""

Run = dict[str, float]


def measure(repeat: int, say: Callable[[str], None], *, long: bool = False) -> list[Figure]:
    """Trials of 1 and 3 s (with `long` of 20 s too) that only burn CPU, then real fits."""
    figures, starts = [], []
    for seconds, bound in _BOUNDS.items():
        if seconds == _LONG and not long:
            continue
        name = f"{seconds:g} s"
        runs = _pairs(repeat, functools.partial(_tell, say, f"trials of {name}"), seconds=seconds)
        figures += _of_trials(f"overhead.{seconds:g}s", f"trials of {name}", runs, bound)
        figures.append(_first(f"overhead.{seconds:g}s.first", runs, seconds))
        starts += runs
    with tempfile.TemporaryDirectory(prefix="senca-bench-") as folder:
        say("preparing two simulated sections")
        shards = fresh(prepare_for_fits, folder=folder)
        runs = _pairs(repeat, functools.partial(_tell, say, "real fits"), shards=shards)
    figures += _of_trials("overhead.fits", f"trials of {_SEEDS} real fits", runs, None)
    figures += _rates("overhead.fits.fits", "fits", runs, _SEEDS)
    starts += runs
    values = tuple(run["startup"] for run in starts)
    return [
        *figures,
        Figure(name="overhead.startup", title="start of engine and Ray", unit="s", runs=values, note="apart"),
    ]


def _tell(say: Callable[[str], None], what: str, text: str) -> None:
    say(f"{what}, {text}")


def _pairs(repeat: int, say: Callable[[str], None], **work: Any) -> list[Run]:
    """Study and plain loop in turn, so that a machine that slows down slows both."""
    runs = []
    for run in range(repeat):
        say(f"study {run + 1} of {repeat}")
        study = fresh(through_engine, **work)
        say(f"plain loop {run + 1} of {repeat}")
        plain = fresh(plain_loop, processes=study["cpus"], trials=study["trials"], **work)
        runs.append(study | {"plain": plain})
    return runs


def _of_trials(name: str, title: str, runs: list[Run], bound: float | None) -> list[Figure]:
    ratio = Figure(
        name=f"{name}.ratio",
        title=f"study / plain loop, {title}",
        unit="ratio",
        bound=bound,
        runs=tuple(run["wall"] / run["plain"] for run in runs),
        note=f"{runs[0]['trials']:.0f} trials on {runs[0]['cpus']:.0f} cores",
    )
    return [ratio, *_rates(f"{name}.trials", "trials", runs, 1)]


def _rates(name: str, what: str, runs: list[Run], each: int) -> list[Figure]:
    def figure(name: str, title: str, wall: str) -> Figure:
        values = tuple(60 * each * run["trials"] / run[wall] for run in runs)
        return Figure(name=name, title=title, unit=f"{what}/min", better="higher", runs=values)

    return [
        figure(name, f"  {what} a minute", "wall"),
        figure(f"{name}.plain", "  in the plain loop", "plain"),
    ]


def _first(name: str, runs: list[Run], seconds: float) -> Figure:
    values = tuple(run["first"] - seconds for run in runs)
    return Figure(name=name, title="  before the first trial begins", unit="s", runs=values)


def prepare_for_fits(folder: str) -> list[str]:
    """Simulate two sections and prepare them with small patches; returns shards. For a fresh process."""
    from senca_ray.config import PrepareConfig
    from senca_ray.data.prepare import prepare
    from senca_ray.data.synthetic import simulate_cohort

    data = Path(folder) / "cohort"
    simulate_cohort(data, patients=1, sections_per_patient=2)
    # A fit sees the same number of features whatever the size of the patches was.
    prepared = prepare(data, Path(folder) / "shards", config=PrepareConfig(patch_pixels=64))
    return list(prepared.shards.values())


def through_engine(
    seconds: float = 0.0, shards: list[str] | None = None, trials_a_core: int = _TRIALS_A_CORE
) -> Run:
    """Run the study; returns cpus, trials, startup, first (trial ended) and wall. For a fresh process."""
    started = time.perf_counter()
    import ray

    from senca_ray import cluster
    from senca_ray.analysis.aggregator import aggregator
    from senca_ray.study.grid import GridPlan
    from senca_ray.study.runner import run_plan

    with tempfile.TemporaryDirectory(prefix="senca-bench-") as folder, cluster.connected():
        _rest()
        cpus = cluster.cpus()
        todo, work = trials_of(trials_a_core * cpus, shards), _work(seconds, shards)
        ended: list[float] = []
        begun = time.perf_counter()
        sink = aggregator(Path(folder))
        run_plan(
            GridPlan(todo, lambda trial: False),
            sink,
            Path(folder),
            lambda number: ended.append(time.perf_counter()),
            run=work,
        )
        wall = time.perf_counter() - begun
        rows = ray.get(sink.progress.remote())
    if rows[keys.FAILED] or len(ended) != len(todo):
        raise SencaError(
            f"{len(ended)} of {len(todo)} trials ended and {rows[keys.FAILED]} rows failed; expected all of "
            "them to end well: see whether a study of the same kind does"
        )
    return {
        "cpus": cpus,
        "trials": len(todo),
        "startup": begun - started,
        "first": ended[0] - begun,
        "wall": wall,
    }


def _rest() -> None:
    """Wait until a cluster just started uses little of a core.

    Ray answers while its agents, and the processes that it holds ready, are still being imported.
    """
    import psutil  # type: ignore[import-untyped]

    end, used = time.monotonic() + _START_LIMIT, math.inf
    while used > _AT_REST and time.monotonic() < end:
        before = _cpu_seconds(psutil.Process().children(recursive=True))
        time.sleep(1)
        used = _cpu_seconds(psutil.Process().children(recursive=True)) - before


def _cpu_seconds(processes: list[Any]) -> float:
    import psutil

    found = 0.0
    for process in processes:
        with contextlib.suppress(psutil.Error):
            times = process.cpu_times()
            found += float(times.user + times.system)
    return found


def plain_loop(processes: int, trials: int, seconds: float = 0.0, shards: list[str] | None = None) -> float:
    """Seconds of the same trials in a pool of warm processes. For a fresh process."""
    todo = trials_of(trials, shards)
    work = _work(seconds, shards)
    context = multiprocessing.get_context("spawn")
    ready = context.Barrier(processes + 1)
    warm_up = functools.partial(work, todo[0]) if shards else None
    with context.Pool(processes, _come_up, (ready, warm_up)) as pool:
        ready.wait(_START_LIMIT)
        started = time.perf_counter()
        for rows in pool.imap_unordered(work, todo, chunksize=1):
            if any(row[keys.STATUS] != keys.OK for row in rows):
                raise SencaError(f"a trial of the plain loop failed: {rows[0].get(keys.REASON)}")
        return time.perf_counter() - started


def _come_up(ready: Any, warm_up: Callable[[], object] | None) -> None:
    """Load what trials need, in every process of the pool before the first trial begins."""
    import senca_ray.bench.burn  # noqa: F401

    if warm_up is not None:
        warm_up()
    ready.wait(_START_LIMIT)


def trials_of(count: int, shards: list[str] | None) -> list[Trial]:
    """Trials that burn CPU (one seed), or, over shards, fits of five seeds."""
    from senca_ray.bench.rows import made_up_trial
    from senca_ray.methods import MODEL

    seeds, addresses = (_SEEDS, shards) if shards else (1, [""])
    return [
        made_up_trial(MODEL, f"trial={i}", f"S{i % len(addresses)}", seeds, addresses[i % len(addresses)])
        for i in range(count)
    ]


def _work(seconds: float, shards: list[str] | None) -> Callable[..., list[dict[str, Any]]]:
    if shards:
        from senca_ray.study.run_trial import run_trial

        return run_trial
    from senca_ray.bench.burn import burn_trial

    return functools.partial(burn_trial, seconds=seconds)
