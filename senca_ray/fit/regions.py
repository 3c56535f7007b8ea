"""From an embedding to regions: clustering, and the policy that says how many regions there are."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Literal

import numpy as np
from sklearn.cluster import AgglomerativeClustering, KMeans
from sklearn.exceptions import ConvergenceWarning

from senca_ray.data.sample import Sample
from senca_ray.errors import SencaError
from senca_ray.fit.scores import silhouette

CLUSTERINGS = ("ward", "average", "complete", "kmeans")
AUTO_RANGE = range(2, 13)
"""Numbers of regions that the policy `auto` compares."""


@dataclass(frozen=True)
class KPolicy:
    """How many regions a section gets; printed wherever a score is."""

    kind: Literal["labels", "fixed", "auto"]
    k: int | None = None
    """The number under `fixed`, else None."""


def parse_k_policy(text: str) -> KPolicy:
    """Read `labels`, `fixed:N` or `auto`; raises SencaError."""
    match text.split(":"):
        case ["labels"]:
            return KPolicy("labels")
        case ["auto"]:
            return KPolicy("auto")
        case ["fixed", number] if number.isascii() and number.isdecimal() and int(number) >= 1:
            return KPolicy("fixed", int(number))
    raise SencaError(
        f"k policy {text!r} found; expected 'labels' (as many regions as the section has labels), "
        "'fixed:N' with N of 1 or more, for example fixed:6, or 'auto' (chosen without labels)"
    )


def choose_k(policy: str, sample: Sample, embedding: np.ndarray, clustering: str) -> int:
    """Number of regions under `policy`; embedding (N, D). Raises SencaError.

    `labels` counts the pathologist's labels without `undetermined` and so uses the answer (an oracle);
    `auto` takes the k of the highest mean silhouette, the smaller one of equals.
    """
    parsed = parse_k_policy(policy)
    if parsed.k is not None:
        return parsed.k
    if parsed.kind == "labels":
        k = sample.label_count()
        if k == 0:
            raise SencaError(
                f"{sample.name}: every spot is undetermined, so k policy 'labels' gives 0; "
                "use fixed:N or auto"
            )
        return k
    curve = silhouette_curve(embedding, clustering)
    if not curve:
        raise SencaError(
            f"{sample.name}: k policy 'auto' needs 3 spots or more, found {len(embedding)}; use fixed:N"
        )
    return max(curve, key=lambda k: (curve[k], -k))


def silhouette_curve(embedding: np.ndarray, clustering: str) -> dict[int, float]:
    """Mean silhouette for k = 2..12 (below N) under the same clustering; embedding (N, D).

    K-means starts from seed 0 here, so that k does not vary with the seed of a trial.
    """
    curve = {
        k: silhouette(embedding, cluster(embedding, k, clustering, seed=0))
        for k in AUTO_RANGE
        if k < len(embedding)
    }
    return {k: value for k, value in curve.items() if not np.isnan(value)}


def cluster(embedding: np.ndarray, k: int, clustering: str, seed: int) -> np.ndarray:
    """Cluster the spots of an embedding (N, D) into k regions (N,) int16, the largest being region 0.

    `seed` only matters to k-means. K-means returns fewer than k regions where the embedding has fewer
    distinct rows. Raises SencaError for an impossible k, an unknown clustering, or values not finite.
    """
    n_spots = len(embedding)
    if not 1 <= k <= n_spots:
        raise SencaError(f"k = {k} found; expected 1 to {n_spots}, the number of spots; change the k policy")
    if clustering not in CLUSTERINGS:
        raise SencaError(f"clustering {clustering!r} found; expected one of {', '.join(CLUSTERINGS)}")
    values = np.asarray(embedding, dtype=np.float64)
    if not np.isfinite(values).all():
        raise SencaError(
            "the embedding holds NaN or infinite values, so it cannot be clustered; "
            "training diverged: lower learning_rate or mse_weight"
        )
    if k == 1:
        return np.zeros(n_spots, dtype=np.int16)
    if clustering == "kmeans":
        with warnings.catch_warnings():
            # Says that there are fewer distinct rows than k, which the docstring already answers.
            warnings.simplefilter("ignore", ConvergenceWarning)
            raw = KMeans(k, n_init=10, random_state=seed).fit_predict(values)
    else:
        raw = AgglomerativeClustering(k, linkage=clustering).fit_predict(values)
    return renumber(raw)


def renumber(raw: np.ndarray) -> np.ndarray:
    """Number regions (N,) by falling size, ties by their first spot; int16."""
    _, first, inverse, sizes = np.unique(raw, return_index=True, return_inverse=True, return_counts=True)
    rank = np.empty(len(sizes), dtype=np.int16)
    rank[np.lexsort((first, -sizes))] = np.arange(len(sizes), dtype=np.int16)
    return rank[inverse]
