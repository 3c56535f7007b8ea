"""Proof: how many trials a second the engine keeps going, at 4, 16 and 64 slots on one machine.

Trials that sleep, so that 64 of them run beside each other on any machine; everything else is as in a study:
the queue, Ray Tune, workers that are used again, rows that are on disk before a trial counts as ended. The
limit is slots / seconds of a trial; what is missing to it is the engine's. On a machine with few cores that
is too much, because the workers' own overhead runs on the driver's cores.

    .venv/bin/python proofs/slots.py          # about 7 minutes; writes proofs/results/slots.json
    .venv/bin/python proofs/slots.py --slots 16 --lengths 1 2 --profile driver.prof

Fails where a trial is lost, or where realistic trials (5 fits of 1 s) at 16 slots come to less than 0.9 of
the limit.
"""

from __future__ import annotations

import argparse
import datetime
import functools
import itertools
import json
import math
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

SLOTS, LENGTHS = (4, 16, 64), (0.5, 1.0, 2.0, 4.0, 8.0)
"""Trials at once; seconds of a trial."""
SEEDS = 5
"""Of a trial, so six rows with their consensus."""
WAVES, PHASE_SECONDS, FASTEST = 3, 12.0, 20.0
"""Trials of one length: at least so many for each slot, else those of so many seconds at no more a second."""
WANTED, REALISTIC = 0.9, (16, 5.0)
"""Share of the limit, and the slots and seconds at which it is demanded."""
DOCUMENTED = "10,000 trials of 1 s on 16 CPUs in 715 s: 14.0 trials/s, 0.87 of the limit"
"""https://docs.ray.io/en/latest/tune/tutorials/tune-scalability.html"""
RESULT = Path(__file__).parent / "results" / "slots.json"


def main() -> None:
    """Measure each number of slots in a process of its own."""
    options = argparse.ArgumentParser()
    options.add_argument("--slots", type=int, nargs="+", default=SLOTS)
    options.add_argument("--lengths", type=float, nargs="+", default=LENGTHS)
    options.add_argument("--profile", help="write the driver's cProfile here")
    options.add_argument("--out", type=Path, help="of one number of slots: write its figures here, and end")
    given = options.parse_args()
    if given.out:
        given.out.write_text(json.dumps(measure(given.slots[0], tuple(given.lengths), given.profile)))
        return
    measured = []
    for slots in given.slots:
        print(f"{slots} slots: starting as many workers", flush=True)
        measured.append(_in_a_process(slots, given.lengths, given.profile))
        _tell(measured[-1])
    if problem := _problem(measured):
        sys.exit(problem)
    if set(given.slots) == set(SLOTS) and set(given.lengths) == set(LENGTHS):
        _write(measured)


def _in_a_process(slots: int, lengths: list[float], profile: str | None) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="senca-slots-") as folder:
        out = Path(folder) / "figures.json"
        command = [sys.executable, __file__, "--out", out, "--slots", slots, "--lengths", *lengths]
        ran = subprocess.run([*map(str, command), *(["--profile", profile] if profile else [])], check=False)
        if ran.returncode:
            sys.exit(f"{slots} slots: the study failed (exit code {ran.returncode})")
        figures: dict[str, Any] = json.loads(out.read_text())
        return figures


def measure(slots: int, lengths: tuple[float, ...], profile: str | None) -> dict[str, Any]:
    """Run one study of sleeping trials, length after length, and read off how fast they ended."""
    import ray

    from senca_ray import cluster, keys
    from senca_ray.analysis.aggregator import aggregator
    from senca_ray.study.grid import GridPlan
    from senca_ray.study.runner import run_plan

    # Ray's patience at the start, for a machine that has more to do.
    for name, value in (cluster._ENVIRONMENT | {"RAY_raylet_start_wait_time_s": "120"}).items():
        os.environ.setdefault(name, value)
    with tempfile.TemporaryDirectory(prefix="senca-slots-") as temporary:
        folder, times = Path(temporary) / "study", Path(temporary) / "times"
        times.mkdir()
        # Memory is what the machine is said to have: workers that sleep use little of it.
        ray.init(address="local", num_cpus=slots, _memory=2**40, include_dashboard=False, log_to_driver=False)
        with cluster.connected():
            todo = _trials("warm", slots) + [t for s in lengths for t in _trials(f"{s:g}", _count(slots, s))]
            sink, work = aggregator(folder), functools.partial(sleep_trial, slots=slots, times=str(times))
            began, used = time.time(), _cpu_seconds()
            with _profiled(profile):
                run_plan(GridPlan(todo, lambda trial: False), sink, folder, lambda ended: None, run=work)
            used = _cpu_seconds() - used
            rows = ray.get(sink.progress.remote())
        stamps = [
            json.loads(line) for file in times.glob("*.times") for line in file.read_text().splitlines()
        ]
    if len(stamps) != len(todo) or rows[keys.FAILED]:
        sys.exit(f"{slots} slots: {len(stamps)} of {len(todo)} trials ended, {rows[keys.FAILED]} rows failed")
    up = max(stamp["end"] for stamp in stamps if stamp["length"] == "warm")
    return {
        "slots": slots,
        "workers_up_seconds": round(up - began, 1),
        "driver_cpu_seconds_a_trial": round(used / len(todo), 4),
        "driver_memory_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        "lengths": [_figures(slots, seconds, stamps) for seconds in lengths],
    }


