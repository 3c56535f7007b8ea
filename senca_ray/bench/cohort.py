"""Figure `cohort`: that preparing a thousand sections costs the driver no more memory than ten, and that
sections are prepared faster on more cores. All are simulated, without image.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from senca_ray import cluster
from senca_ray.bench.figure import Figure
from senca_ray.bench.process import fresh, peak_memory_mb

_FEW, _MANY = 10, 1000
_TINY, _USUAL = (12, 10, 150), (25, 24, 2000)
"""Columns and rows of spots, and genes: of sections that are about the way alone, and of ordinary ones."""
_TIMED = 150
"""Ordinary sections prepared on one core and on all: so many that the start of workers hardly counts."""
_DIFFERENT = 20
"""Sections with counts of their own; more have the same ones again, under other names."""


def measure(repeat: int, say: Callable[[str], None]) -> list[Figure]:
    """Prepare ten and a thousand tiny sections, and ordinary ones on one core and on all, each run afresh."""
    memory: dict[int, list[float]] = {_FEW: [], _MANY: []}
    cores = os.cpu_count() or 1
    rates: dict[int, list[float]] = {1: [], cores: []}
    with tempfile.TemporaryDirectory(prefix="senca-bench-") as folder:
        say(f"writing {_FEW + _MANY + _TIMED:,} sections")
        for count in memory:
            write_cohort(Path(folder) / str(count), count, _TINY)
        write_cohort(Path(folder) / "usual", _TIMED, _USUAL)
        for run in range(repeat):
            for count, found in memory.items():
                say(f"preparing {count:,} sections, {run + 1} of {repeat}")
                found.append(_prepared(folder, str(count), cores)["driver_mb"])
            for cpus, speeds in rates.items():
                say(f"preparing {_TIMED} sections, cores: {cpus}, {run + 1} of {repeat}")
                speeds.append(_TIMED / _prepared(folder, "usual", cpus)["seconds"])
    tiny, usual = (f"{c * r} spots, {g:,} genes, no image" for c, r, g in (_TINY, _USUAL))
    growth = tuple(many - few for many, few in zip(memory[_MANY], memory[_FEW], strict=True))
    figures = [
        Figure(
            name=f"cohort.memory.{count}",
            title=f"  driver's peak memory, {count:,} sections",
            unit="MB",
            runs=tuple(memory[count]),
            note=tiny,
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
            note=f"{_TIMED} sections of {usual}; Ray and its workers were up",
        )
        for cpus, runs in rates.items()
    ]
    return figures


_ALLOWED_MB = 40.0
"""Growth that counts as none: names, paths and fingerprints of a thousand sections, and Ray's bookkeeping."""


def _prepared(folder: str, name: str, cpus: int) -> dict[str, float]:
    data, warm = Path(folder) / name, Path(folder) / str(_FEW)
    store = tempfile.mkdtemp(dir=folder)
    found: dict[str, float] = fresh(prepare_cohort, data=str(data), warm=str(warm), store=store, cpus=cpus)
    return found


def write_cohort(root: Path, sections: int, size: tuple[int, int, int]) -> None:
    """Write sections of (columns, rows, genes) in the HER2ST folder layout."""
    columns, rows, genes = size
    folder = root / "ST-cnts"
    folder.mkdir(parents=True)
    header = "\t".join(["", *(f"G{i}" for i in range(genes))])
    names = [f"{x}x{y}" for y in range(rows) for x in range(columns)]
    rates = np.random.default_rng(0).gamma(1.0, 2.0, genes)
    for number in range(min(sections, _DIFFERENT)):
        counts = np.random.default_rng(number).poisson(rates, (len(names), genes)).tolist()
        lines = ["\t".join([name, *map(str, row)]) for name, row in zip(names, counts, strict=True)]
        (folder / f"S{number}.tsv").write_text("\n".join([header, *lines]) + "\n", encoding="utf-8")
    for number in range(_DIFFERENT, sections):
        (folder / f"S{number}.tsv").hardlink_to(folder / f"S{number % _DIFFERENT}.tsv")


def prepare_cohort(data: str, warm: str, store: str, cpus: int) -> dict[str, float]:
    """Prepare `warm`, then `data`, on a local cluster of so many cores. For a fresh process.

    Returns the seconds of the latter, and the peak memory of the process.
    """
    import ray

    from senca_ray.data.prepare import prepare

    cluster.start_local(cpus)
    prepare(warm, Path(store) / "warm")
    started = time.perf_counter()
    prepare(data, Path(store) / "shards")
    seconds = time.perf_counter() - started
    ray.shutdown()
    return {"seconds": seconds, "driver_mb": peak_memory_mb()}
