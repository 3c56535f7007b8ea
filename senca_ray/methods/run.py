"""One method on one section with one seed: embedding, regions, scores."""

from __future__ import annotations

import resource
import sys
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from senca_ray.config import Setting
from senca_ray.data.sample import Sample
from senca_ray.errors import SencaError
from senca_ray.fit.regions import CLUSTERINGS, choose_k, cluster, parse_k_policy
from senca_ray.fit.scores import score
from senca_ray.methods.base import Embedding, Method


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
    """Wall time of embedding, clustering and scoring."""
    peak_memory_mb: float
    """Highest resident memory of this process so far."""


def run(method: Method, sample: Sample, setting: Setting, seed: int, protocol: Protocol) -> Outcome:
    """Fit one section; raises SencaError where the method does not apply to it."""
    started = time.perf_counter()
    clustering = protocol.clustering_of(method)
    # On several threads sums come in any order, and the smallest difference can move a spot.
    with threadpool_limits(1):
        embedding = method.embed(sample, setting, seed)
        k = choose_k(protocol.k_policy, sample, embedding.values, clustering)
        regions = cluster(embedding.values, k, clustering, seed)
        scores = score(sample, embedding.values, regions, protocol.pair)
    return Outcome(embedding, regions, k, scores, time.perf_counter() - started, peak_memory_mb())


def peak_memory_mb() -> float:
    """Highest resident memory of this process so far, in MB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1024 * 1024 if sys.platform == "darwin" else 1024)
