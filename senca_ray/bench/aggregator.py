"""Figure `aggregator`: result rows a second through the real actor, and seconds of their summary."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from senca_ray.bench.figure import Figure
from senca_ray.bench.process import fresh

_METHODS = ("senca", "untrained", "smoothed-pca", "smoothed-image", "coordinates")
_SETTINGS, _SECTIONS, _SEEDS = 5, 25, 15
"""5 methods x 5 settings x 25 sections = 625 trials of 15 seeds and their consensus: 10,000 rows."""
_DEFAULT = "setting=0"
_IN_FLIGHT = 16


def measure(repeat: int, say: Callable[[str], None]) -> list[Figure]:
    """Rows a second with one sender and with 16, and the summary of 10,000 rows."""
    runs = []
    for run in range(repeat):
        say(f"10,000 rows, {run + 1} of {repeat}")
        runs.append(fresh(store_and_summarise))
    return [
        Figure(
            name="aggregator.rate",
            title=f"rows stored, {_IN_FLIGHT} batches under way",
            unit="rows/s",
            better="higher",
            bound=1000.0,
            runs=tuple(r["rate"] for r in runs),
            note="10,000 rows of 600 spots in batches of 16, every batch acknowledged when on disk",
        ),
        Figure(
            name="aggregator.rate_one",
            title="rows stored, each batch awaited",
            unit="rows/s",
            better="higher",
            runs=tuple(r["rate_one"] for r in runs),
        ),
        Figure(
            name="aggregator.summary",
            title="tables and summary of 10,000 rows",
            unit="s",
            bound=2.0,
            runs=tuple(r["summary"] for r in runs),
        ),
    ]


def store_and_summarise(
    settings: int = _SETTINGS, sections: int = _SECTIONS, seeds: int = _SEEDS
) -> dict[str, float]:
    """Store a made-up study twice, then summarise it; returns rates and seconds. For a fresh process."""
    from senca_ray import cluster
    from senca_ray.analysis.results import read_results, write_tables
    from senca_ray.analysis.tables import sweep_summary

    batches = list(_batches(settings, sections, seeds))
    with tempfile.TemporaryDirectory(prefix="senca-bench-") as folder:
        with cluster.connected():
            rate_one = _store(Path(folder) / "one", batches, in_flight=1)
            rate = _store(Path(folder) / "many", batches, in_flight=_IN_FLIGHT)
        started = time.perf_counter()
        write_tables(Path(folder) / "many")
        sweep_summary(read_results(Path(folder) / "many"), _DEFAULT)
        summary = time.perf_counter() - started
    return {"rate": rate, "rate_one": rate_one, "summary": summary}


def _batches(settings: int, sections: int, seeds: int) -> Iterator[list[dict[str, Any]]]:
    import numpy as np

    from senca_ray.bench.rows import made_up_rows, made_up_trial

    rng = np.random.default_rng(0)
    for section in range(sections):
        for setting in range(settings):
            for method in _METHODS:
                name = f"{chr(ord('A') + section % 26)}{section // 26 + 1}"
                yield made_up_rows(made_up_trial(method, f"setting={setting}", name, seeds), rng)


def _store(folder: Path, batches: list[list[dict[str, Any]]], *, in_flight: int) -> float:
    """Rows a second from the first batch sent to the last one acknowledged."""
    import ray

    from senca_ray.analysis.aggregator import aggregator

    sink = aggregator(folder)
    ray.get(sink.keys.remote())  # the actor is up
    started = time.perf_counter()
    pending: list[Any] = []
    for batch in batches:
        if len(pending) == in_flight:
            ready, pending = ray.wait(pending)
            ray.get(ready)
        pending.append(sink.append.remote(batch))
    ray.get(pending)
    return sum(map(len, batches)) / (time.perf_counter() - started)
