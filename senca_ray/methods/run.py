"""One method on one section, with one seed or several: embedding, regions, scores."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from threadpoolctl import threadpool_limits

from senca_ray import keys
from senca_ray.config import Setting
from senca_ray.data.sample import Sample
from senca_ray.errors import SencaError
from senca_ray.fit.choices import CLUSTERINGS, parse_k_policy
from senca_ray.fit.form import form_of
from senca_ray.fit.refinement import refine
from senca_ray.fit.regions import choose_k, cluster, renumber
from senca_ray.fit.scores import score
from senca_ray.methods.base import Embedding, Method, RegionMethod, TrainedMethod, device_of, finetunes
from senca_ray.methods.memory import forget_peak, peak_memory_mb
from senca_ray.methods.protocol import REFINE_NEIGHBORS, Protocol
from senca_ray.methods.smoothed_pca import SmoothedPca

if TYPE_CHECKING:
    from senca_ray.fit.train import Checkpoint

T = TypeVar("T")


@dataclass(frozen=True)
class Outcome:
    """What one fit leaves: N spots."""

    embedding: Embedding
    regions: np.ndarray
    """(N,) region of each spot, the largest region is 0; keys.NO_REGION for a spot left out of clustering."""
    k: int
    scores: dict[str, Any]
    seconds: float
    """Wall time of embedding, clustering and scoring; of a batch of S seeds, an S-th of the embedding."""
    peak_memory_mb: float
    """Highest resident memory during this fit (where that cannot be told: of the process so far); on a GPU,
    most that torch held there for this fit or batch."""


_BATCH_MB = 4096.0
"""Memory on a GPU for what the seeds of one batch contrast: all fifteen of a section of 2,000 spots, three of
one of 5,000. Never what is free at the moment: of how many seeds a batch is, is part of its numbers."""

_NOT_SETTLED: Mapping[Protocol, int] = MappingProxyType({})

Result = Outcome | Exception
"""Of one reading of one seed: what came of it, or what it raised."""


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
    (result,) = next(run_seeds(method, sample, setting, [seed], (protocol,), device, checkpoint))
    if isinstance(result, Exception):
        raise result
    return result


def run_seeds(
    method: Method,
    sample: Sample,
    setting: Setting,
    seeds: Sequence[int],
    protocols: Sequence[Protocol],
    device: str = "cpu",
    checkpoint: Checkpoint | None = None,
) -> Iterator[list[Result]]:
    """Fit one section with every seed, in order; yields a result for each protocol of each seed.

    A seed is embedded once and read by every protocol; where the seed matters to the clustering alone, all
    seeds share one embedding, and what it took counts for each. On a GPU the seeds are trained as one batched
    model, or as a few where one of all would take too much memory; on a CPU one after the other, because
    batching gains nothing there, and so are those of a large section and of fine-tuning, one of which fills a
    GPU.
    """
    tuned = finetunes(method, setting) and sample.modality == keys.RNA_IMAGE
    batched = device != "cpu" and form_of(setting, len(sample.xy)) == keys.EXACT and not tuned
    if reason := method.missing():
        for _ in seeds:
            yield [SencaError(reason)] * len(protocols)
    elif len(seeds) > 1 and batched and isinstance(method, TrainedMethod):
        yield from _run_batch(method, sample, setting, seeds, protocols, device, checkpoint)
    elif method.fixed_embedding and seeds:
        yield from _run_fixed(method, sample, setting, seeds, protocols)
    else:
        for seed in seeds:
            yield _run(method, sample, setting, seed, protocols, device, checkpoint)


def genes_needed(method: Method, setting: Setting, protocols: Sequence[Protocol]) -> int:
    """How many genes to read for a method under these protocols."""
    needed = method.genes_needed(setting)
    beforehand = isinstance(method, RegionMethod) and any(p.k_policy == "auto" for p in protocols)
    return max(needed, SmoothedPca().genes_needed(setting)) if beforehand else needed


def _run(
    method: Method,
    sample: Sample,
    setting: Setting,
    seed: int,
    protocols: Sequence[Protocol],
    device: str,
    checkpoint: Checkpoint | None,
) -> list[Result]:
    """One seed, read by every protocol."""
    forget_peak(device_of(method, device))
    # On several threads sums come in any order, and the smallest difference can move a spot.
    with threadpool_limits(1):
        if isinstance(method, RegionMethod):
            return _run_regions(method, sample, setting, seed, protocols)
        embed = partial(method.embed, sample, setting, seed)
        if isinstance(method, TrainedMethod):
            embed = partial(embed, device, checkpoint)
        form = form_of(setting, len(sample.xy))
        return _readings(method, sample, *_timed(embed), seed, protocols, device, form)


def _run_fixed(
    method: Method, sample: Sample, setting: Setting, seeds: Sequence[int], protocols: Sequence[Protocol]
) -> Iterator[list[Result]]:
    """Every seed of a method whose embedding is the same for all: k is chosen once, too."""
    forget_peak("cpu")
    with threadpool_limits(1):
        embedding, seconds = _timed(partial(method.embed, sample, setting, seeds[0]))
    ks: dict[Protocol, int] = {}
    for seed in seeds:
        with threadpool_limits(1):
            form = form_of(setting, len(sample.xy))
            results = _readings(method, sample, embedding, seconds, seed, protocols, "cpu", form, ks)
        for protocol, result in zip(protocols, results, strict=True):
            if isinstance(result, Outcome):
                ks[protocol] = result.k
        yield results


def _timed(work: Callable[[], T]) -> tuple[T | Exception, float]:
    """What `work` returned or raised, and its seconds."""
    started = time.perf_counter()
    result = _caught(work)
    return result, time.perf_counter() - started


def _run_regions(
    method: RegionMethod, sample: Sample, setting: Setting, seed: int, protocols: Sequence[Protocol]
) -> list[Result]:
    """One seed of a method that has to be told k: fitted once for every k that the protocols ask for."""
    form = form_of(setting, len(sample.xy))
    fitted: dict[int, tuple[Embedding | Exception, float]] = {}
    results: list[Result] = []
    for protocol in protocols:
        k = _caught(partial(_k_beforehand, protocol.k_policy, sample, form))
        if isinstance(k, Exception):
            results.append(k)
            continue
        if k not in fitted:
            fitted[k] = _timed(partial(method.segment, sample, setting, seed, k))
        results += _readings(method, sample, *fitted[k], seed, (protocol,), "cpu", form, {protocol: k})
    return results


def _k_beforehand(policy: str, sample: Sample, form: str) -> int:
    """k of a method that has to be told it: under `auto` what suits the smoothed principal components."""
    if parse_k_policy(policy).kind != "auto":
        return choose_k(policy, sample, sample.xy, "kmeans")
    components = SmoothedPca().embed(sample, Setting(), 0).values
    return choose_k(policy, sample, components, "kmeans", form)


def _run_batch(
    method: TrainedMethod,
    sample: Sample,
    setting: Setting,
    seeds: Sequence[int],
    protocols: Sequence[Protocol],
    device: str,
    checkpoint: Checkpoint | None,
) -> Iterator[list[Result]]:
    def embed(part: Sequence[int]) -> Sequence[Embedding | Exception]:
        with threadpool_limits(1):
            forget_peak(device)
            return method.embed_batch(sample, setting, part, device, checkpoint)

    form = form_of(setting, len(sample.xy))
    for part in _batches(seeds, len(sample.xy)):
        batch, seconds = _timed(partial(embed, part))
        embeddings = [batch] * len(part) if isinstance(batch, Exception) else batch
        for seed, embedding in zip(part, embeddings, strict=True):
            with threadpool_limits(1):
                yield _readings(method, sample, embedding, seconds / len(part), seed, protocols, device, form)


def _batches(seeds: Sequence[int], n_spots: int) -> Iterator[Sequence[int]]:
    """The seeds in batches, of which each takes about _BATCH_MB at most, or is one seed."""
    # The contrast of the windows compares all spots of both views, and its softmax and gradient are kept
    # beside it: three matrices (2 N, 2 N) of float32 a seed.
    seed_mb = 3 * 4 * (2 * n_spots) ** 2 / 2**20
    size = max(1, int(_BATCH_MB / seed_mb))
    return (seeds[start : start + size] for start in range(0, len(seeds), size))


def _readings(
    method: Method,
    sample: Sample,
    embedding: Embedding | Exception,
    seconds: float,
    seed: int,
    protocols: Sequence[Protocol],
    device: str,
    form: str,
    ks: Mapping[Protocol, int] = _NOT_SETTLED,
) -> list[Result]:
    """What every protocol makes of an embedding that took `seconds`; `ks` are those settled before."""
    if isinstance(embedding, Exception):
        return [embedding] * len(protocols)
    return [
        _caught(
            partial(
                _outcome, method, sample, embedding, seconds, seed, protocol, device, form, ks.get(protocol)
            )
        )
        for protocol in protocols
    ]


def _outcome(
    method: Method,
    sample: Sample,
    embedding: Embedding,
    seconds: float,
    seed: int,
    protocol: Protocol,
    device: str,
    form: str,
    k: int | None,
) -> Outcome:
    """Regions and scores of an embedding that took `seconds`; `k` where it is settled."""
    started = time.perf_counter()
    clustering = protocol.clustering_of(method)
    kept = np.ones(len(sample.xy), dtype=bool)
    if protocol.undetermined == keys.DROPPED and sample.labels is not None:
        kept = sample.labels != keys.UNDETERMINED
    if not kept.any():
        raise SencaError(
            f"{sample.name}: every spot is undetermined, so none is left to cluster; leave --undetermined at "
            f"{keys.UNSCORED}"
        )
    part, values = sample.subset(kept), embedding.values[kept]
    if clustering == keys.OWN:
        found = renumber(_own_regions(method, embedding)[kept])
        k = k if k is not None else len(np.unique(found))
    else:
        k = choose_k(protocol.k_policy, part, values, clustering, form) if k is None else k
        found = cluster(values, k, clustering, seed, form)
    if protocol.refined:
        found = refine(found, part.nearest(REFINE_NEIGHBORS))
    scores = score(part, values, found, protocol.pair, protocol.undetermined == keys.SCORED, form)
    regions = np.full(len(kept), keys.NO_REGION, dtype=np.int16)
    regions[kept] = found
    seconds += embedding.earlier_seconds + time.perf_counter() - started
    peak = embedding.peak_memory_mb or peak_memory_mb(device_of(method, device))
    return Outcome(embedding, regions, k, scores, seconds, peak)


def _own_regions(method: Method, embedding: Embedding) -> np.ndarray:
    if embedding.regions is None:
        raise SencaError(
            f"{method.name} finds no regions of its own; expected one of "
            f"{', '.join(method.clusterings or CLUSTERINGS)} as its clustering"
        )
    return embedding.regions


def _caught(work: Callable[[], T]) -> T | Exception:
    try:
        return work()
    except Exception as error:  # noqa: BLE001  whatever a method raises is an outcome
        return error
