"""Figure `cohort`: that preparing a thousand sections costs the driver no more memory than ten, and speeds up
with cores. Sections are tiny and without image, so this is about the way, not about the work on each."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from senca_ray.bench.figure import Figure
from senca_ray.bench.process import fresh, peak_memory_mb

_FEW, _MANY = 10, 1000
_SPEED = 200
"""Sections prepared with one core and with all."""
_COLUMNS, _ROWS, _GENES = 12, 10, 150


def measure(repeat: int, say: Callable[[str], None]) -> list[Figure]:
    """Prepare ten and a thousand sections, and some with one core and with all, each in a fresh process."""
    memory: dict[int, list[float]] = {_FEW: [], _MANY: []}
    cores = os.cpu_count() or 1
    rates: dict[int, list[float]] = {1: [], cores: []}
    with tempfile.TemporaryDirectory(prefix="senca-bench-") as folder:
        for count in (_FEW, _SPEED, _MANY):
            say(f"writing {count:,} sections")
            write_cohort(Path(folder) / str(count), count)
        for run in range(repeat):
            for count, cpus, into in (
                *((count, cores, memory[count]) for count in memory),
                *((_SPEED, cpus, rates[cpus]) for cpus in rates),
            ):
                say(f"preparing {count:,} sections on {cpus} cores, {run + 1} of {repeat}")
                store = tempfile.mkdtemp(dir=folder)
                found = fresh(prepare_cohort, data=str(Path(folder) / str(count)), store=store, cpus=cpus)
                into.append(found["driver_mb"] if into in memory.values() else _SPEED / found["seconds"])
    note = f"{_COLUMNS * _ROWS} spots, {_GENES} genes, no image"
    growth = tuple(many - few for many, few in zip(memory[_MANY], memory[_FEW], strict=True))
    figures = [
        Figure(
            name=f"cohort.memory.{count}",
            title=f"  driver's peak memory, {count:,} sections",
            unit="MB",
            runs=tuple(memory[count]),
            note=note,
        )
        for count in memory
    ]
    figures.append(
        Figure(
            name="cohort.memory.growth",
            title="  the difference",
            unit="MB",
            runs=growth,
            bound=_ALLOWED_MB,
            note="a thousand sections of this cohort hold 150 MB as counts",
        )
    )
    figures += [
        Figure(
            name=f"cohort.rate.{'one' if cpus == 1 else 'all'}",
            title=f"cohort, {cpus} core{'s' if cpus > 1 else ''}",
            unit="sections/s",
            better="higher",
            runs=tuple(runs),
            note=f"{_SPEED} sections, Ray was up; {note}",
        )
        for cpus, runs in rates.items()
    ]
    return figures


_ALLOWED_MB = 40.0
"""Growth that counts as none: names, paths and fingerprints of a thousand sections, and Ray's bookkeeping."""


def write_cohort(root: Path, sections: int) -> None:
    """Write sections without image in the HER2ST folder layout, all different."""
    folder = root / "ST-cnts"
    folder.mkdir(parents=True)
    header = "\t".join(["", *(f"G{i}" for i in range(_GENES))])
    names = [f"{x}x{y}" for y in range(_ROWS) for x in range(_COLUMNS)]
    rates = np.random.default_rng(0).gamma(1.0, 2.0, _GENES)
    for number in range(sections):
        counts = np.random.default_rng(number).poisson(rates, (len(names), _GENES)).tolist()
        rows = ["\t".join([name, *map(str, row)]) for name, row in zip(names, counts, strict=True)]
        (folder / f"S{number}.tsv").write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")


def prepare_cohort(data: str, store: str, cpus: int) -> dict[str, float]:
    """Prepare on a local cluster of so many cores; returns seconds and peak memory. For a fresh process."""
    import ray

    from senca_ray.data.prepare import prepare

    ray.init(address="local", num_cpus=cpus, include_dashboard=False, log_to_driver=False)
    started = time.perf_counter()
    prepare(Path(data), Path(store))
    seconds = time.perf_counter() - started
    ray.shutdown()
    return {"seconds": seconds, "driver_mb": peak_memory_mb()}
