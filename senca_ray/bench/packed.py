"""How many fine-tuning trials the engine puts on a card side by side, and how busy they keep it."""

from __future__ import annotations

import dataclasses
import functools
import json
import subprocess
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from senca_ray import keys
from senca_ray.bench.figure import Figure
from senca_ray.bench.process import fresh
from senca_ray.errors import SencaError

if TYPE_CHECKING:
    from senca_ray.study.trial import Trial

_SIDE_BY_SIDE = 16
"""Trials that shall be on the card at once."""
_TRIALS, _SEEDS = 64, 3
_ASK = ("nvidia-smi", "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits", "--loop-ms=500")

Times = list[tuple[float, float]]
"""Begin and end of each trial, seconds since the epoch."""


def measure(shard: str, device: str, repeat: int, say: Callable[[str], None]) -> list[Figure]:
    """Trials side by side and how busy the card was with them; `shard` is a section with patches."""
    runs = []
    for run in range(repeat):
        say(f"trials side by side, {run + 1} of {repeat}")
        runs.append(fresh(through_engine, shard=shard))
    note = f"{_TRIALS} fine-tuning trials of {_SEEDS} seeds, {runs[0]['cpus']:.0f} cores, {device}"

    def figure(what: str, title: str, unit: str, bound: float | None) -> Figure:
        values = tuple(run[what] for run in runs)
        return Figure(
            name=f"gpu.packed.{what}",
            title=title,
            unit=unit,
            runs=values,
            better="higher",
            bound=bound,
            note=note,
        )

    return [
        figure("most", "trials side by side on the card", "trials", _SIDE_BY_SIDE),
        figure("busy", "  the card is busy meanwhile", "%", 90.0),
        figure("rate", "  trials a minute", "trials/min", None),
    ]


def through_engine(
    shard: str, trials: int = _TRIALS, seeds: int = _SEEDS, epochs: int = 10
) -> dict[str, float]:
    """Run fine-tuning trials as a study does; most at once, busy (%), rate, cpus. For a fresh process."""
    import ray

    from senca_ray import cluster
    from senca_ray.analysis.aggregator import aggregator
    from senca_ray.bench.rows import made_up_trial
    from senca_ray.config import Setting
    from senca_ray.methods import MODEL
    from senca_ray.study.grid import GridPlan
    from senca_ray.study.runner import run_plan

    setting = Setting(finetune=True, epochs=epochs)
    todo = [
        dataclasses.replace(made_up_trial(MODEL, f"trial={i}", "S0", seeds, shard), setting=setting)
        for i in range(trials)
    ]
    with tempfile.TemporaryDirectory(prefix="senca-bench-") as folder, cluster.connected():
        cpus, notes = cluster.cpus(), Path(folder) / "times"
        notes.mkdir()
        sink = aggregator(Path(folder))
        with watched() as samples:
            run_plan(
                GridPlan(todo, lambda trial: False),
                sink,
                Path(folder),
                lambda number: None,
                run=functools.partial(noted_trial, notes=str(notes)),
            )
        rows = ray.get(sink.progress.remote())
        times: Times = [tuple(json.loads(path.read_text())) for path in notes.iterdir()]
    if rows[keys.FAILED] or len(times) != trials:
        raise SencaError(
            f"{len(times)} of {trials} trials ended, {rows[keys.FAILED]} rows failed; expected all well"
        )
    most = most_at_once(times)
    wall = max(end for _, end in times) - min(begin for begin, _ in times)
    busy = busy_while(samples, times, min(most, _SIDE_BY_SIDE))
    return {"most": most, "busy": busy, "rate": 60 * trials / wall, "cpus": cpus}


def noted_trial(
    trial: Trial, *, notes: str, device: str = "cpu", checkpoint: Any = None
) -> list[dict[str, Any]]:
    """`run_trial`, leaving when it began and ended in a file below `notes`."""
    from senca_ray.study.run_trial import run_trial

    begin = time.time()
    rows = run_trial(trial, device, checkpoint)
    (Path(notes) / uuid.uuid4().hex).write_text(json.dumps((begin, time.time())))
    return rows


def most_at_once(times: Times) -> int:
    """The largest number of trials under way at any moment."""
    return max(sum(begin <= moment < end for begin, end in times) for moment, _ in times)


def busy_while(samples: list[tuple[float, float]], times: Times, least: int) -> float:
    """Mean of samples (moment, per cent) taken while so many trials or more were under way.

    Raises SencaError where none was taken.
    """
    found = [busy for moment, busy in samples if sum(begin <= moment < end for begin, end in times) >= least]
    if not found:
        raise SencaError(
            f"nvidia-smi told nothing while {least} trials were under way; see whether it runs here"
        )
    return sum(found) / len(found)


@contextmanager
def watched() -> Iterator[list[tuple[float, float]]]:
    """Have nvidia-smi say twice a second how busy the first card is; gives (moment, per cent)."""
    samples: list[tuple[float, float]] = []
    try:
        process = subprocess.Popen(  # noqa: S603  fixed arguments, no shell
            _ASK, stdout=subprocess.PIPE, text=True
        )
    except OSError as error:
        raise SencaError(f"nvidia-smi, which says how busy a card is, cannot be run ({error})") from None

    def listen() -> None:
        for line in process.stdout or ():
            if line.strip().isdigit():
                samples.append((time.time(), float(line)))

    thread = threading.Thread(target=listen, daemon=True)
    with process:
        thread.start()
        try:
            yield samples
        finally:
            process.terminate()
            thread.join()
