"""Figure `gpu`: 15 seeds as one batch, fine-tuning end to end, and how busy trials side by side keep a card.

But for the last, neither this module nor what it measures with needs Ray: it runs on a bare GPU machine too.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from senca_ray.bench import packed
from senca_ray.bench.figure import Figure
from senca_ray.bench.process import fresh
from senca_ray.errors import SencaError

_SEEDS = 15
_PATCH_PIXELS = 224


def measure(repeat: int, say: Callable[[str], None]) -> list[Figure]:
    """Batch, fine-tuning and packing; raises SencaError where torch sees no GPU."""
    device = fresh(card)
    if device is None:
        raise SencaError("torch sees no GPU here; `senca doctor` says what it was built for")
    with tempfile.TemporaryDirectory(prefix="senca-bench-") as folder:
        shard = fresh(write_for_gpu, store=folder)
        figures = _batched(shard, device, repeat, say) + _finetuned(shard, device, repeat, say)
        return figures + packed.measure(shard, device, repeat, say)


def _batched(shard: str, device: str, repeat: int, say: Callable[[str], None]) -> list[Figure]:
    runs = []
    for run in range(repeat):
        say(f"{_SEEDS} seeds, {run + 1} of {repeat}")
        runs.append(fresh(batch_of_seeds, shard=shard))
    note = f"with image, {device}"
    title = f"{_SEEDS} seeds batched / one seed"
    return [
        Figure(
            name="gpu.one",
            title="one seed trained on the GPU",
            unit="s",
            runs=tuple(r["one"] for r in runs),
            note=note,
        ),
        Figure(
            name="gpu.batch",
            title=f"  {title}, training",
            unit="ratio",
            runs=tuple(r["batch"] / r["one"] for r in runs),
            bound=2.0,
            note=note,
        ),
        Figure(
            name="gpu.batch_whole",
            title=f"  {title}, with regions and scores",
            unit="ratio",
            runs=tuple(r["batch_whole"] / r["one_whole"] for r in runs),
            note=f"{note}; regions and scores take one core",
        ),
    ]


def _finetuned(shard: str, device: str, repeat: int, say: Callable[[str], None]) -> list[Figure]:
    runs = []
    for run in range(repeat):
        say(f"fine-tuning, {run + 1} of {repeat}")
        runs.append(fresh(finetune_section, shard=shard))
    return [
        Figure(
            name="gpu.finetune",
            title="one seed trained end to end on the GPU",
            unit="s",
            runs=tuple(runs),
            bound=15.0,
            note=f"600 patches of {_PATCH_PIXELS} px, ResNet18, 10 epochs, {device}",
        )
    ]


def card() -> str | None:
    """Name of the GPU that torch sees; None without one. For a fresh process."""
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else None


def write_for_gpu(store: str) -> str:
    """Write a section with features and patches; returns its address. For a fresh process."""
    from senca_ray.bench.sections import write_patched

    return write_patched(Path(store), _PATCH_PIXELS)


def batch_of_seeds(shard: str) -> dict[str, float]:
    """Seconds of one seed and of 15 as a batch, on a GPU. For a fresh process."""
    from senca_ray.config import Setting
    from senca_ray.data.shards import read_sample
    from senca_ray.methods.protocol import Protocol
    from senca_ray.methods.run import run_seeds
    from senca_ray.methods.senca import Senca

    model, setting, seeds = Senca(), Setting(), range(_SEEDS)
    sample = read_sample(shard, model.genes_needed(setting))

    def whole(seeds: Sequence[int]) -> list[object]:
        return [result for (result,) in run_seeds(model, sample, setting, seeds, (Protocol(),), "cuda")]

    work: dict[str, Callable[[], Sequence[object]]] = {
        "one": lambda: [model.embed(sample, setting, 0, "cuda")],
        "batch": lambda: model.embed_batch(sample, setting, seeds, "cuda"),
        "one_whole": lambda: whole(seeds[:1]),
        "batch_whole": lambda: whole(seeds),
    }
    seconds = {}
    for name, call in work.items():
        _all_well(call())  # the first call loads kernels
        started = time.perf_counter()
        call()  # ends with results in main memory, so nothing is under way on the card afterwards
        seconds[name] = time.perf_counter() - started
    return seconds


def finetune_section(shard: str) -> float:
    """Seconds of training one seed end to end on a GPU. For a fresh process."""
    from senca_ray.config import Setting
    from senca_ray.data.shards import read_sample
    from senca_ray.methods.senca import Senca

    model, setting = Senca(), Setting(finetune=True)
    sample = read_sample(shard, model.genes_needed(setting), patches=True)
    model.embed(sample, setting, 0, "cuda")  # the first call loads kernels
    started = time.perf_counter()
    model.embed(sample, setting, 1, "cuda")
    return time.perf_counter() - started


def _all_well(results: Sequence[object]) -> None:
    """Raise what stands in the place of a seed that failed: its time would be no fit's."""
    for result in results:
        if isinstance(result, Exception):
            raise result
