"""One method on one section, with one seed or several: embedding, regions, scores."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from threadpoolctl import threadpool_limits

from senca_ray.config import Setting
from senca_ray.data.sample import Sample
from senca_ray.errors import SencaError
from senca_ray.fit.regions import CLUSTERINGS, choose_k, cluster, parse_k_policy
from senca_ray.fit.scores import score
from senca_ray.methods.base import Embedding, Method, TrainedMethod

if TYPE_CHECKING:
    from senca_ray.fit.train import Checkpoint

T = TypeVar("T")


@dataclass(frozen=True)
class Protocol:
    """How an embedding becomes regions and scores; the same for every method of a study.

    Raises SencaError for an unknown k policy or clustering.
    """

    k_policy: str = "labels"
    """'labels' (oracle: as many regions as labels), 'fixed:N' or 'auto' (chosen without labels)."""
    clustering: str = "ward"
    """Clustering of methods that bring none of their own."""
    pair: tuple[str, str] | None = None
    """Two labels whose separation is scored."""

    def __post_init__(self) -> None:
        parse_k_policy(self.k_policy)
        if self.clustering not in CLUSTERINGS:
            raise SencaError(
                f"clustering {self.clustering!r} found; expected one of {', '.join(CLUSTERINGS)}"
            )

    def clustering_of(self, method: Method) -> str:
        """The clustering that `method` is run with."""
        return method.clustering or self.clustering


@dataclass(frozen=True)
class Outcome:
    """What one fit leaves: N spots."""

    embedding: Embedding
    regions: np.ndarray
    """(N,) region of each spot, the largest region is 0."""
    k: int
    scores: dict[str, Any]
    seconds: float
    """Wall time of embedding, clustering and scoring; of a batch of S seeds, an S-th of the embedding."""
    peak_memory_mb: float
    """Highest resident memory of this process so far; on a GPU, most allocated there by this fit or batch."""


def run(
    method: Method,
    sample: Sample,
    setting: Setting,
    seed: int,
    protocol: Protocol,
    device: str = "cpu",
    checkpoint: Checkpoint | None = None,
) -> Outcome:
    """Fit one section; raises SencaError where the method does not apply to it.

    `device` and `checkpoint` matter to a method that trains a network; the others run on the CPU.
    """
    started = time.perf_counter()
    # On several threads sums come in any order, and the smallest difference can move a spot.
    with threadpool_limits(1):
        if isinstance(method, TrainedMethod):
            _forget_peak(device)
            embedding = method.embed(sample, setting, seed, device, checkpoint)
        else:
            embedding = method.embed(sample, setting, seed)
        seconds = time.perf_counter() - started
        return _outcome(method, sample, embedding, seconds, seed, protocol, device)


def run_seeds(
    method: Method,
    sample: Sample,
    setting: Setting,
    seeds: Sequence[int],
    protocol: Protocol,
    device: str = "cpu",
    checkpoint: Checkpoint | None = None,
) -> Iterator[Outcome | Exception]:
    """Fit one section with every seed, in order; what a seed raised stands in its place.

    On a GPU the seeds are trained as one batched model; on a CPU one after the other, because batching
    gains nothing there.
    """
    if len(seeds) > 1 and device != "cpu" and isinstance(method, TrainedMethod):
        yield from _run_batch(method, sample, setting, seeds, protocol, device, checkpoint)
        return
    for seed in seeds:
        yield _caught(partial(run, method, sample, setting, seed, protocol, device, checkpoint))


def device_of(method: Method, device: str) -> str:
    """The device that `method` uses when it is given `device`."""
    return device if isinstance(method, TrainedMethod) else "cpu"


def peak_memory_mb(device: str = "cpu") -> float:
    """Highest resident memory of this process so far; on a GPU, most allocated since the last fit began."""
    if device != "cpu":
        import torch

        return float(torch.cuda.max_memory_allocated(device) / 2**20)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1024 * 1024 if sys.platform == "darwin" else 1024)


def _run_batch(
    method: TrainedMethod,
    sample: Sample,
    setting: Setting,
    seeds: Sequence[int],
    protocol: Protocol,
    device: str,
    checkpoint: Checkpoint | None,
) -> Iterator[Outcome | Exception]:
    started = time.perf_counter()

    def embed() -> Sequence[Embedding | Exception]:
        with threadpool_limits(1):
            _forget_peak(device)
            return method.embed_batch(sample, setting, seeds, device, checkpoint)

    def outcome(embedding: Embedding, seed: int) -> Outcome:
        with threadpool_limits(1):
            return _outcome(method, sample, embedding, seconds, seed, protocol, device)

    batch = _caught(embed)
    seconds = (time.perf_counter() - started) / len(seeds)
    embeddings = [batch] * len(seeds) if isinstance(batch, Exception) else batch
    for seed, embedding in zip(seeds, embeddings, strict=True):
        if isinstance(embedding, Exception):
            yield embedding
        else:
            yield _caught(partial(outcome, embedding, seed))


def _outcome(
    method: Method,
    sample: Sample,
    embedding: Embedding,
    seconds: float,
    seed: int,
    protocol: Protocol,
    device: str,
) -> Outcome:
    """Regions and scores of an embedding that took `seconds`."""
    started = time.perf_counter()
    clustering = protocol.clustering_of(method)
    k = choose_k(protocol.k_policy, sample, embedding.values, clustering)
    regions = cluster(embedding.values, k, clustering, seed)
    scores = score(sample, embedding.values, regions, protocol.pair)
    seconds += embedding.earlier_seconds + time.perf_counter() - started
    return Outcome(embedding, regions, k, scores, seconds, peak_memory_mb(device_of(method, device)))


def _caught(work: Callable[[], T]) -> T | Exception:
    try:
        return work()
    except Exception as error:  # noqa: BLE001  whatever a method raises is an outcome
        return error


def _forget_peak(device: str) -> None:
    if device != "cpu":
        import torch

        torch.cuda.init()
        torch.cuda.reset_peak_memory_stats(device)