def sleep_trial(
    trial: Any, *, slots: int, times: str, device: str = "cpu", checkpoint: object = None
) -> list[dict[str, Any]]:
    """In place of `run_trial`: sleep as long as the trial's label says, note when, return made-up rows."""
    import numpy as np

    from senca_ray import keys
    from senca_ray.bench.rows import made_up_rows

    length, began = trial.label.split()[0], time.time()
    if length == "warm":
        # Until as many workers are up as there are slots: from here on nothing starts any more.
        (Path(times) / f"{os.getpid()}.up").touch()
        while len(list(Path(times).glob("*.up"))) < slots:
            time.sleep(0.2)
    else:
        time.sleep(float(length))
    with (Path(times) / f"{os.getpid()}.times").open("a") as file:
        stamp = {"length": length, "worker": os.getpid(), "start": began, "end": time.time()}
        file.write(json.dumps(stamp) + "\n")
    return [row | {keys.PEAK_MEMORY_MB: 100.0} for row in made_up_rows(trial, np.random.default_rng(0))]


def _trials(length: str, count: int) -> list[Any]:
    from senca_ray.bench.rows import made_up_trial
    from senca_ray.methods import MODEL

    return [made_up_trial(MODEL, f"{length} {i}", "S0", SEEDS) for i in range(count)]


def _count(slots: int, seconds: float) -> int:
    wanted = PHASE_SECONDS * min(slots / seconds, FASTEST)
    return slots * max(WAVES, math.ceil(wanted / slots))


def _figures(slots: int, seconds: float, stamps: list[dict[str, Any]]) -> dict[str, Any]:
    """Of the trials of one length: how fast they ended once all slots had one; how long a slot was empty."""
    of_length = [stamp for stamp in stamps if stamp["length"] == f"{seconds:g}"]
    ends = sorted(stamp["end"] for stamp in of_length)
    # The trials before were shorter or longer: the first of this length come as those end.
    rate = (len(ends) - slots) / (ends[-1] - ends[slots - 1])
    starts: dict[int, list[dict[str, Any]]] = {}
    for stamp in of_length:
        starts.setdefault(stamp["worker"], []).append(stamp)
    gaps = [
        after["start"] - before["end"] for run in starts.values() for before, after in itertools.pairwise(run)
    ]
    return {
        "seconds": seconds,
        "trials": len(ends),
        "trials_a_second": round(rate, 2),
        "of_the_limit": round(rate * seconds / slots, 3),
        "empty_between_two_ms": round(1000 * statistics.median(gaps)),
    }


class _profiled:
    """Profile the block, where that is asked for."""

    def __init__(self, file: str | None) -> None:
        import cProfile

        self._file, self._profile = file, cProfile.Profile()

    def __enter__(self) -> None:
        if self._file:
            self._profile.enable()

    def __exit__(self, *error: object) -> None:
        if self._file:
            self._profile.disable()
            self._profile.dump_stats(self._file)


def _cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _tell(figures: dict[str, Any]) -> None:
    for length in figures["lengths"]:
        print(
            f"  {length['seconds']:>4g} s: {length['trials_a_second']:6.2f} trials/s of "
            f"{figures['slots'] / length['seconds']:6.2f} ({length['of_the_limit']:.2f}), "
            f"a slot is empty for {length['empty_between_two_ms']} ms",
            flush=True,
        )
    print(
        f"  workers up after {figures['workers_up_seconds']:g} s; the driver's process: "
        f"{1000 * figures['driver_cpu_seconds_a_trial']:.0f} ms of CPU a trial",
        flush=True,
    )


def _problem(measured: list[dict[str, Any]]) -> str | None:
    slots, seconds = REALISTIC
    for figures in measured:
        reached = [x for x in figures["lengths"] if x["seconds"] <= seconds]
        if figures["slots"] == slots and reached and max(x["of_the_limit"] for x in reached) < WANTED:
            return f"{slots} slots: trials of up to {seconds:g} s stay below {WANTED} of the limit"
    return None


def _summary(figures: dict[str, Any]) -> dict[str, Any]:
    """The highest rate, the shortest trial that reached 0.9, and the one that the rate alone would allow."""
    rate = max(length["trials_a_second"] for length in figures["lengths"])
    reached = [length["seconds"] for length in figures["lengths"] if length["of_the_limit"] >= WANTED]
    return {
        "most_trials_a_second": rate,
        "shortest_seconds_measured": min(reached, default=None),
        "shortest_seconds_by_rate": round(WANTED * figures["slots"] / rate, 2),
    }


def _write(measured: list[dict[str, Any]]) -> None:
    from senca_ray.bench.machine import describe
    from senca_ray.files import write_json

    result = {
        "date": datetime.date.today().isoformat(),
        "machine": describe(),
        "load_average_at_the_end": os.getloadavg()[0],
        "seeds": SEEDS,
        "documented_by_ray": DOCUMENTED,
        "measured": [figures | _summary(figures) for figures in measured],
    }
    RESULT.parent.mkdir(exist_ok=True)
    write_json(RESULT, result)
    print(f"written to {RESULT}")


if __name__ == "__main__":
    main()
