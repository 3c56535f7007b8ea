"""From an embedding to regions: clustering, into as many as the policy says."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np
from sklearn.cluster import AgglomerativeClustering, KMeans
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state

from senca_ray import keys
from senca_ray.data.sample import Sample
from senca_ray.errors import SencaError
from senca_ray.fit.cells import SAMPLED, cells_of, joined, kmeans, sampled_rows
from senca_ray.fit.choices import CLUSTERINGS, parse_k_policy
from senca_ray.fit.scores import silhouette

AUTO_RANGE = range(2, 13)
"""Numbers of regions that the policy `auto` compares."""

_STARTS, _MIXTURE_STARTS = 10, 5
"""Starts of k-means and of a Gaussian mixture, of which the best is kept."""
_RIDGE = 1e-6
"""Added to the variance of every principal axis of a mixture, as a share of that of the first."""

Divide = Callable[[int], np.ndarray]
"""Finds k regions (N,) in any numbering."""


def choose_k(
    policy: str, sample: Sample, embedding: np.ndarray, clustering: str, form: str = keys.EXACT
) -> int:
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
    curve = silhouette_curve(embedding, clustering, form)
    if not curve:
        raise SencaError(
            f"{sample.name}: k policy 'auto' needs 3 spots or more, found {len(embedding)}; use fixed:N"
        )
    return max(curve, key=lambda k: (curve[k], -k))


def silhouette_curve(embedding: np.ndarray, clustering: str, form: str = keys.EXACT) -> dict[int, float]:
    """Mean silhouette for k = 2..12 (below N) under the same clustering; embedding (N, D).

    What depends on a seed starts from seed 0 here, so that k does not vary with the seed of a trial.
    """
    divide = _clusterer(embedding, clustering, 0, form)
    curve = {k: silhouette(embedding, renumber(divide(k)), form) for k in AUTO_RANGE if k < len(embedding)}
    return {k: value for k, value in curve.items() if not np.isnan(value)}


def cluster(embedding: np.ndarray, k: int, clustering: str, seed: int, form: str = keys.EXACT) -> np.ndarray:
    """Cluster the spots of an embedding (N, D) into k regions (N,) int16, the largest being region 0.

    - ward, average, complete: agglomerative, whatever the seed.
    - kmeans: the best of ten starts.
    - gmm-tied: a Gaussian mixture whose components share one full covariance (mclust's EEE); of five starts
      the likeliest, those first in which every component is the likeliest one of some spot. The embedding
      is taken along its principal axes, those without variance left out and N - k of them at most, because
      a covariance of N spots and k means has no more. Near that bound it cannot be estimated and the
      regions hardly leave those of the k-means that each start begins with.
    - leiden: communities (modularity with a resolution) of the weighted graph of nearest neighbours that
      scanpy builds, at the resolution that gives k of them, found by bisection. Where the search passes
      over k, the next larger number is taken and the two regions whose union costs least in Ward's sense
      are joined until k are left; so too where the graph falls into more than k parts. Clouds of fewer than
      15 spots run together with others.

    `seed` matters to the last three, which return fewer than k regions where the embedding has fewer
    distinct rows; gmm-tied also where no start fills all components. In the form keys.LARGE agglomerative
    clustering and leiden divide cells, k-means of which all spots follow (fit/cells.py), k-means starts from
    theirs, and a mixture is learnt from a sample of the spots: see docs/scale.md. Raises SencaError for an
    impossible k, an unknown clustering, or values not finite.
    """
    n_spots = len(embedding)
    if not 1 <= k <= n_spots:
        raise SencaError(f"k = {k} found; expected 1 to {n_spots}, the number of spots; change the k policy")
    divide = _clusterer(embedding, clustering, seed, form)
    return np.zeros(n_spots, dtype=np.int16) if k == 1 else renumber(divide(k))


def renumber(raw: np.ndarray) -> np.ndarray:
    """Number regions (N,) by falling size, ties by their first spot; int16."""
    _, first, inverse, sizes = np.unique(raw, return_index=True, return_inverse=True, return_counts=True)
    rank = np.empty(len(sizes), dtype=np.int16)
    rank[np.lexsort((first, -sizes))] = np.arange(len(sizes), dtype=np.int16)
    return rank[inverse]


def _clusterer(embedding: np.ndarray, clustering: str, seed: int, form: str) -> Divide:
    """What divides an embedding (N, D) into a given number of regions (N,), numbered in any order."""
    if clustering not in CLUSTERINGS:
        raise SencaError(f"clustering {clustering!r} found; expected one of {', '.join(CLUSTERINGS)}")
    values = np.asarray(embedding, dtype=np.float64)
    if not np.isfinite(values).all():
        raise SencaError(
            "the embedding holds NaN or infinite values, so it cannot be clustered; "
            "training diverged: lower learning_rate or mse_weight"
        )
    large = form == keys.LARGE
    if large and clustering != "gmm-tied":
        return _large(values, clustering, seed)
    if clustering == "kmeans":
        return lambda k: _kmeans(values, k, seed)
    if clustering in ("gmm-tied", "leiden"):
        from senca_ray.fit.leiden import leiden

        distinct, row = np.unique(values, axis=0, return_inverse=True)
        if clustering == "gmm-tied":
            some = sampled_rows(len(values), SAMPLED) if large and len(values) > SAMPLED else None
            divide = _mixture(_principal_axes(values, some), some, seed)
        else:
            divide = leiden(values, seed)
        # Neither could divide equal rows in a way that means anything.
        return lambda k: row if len(distinct) <= k else divide(k)
    return lambda k: AgglomerativeClustering(k, linkage=clustering).fit_predict(values)


def _large(values: np.ndarray, clustering: str, seed: int) -> Divide:
    """The same for a large section, by its cells."""
    cells = cells_of(values)
    if clustering == "kmeans":
        return lambda k: kmeans(values, cells, k, seed)
    if clustering == "leiden":
        divide = _clusterer(cells.centres, clustering, seed, keys.EXACT)
        return lambda k: divide(k)[cells.of]
    return joined(cells, clustering)


def _kmeans(values: np.ndarray, k: int, seed: int) -> np.ndarray:
    with warnings.catch_warnings():
        # Says that there are fewer distinct rows than k, which `cluster` already answers.
        warnings.simplefilter("ignore", ConvergenceWarning)
        return KMeans(k, n_init=_STARTS, random_state=seed).fit_predict(values)


def _mixture(axes: np.ndarray, learnt_from: np.ndarray | None, seed: int) -> Divide:
    """Gaussian mixtures with tied covariance of positions (N, R), learnt from some of the spots or all."""
    from sklearn.mixture import GaussianMixture

    part = axes if learnt_from is None else axes[learnt_from]

    def divide(k: int) -> np.ndarray:
        # Starts one after the other, as scikit-learn would draw them for n_init, to see what each one fills.
        random = check_random_state(seed)
        found = []
        for _ in range(_MIXTURE_STARTS):
            model = GaussianMixture(k, covariance_type="tied", reg_covar=_RIDGE, random_state=random)
            with warnings.catch_warnings():
                # After 100 steps the likelihood moves too little to matter.
                warnings.simplefilter("ignore", ConvergenceWarning)
                regions = model.fit_predict(part[:, : len(part) - k])
            if learnt_from is not None:
                regions = model.predict(axes)
            found.append((len(np.unique(regions)), model.lower_bound_, regions))
        return max(found, key=lambda one: one[:2])[2]

    return divide


def _principal_axes(values: np.ndarray, learnt_from: np.ndarray | None) -> np.ndarray:
    """Positions (N, R) of values (N, D) along their R principal axes with variance; the first one's is 1.

    The axes are those of some of the spots, or of all.
    """
    part = values if learnt_from is None else values[learnt_from]
    mean = part.mean(axis=0)
    left, spread, axes = np.linalg.svd(part - mean, full_matrices=False)
    kept = spread >= spread[0] * max(part.shape) * np.finfo(float).eps
    largest = max(spread[0], np.finfo(float).tiny)
    if learnt_from is not None:
        return np.asarray((values - mean) @ axes[kept].T / largest * np.sqrt(len(part)))
    return left[:, kept] * spread[kept] / largest * np.sqrt(len(values))
