"""How a method is run over seeds: in a loop, or as one batch on a GPU. No GPU is needed to see which."""

import dataclasses
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from toys import toy_sample

from senca_ray.config import Setting
from senca_ray.data.sample import Sample
from senca_ray.errors import SencaError
from senca_ray.methods import METHODS, run
from senca_ray.methods.base import Embedding, TrainedMethod, device_of, finetunes
from senca_ray.methods.protocol import Protocol
from senca_ray.methods.run import Outcome, run_seeds
from senca_ray.methods.senca import Senca

SMALL = Setting(hvgs=30, embedding=16, hidden=16, bottleneck=8, epochs=2)


class Watched(Senca):
    """SENCA-st that notes how it was called and computes on the CPU whatever device it is told."""

    def __init__(self, broken: tuple[int, ...] = ()) -> None:
        self.calls: list[tuple[Any, str, object]] = []
        self.broken = broken

    def embed(
        self, sample: Sample, setting: Setting, seed: int, device: str = "cpu", checkpoint: Any = None
    ) -> Embedding:
        self.calls.append((seed, device, checkpoint))
        if seed in self.broken:
            raise RuntimeError("broken on purpose")
        return super().embed(sample, setting, seed)

    def embed_batch(
        self, sample: Sample, setting: Setting, seeds: Sequence[int], device: str, checkpoint: Any = None
    ) -> list[Embedding | SencaError]:
        self.calls.append((tuple(seeds), device, checkpoint))
        time.sleep(0.05)
        batch = super().embed_batch(sample, setting, seeds, "cpu")
        return [SencaError("diverged") if s in self.broken else e for s, e in zip(seeds, batch, strict=True)]


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """What torch says on a machine with a GPU, of which 300 MiB were used."""
    import torch

    monkeypatch.setattr(torch.cuda, "init", lambda: None)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda device: None)
    monkeypatch.setattr(torch.cuda, "max_memory_reserved", lambda device: 300 * 2**20)


def outcomes(method: Any, seeds: tuple[int, ...], device: str = "cpu", **more: Any) -> list[Any]:
    found = run_seeds(method, toy_sample(), SMALL, seeds, (Protocol(),), device, **more)
    return [result for (result,) in found]


def test_on_a_cpu_seeds_run_one_after_the_other() -> None:
    method, checkpoint = Watched(), object()
    outcomes(method, (3, 1), checkpoint=checkpoint)
    assert method.calls == [(3, "cpu", checkpoint), (1, "cpu", checkpoint)]


@pytest.mark.usefixtures("gpu")
def test_on_a_gpu_they_are_one_batch_with_its_seconds_shared_out() -> None:
    method, checkpoint = Watched(), object()
    found = outcomes(method, (3, 1), "cuda", checkpoint=checkpoint)
    assert method.calls == [((3, 1), "cuda", checkpoint)]
    for outcome, expected in zip(found, outcomes(Watched(), (3, 1)), strict=True):
        np.testing.assert_allclose(outcome.embedding.values, expected.embedding.values, atol=1e-4)
        assert outcome.peak_memory_mb == 300
        assert outcome.seconds >= 0.025  # half of the batch's sleep


@pytest.mark.usefixtures("gpu")
def test_a_batch_holds_no_more_seeds_than_memory_allows(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = {n: [len(part) for part in run._batches(range(15), n)] for n in (600, 2_000, 5_000, 50_000)}
    assert sizes == {600: [15], 2_000: [15], 5_000: [3] * 5, 50_000: [1] * 15}
    monkeypatch.setattr(run, "_BATCH_MB", 2.5 * 3 * 4 * 160**2 / 2**20)  # of the toy: two and a half
    method = Watched(broken=(5,))
    found = outcomes(method, (3, 1, 5, 2, 0), "cuda")
    assert [seeds for seeds, *_ in method.calls] == [(3, 1), (5, 2), (0,)]
    assert [isinstance(outcome, Outcome) for outcome in found] == [True, True, False, True, True]
    for outcome, expected in zip(found, outcomes(Watched((5,)), (3, 1, 5, 2, 0)), strict=True):
        if isinstance(outcome, Outcome):
            np.testing.assert_allclose(outcome.embedding.values, expected.embedding.values, atol=1e-4)


@pytest.mark.usefixtures("gpu")
def test_fine_tuning_is_no_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    tuning, method = dataclasses.replace(SMALL, finetune=True), Watched()
    monkeypatch.setattr(Senca, "embed", lambda *_: METHODS["untrained"].embed(toy_sample(), SMALL, 0))
    for image in (True, False):
        list(run_seeds(method, toy_sample(image=image), tuning, (3, 1), (Protocol(),), "cuda"))
    assert method.calls == [(3, "cuda", None), (1, "cuda", None), ((3, 1), "cuda", None)]
    assert [finetunes(METHODS[name], tuning) for name in ("senca", "untrained", "pca")] == [
        True,
        False,
        False,
    ]
    assert not finetunes(method, SMALL)


@pytest.mark.usefixtures("gpu")
def test_a_single_seed_needs_no_batch() -> None:
    method = Watched()
    (found,) = outcomes(method, (3,), "cuda")
    assert method.calls == [(3, "cuda", None)] and found.peak_memory_mb == 300


@pytest.mark.usefixtures("gpu")
@pytest.mark.parametrize("name", ["untrained", "coordinates"])
def test_a_method_that_trains_nothing_stays_on_the_cpu(name: str) -> None:
    assert not isinstance(METHODS[name], TrainedMethod) and device_of(METHODS[name], "cuda") == "cpu"
    found = outcomes(METHODS[name], (0, 1), "cuda")
    assert len(found) == 2 and all(outcome.peak_memory_mb != 300 for outcome in found)
    assert isinstance(METHODS["senca"], TrainedMethod) and device_of(METHODS["senca"], "cuda") == "cuda"


@pytest.mark.usefixtures("gpu")
@pytest.mark.parametrize(("device", "kind"), [("cpu", RuntimeError), ("cuda", SencaError)])
def test_what_a_seed_raised_stands_in_its_place(device: str, kind: type[Exception]) -> None:
    found = outcomes(Watched(broken=(1,)), (0, 1, 2), device)
    assert [type(outcome) for outcome in found] == [Outcome, kind, Outcome]


@pytest.mark.usefixtures("gpu")
def test_what_a_batch_raised_stands_in_the_place_of_all() -> None:
    too_many = dataclasses.replace(SMALL, hvgs=61)
    found = list(run_seeds(Senca(), toy_sample(), too_many, (0, 1), (Protocol(),), "cuda"))
    assert len(found) == 2 and all("61 HVGs asked for" in str(error) for error in found)


def test_seconds_spent_before_an_interruption_count(monkeypatch: pytest.MonkeyPatch) -> None:
    method = Watched()
    embedding = dataclasses.replace(method.embed(toy_sample(), SMALL, 0), earlier_seconds=1000.0)
    monkeypatch.setattr(method, "embed", lambda *_: embedding)
    assert run.run(method, toy_sample(), SMALL, 0, Protocol()).seconds > 1000
