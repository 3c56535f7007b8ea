"""Figure `fit`: seconds, stages and memory of fitting one section of 600 spots, and what more seeds cost."""

from __future__ import annotations

import itertools
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from senca_ray import keys
from senca_ray.bench.figure import Figure
from senca_ray.bench.process import fresh, peak_memory_mb
from senca_ray.errors import SencaError

_MODALITIES = {"image": "with image", "rna": "without image"}
_STAGES = ("embed", "cluster", "score")
_SEEDS = 15
_NOTE = "600 spots, 500 HVGs, 10 epochs, cached features, one core"


def measure(repeat: int, say: Callable[[str], None]) -> list[Figure]:
    """Fits of one seed by modality and stage; 15 seeds in a loop."""
    with tempfile.TemporaryDirectory(prefix="senca-bench-") as folder:
        shards = fresh(write_sections, store=folder)
        figures = []
        for modality, title in _MODALITIES.items():
            say(f"fitting {title}")
            runs = [fresh(fit_section, shard=shards[modality]) for _ in range(repeat)]
            figures += _of_one_seed(modality, title, runs)
        loops = []
        for run in range(repeat):
            say(f"{_SEEDS} seeds in a loop, {run + 1} of {repeat}")
            loops.append(fresh(loop_over_seeds, shard=shards["image"], loop_first=run % 2 == 0))
        figures.append(
            Figure(
                name="fit.seeds.loop",
                title=f"a trial of {_SEEDS} seeds / {_SEEDS} plain fits",
                unit="ratio",
                runs=tuple(loops),
                bound=1.1,
                note="with image; the trial combines its seeds as well",
            )
        )
        return figures


def _of_one_seed(modality: str, title: str, runs: list[dict[str, float]]) -> list[Figure]:
    def figure(what: str, title: str, unit: str, bound: float | None) -> Figure:
        values = tuple(run[what] for run in runs)
        return Figure(
            name=f"fit.{modality}.{what}", title=title, unit=unit, runs=values, bound=bound, note=_NOTE
        )

    return [
        figure("total", f"fit {title}", "s", 1.0),
        *(figure(stage, f"  of which {stage}", "s", None) for stage in _STAGES),
        figure("memory", "  peak memory of the process", "MB", 1000.0),
    ]


def write_sections(store: str) -> dict[str, str]:
    """Write a section a modality; returns their addresses. For a fresh process."""
    from senca_ray.bench.sections import write_section

    return {modality: write_section(Path(store), image=modality == "image") for modality in _MODALITIES}


def fit_section(shard: str) -> dict[str, float]:
    """Seconds of a fit and of its stages, and the peak memory of it all. For a fresh process."""
    from threadpoolctl import threadpool_limits

    from senca_ray.config import Setting
    from senca_ray.data.shards import read_sample
    from senca_ray.fit.regions import choose_k, cluster
    from senca_ray.fit.scores import score
    from senca_ray.methods import MODEL, method
    from senca_ray.methods.protocol import Protocol
    from senca_ray.methods.run import run

    model, setting, protocol = method(MODEL), Setting(), Protocol()
    sample = read_sample(shard, model.genes_needed(setting))
    # A worker is used again, so what the first fit of a process loads is not part of a fit.
    run(model, sample, setting, 0, protocol)
    total = run(model, sample, setting, 1, protocol).seconds
    with threadpool_limits(1):
        times = [time.perf_counter()]
        embedding = model.embed(sample, setting, 1).values
        times.append(time.perf_counter())
        k = choose_k(protocol.k_policy, sample, embedding, protocol.clustering)
        regions = cluster(embedding, k, protocol.clustering, 1)
        times.append(time.perf_counter())
        score(sample, embedding, regions)
        times.append(time.perf_counter())
    stages = (end - start for start, end in itertools.pairwise(times))
    return {"total": total, **dict(zip(_STAGES, stages, strict=True)), "memory": peak_memory_mb()}


def loop_over_seeds(shard: str, loop_first: bool, seeds: int = _SEEDS) -> float:
    """Seconds of a trial of all seeds divided by those of a fit a seed. For a fresh process."""
    from senca_ray.bench.rows import made_up_trial
    from senca_ray.data.shards import read_sample
    from senca_ray.methods import MODEL, method
    from senca_ray.methods.run import run
    from senca_ray.study.run_trial import run_trial

    trial = made_up_trial(MODEL, "default", "S0", seeds, shard)
    model = method(MODEL)

    def loop() -> None:
        if any(row[keys.STATUS] != keys.OK for row in run_trial(trial)):
            raise SencaError("a seed failed, so its time is no fit's; see whether `senca fit` works")

    def plain() -> None:
        sample = read_sample(shard, model.genes_needed(trial.setting))
        for seed in trial.seeds:
            run(model, sample, trial.setting, seed, trial.protocol)

    sample = read_sample(shard, model.genes_needed(trial.setting))
    run(model, sample, trial.setting, 0, trial.protocol)
    seconds = {}
    for work in (loop, plain) if loop_first else (plain, loop):
        started = time.perf_counter()
        work()
        seconds[work] = time.perf_counter() - started
    return seconds[loop] / seconds[plain]
