"""Figure `prepare`: spots a second and memory of preparing two sections of the simulated cohort."""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

from senca_ray.bench.figure import Figure
from senca_ray.bench.process import fresh, peak_memory_mb

_SECTIONS = 2
_LOOK = 0.2
"""Seconds between two looks at the workers: the kernel keeps their peaks while they live."""


def measure(repeat: int, say: Callable[[str], None]) -> list[Figure]:
    """Simulate two sections once and prepare them anew in every run, encoder and all."""
    runs = []
    with tempfile.TemporaryDirectory(prefix="senca-bench-") as folder:
        data = Path(folder) / "cohort"
        say("simulating two sections")
        fresh(simulate, data=str(data))
        for run in range(repeat):
            say(f"preparing two sections, {run + 1} of {repeat}")
            runs.append(fresh(prepare_sections, data=str(data), store=str(Path(folder) / f"shards-{run}")))
    note = f"{_SECTIONS} simulated sections, {runs[0]['spots']:.0f} spots, default encoder, Ray was up"
    figures = [
        Figure(
            name="prepare.rate",
            title="prepare",
            unit="spots/s",
            better="higher",
            runs=tuple(r["spots"] / r["seconds"] for r in runs),
            note=note,
        )
    ]
    for who in ("driver", "worker"):
        peaks = tuple(r[f"{who}_mb"] for r in runs)
        if all(peaks):  # other processes can only be looked into on Linux
            title = f"  peak memory, {'largest worker' if who == 'worker' else who}"
            figures.append(Figure(name=f"prepare.memory.{who}", title=title, unit="MB", runs=peaks))
    return figures


def simulate(data: str) -> None:
    """Write the raw sections. For a fresh process, which keeps the command itself small."""
    from senca_ray.data.synthetic import simulate_cohort

    simulate_cohort(Path(data), patients=1, sections_per_patient=_SECTIONS)


def prepare_sections(data: str, store: str) -> dict[str, float]:
    """Prepare on a local cluster; returns spots, seconds and peak memories. For a fresh process."""
    from senca_ray import cluster
    from senca_ray.data.prepare import prepare
    from senca_ray.data.shards import read_meta

    with cluster.connected(), _Watch() as watch:
        started = time.perf_counter()
        prepared = prepare(Path(data), Path(store))
        seconds = time.perf_counter() - started
    return {
        "spots": float(sum(read_meta(uri)["spots"] for uri in prepared.shards.values())),
        "seconds": seconds,
        "driver_mb": peak_memory_mb(),
        "worker_mb": watch.largest_mb,
    }


class _Watch:
    """Keeps the largest peak memory of any Ray worker below this process while its block runs."""

    def __init__(self) -> None:
        self.largest_mb = 0.0
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._keep_looking, daemon=True)

    def __enter__(self) -> _Watch:
        self._thread.start()
        return self

    def __exit__(self, *failure: object) -> None:
        self._end.set()
        self._thread.join()

    def _keep_looking(self) -> None:
        while not self._end.wait(_LOOK):
            self._look()
        self._look()  # the workers are still there: their cluster ends after this block

    def _look(self) -> None:
        import psutil  # type: ignore[import-untyped]

        for process in psutil.Process().children(recursive=True):
            try:
                is_worker = process.name().startswith("ray::")
            except psutil.NoSuchProcess:
                continue
            if is_worker:
                self.largest_mb = max(self.largest_mb, peak_memory_mb(process.pid))
