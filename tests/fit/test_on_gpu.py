"""What only a GPU can show; skipped without one."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from test_train import SETTING, toy_sample

from senca_ray.bench.sections import write_patched
from senca_ray.data.shards import read_sample
from senca_ray.fit.train import Trained, train, train_batch

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


@pytest.mark.parametrize("form", ["exact", "large"])
@pytest.mark.parametrize("image", [True, False])
def test_same_seed_same_numbers(image: bool, form: str) -> None:
    setting = dataclasses.replace(SETTING, form=form)  # type: ignore[arg-type]
    first, again = (train(toy_sample(image), setting, 3, "cuda") for _ in range(2))
    assert first.losses == again.losses and np.array_equal(first.embedding, again.embedding)


def test_same_batch_same_numbers() -> None:
    first, again = (train_batch(toy_sample(), SETTING, (0, 1, 2), "cuda") for _ in range(2))
    for a, b in zip(first, again, strict=True):
        assert isinstance(a, Trained) and isinstance(b, Trained)
        assert a.losses == b.losses and np.array_equal(a.embedding, b.embedding)


def test_same_fine_tuning_same_numbers(tmp_path: Path) -> None:
    setting = dataclasses.replace(SETTING, finetune=True)
    sample = read_sample(write_patched(tmp_path, pixels=64), setting.hvgs, patches=True)
    first, again = (train(sample, setting, 0, "cuda") for _ in range(2))
    assert first.losses == again.losses and np.array_equal(first.embedding, again.embedding)


def test_batched_seeds_start_like_single_ones() -> None:
    setting = dataclasses.replace(SETTING, epochs=3)
    for seed, found in zip((4, 0), train_batch(toy_sample(), setting, (4, 0), "cuda"), strict=True):
        assert isinstance(found, Trained)
        alone = train(toy_sample(), setting, seed, "cuda")
        np.testing.assert_allclose(found.losses, alone.losses, rtol=1e-4)


def test_without_dropout_a_gpu_loses_what_a_cpu_loses() -> None:
    setting = dataclasses.replace(SETTING, epochs=3, dropout=0.0)
    on_cpu, on_gpu = (train(toy_sample(), setting, 0, device) for device in ("cpu", "cuda"))
    np.testing.assert_allclose(on_gpu.losses, on_cpu.losses, rtol=1e-4)
