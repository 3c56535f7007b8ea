"""Figure `fit`: seconds, stages and memory of fitting one section of 600 spots, and what more seeds cost.

Neither this module nor what it measures with needs Ray, so it runs on a bare GPU machine as well.
"""

from __future__ import annotations

import dataclasses
import itertools
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from senca_ray import keys
from senca_ray.bench.figure import Figure
from senca_ray.bench.process import fresh, peak_memory_mb
from senca_ray.errors import SencaError

if TYPE_CHECKING:
    from senca_ray.data.sample import Sample

_MODALITIES = {"image": "with image", "rna": "without image"}
_STAGES = ("embed", "cluster", "score")
_SEEDS = 15
_PATCH_PIXELS = 224
_NOTE = "600 spots, 500 HVGs, 10 epochs, cached features, one core"


def measure(repeat: int, say: Callable[[str], None]) -> list[Figure]:
    """Fits of one seed by modality and stage; 15 seeds in a loop and, where there is a GPU, as a batch."""
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
        on_gpu = _on_gpu(shards["image"], repeat, say)
        return figures + on_gpu + (_finetuned(shards["image"], repeat, say) if on_gpu else [])


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


def _on_gpu(shard: str, repeat: int, say: Callable[[str], None]) -> list[Figure]:
    runs = []
    for run in range(repeat):
        say(f"{_SEEDS} seeds on a GPU, {run + 1} of {repeat}")
        measured = fresh(batch_of_seeds, shard=shard)
        if measured is None:
            return []  # no GPU here
        runs.append(measured)
    note = f"with image, {runs[0]['device']}"
    title = f"{_SEEDS} seeds batched / one seed"
    return [
        Figure(
            name="fit.gpu.one",
            title="one seed trained on the GPU",
            unit="s",
            runs=tuple(r["one"] for r in runs),
            note=note,
        ),
        Figure(
            name="fit.gpu.batch",
            title=f"  {title}, training",
            unit="ratio",
            runs=tuple(r["batch"] / r["one"] for r in runs),
            bound=2.0,
            note=note,
        ),
        Figure(
            name="fit.gpu.batch_whole",
            title=f"  {title}, with regions and scores",
            unit="ratio",
            runs=tuple(r["batch_whole"] / r["one_whole"] for r in runs),
            note=f"{note}; regions and scores take one core",
        ),
    ]


def _finetuned(shard: str, repeat: int, say: Callable[[str], None]) -> list[Figure]:
    runs = []
    for run in range(repeat):
        say(f"fine-tuning on a GPU, {run + 1} of {repeat}")
        runs.append(fresh(finetune_section, shard=shard))
    return [
        Figure(
            name="fit.gpu.finetune",
            title="one seed trained end to end on the GPU",
            unit="s",
            runs=tuple(r["seconds"] for r in runs),
            bound=15.0,
            note=f"600 patches of {_PATCH_PIXELS} px, ResNet18, 10 epochs, {runs[0]['device']}",
        )
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
    from senca_ray.study.trial import run_trial

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


def batch_of_seeds(shard: str) -> dict[str, Any] | None:
    """Seconds on a GPU of one seed and of 15 as a batch; None where there is no GPU. For a fresh process."""
    import torch

    if not torch.cuda.is_available():
        return None
    from senca_ray.config import Setting
    from senca_ray.data.shards import read_sample
    from senca_ray.methods.protocol import Protocol
    from senca_ray.methods.run import run_seeds
    from senca_ray.methods.senca import Senca

    model, setting, seeds = Senca(), Setting(), range(_SEEDS)
    sample = read_sample(shard, model.genes_needed(setting))
    work: dict[str, Callable[[], Sequence[object]]] = {
        "one": lambda: [model.embed(sample, setting, 0, "cuda")],
        "batch": lambda: model.embed_batch(sample, setting, seeds, "cuda"),
        "one_whole": lambda: list(run_seeds(model, sample, setting, seeds[:1], (Protocol(),), "cuda")),
        "batch_whole": lambda: list(run_seeds(model, sample, setting, seeds, (Protocol(),), "cuda")),
    }
    seconds: dict[str, Any] = {"device": torch.cuda.get_device_name()}
    for name, call in work.items():
        _all_well(call())  # the first call loads kernels
        started = time.perf_counter()
        call()  # ends with results in main memory, so nothing is under way on the card afterwards
        seconds[name] = time.perf_counter() - started
    return seconds


def finetune_section(shard: str) -> dict[str, Any]:
    """Seconds of training one seed end to end on a GPU. For a fresh process."""
    import torch

    from senca_ray.config import Setting
    from senca_ray.data.shards import read_sample
    from senca_ray.methods.senca import Senca

    model, setting = Senca(), Setting(finetune=True)
    sample = with_patches(read_sample(shard, model.genes_needed(setting)))
    model.embed(sample, setting, 0, "cuda")  # the first call loads kernels
    started = time.perf_counter()
    model.embed(sample, setting, 1, "cuda")
    return {"seconds": time.perf_counter() - started, "device": torch.cuda.get_device_name()}


def with_patches(sample: Sample, pixels: int = _PATCH_PIXELS) -> Sample:
    """The section with patches of noise, as if prepared with a ResNet18 of random weights.

    Of its features only their number matters: training replaces them.
    """
    import numpy as np

    from senca_ray.model.image_encoder import RANDOM, load_encoder

    encoder, rng = load_encoder(RANDOM), np.random.default_rng(0)
    patches = rng.integers(0, 256, (len(sample.xy), pixels, pixels, 3), dtype=np.uint8)
    features = encoder.features(patches[:1]).repeat(len(patches), axis=0)
    return dataclasses.replace(
        sample, encoder=encoder.name, encoder_asked=RANDOM, patches=patches, image_features=features
    )


def _all_well(results: Sequence[object]) -> None:
    """Raise what stands in the place of a seed that failed: its time would be no fit's."""
    for result in results:
        if isinstance(result, Exception):
            raise result
