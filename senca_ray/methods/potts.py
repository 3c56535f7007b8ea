"""A mixture of t-distributed regions that neighbours tend to share (a Potts prior), sampled by MCMC.

The model is BayesSpace's with one covariance for all regions. Spots of one colour are no neighbours of each
other, so all of them are updated at once and the chain keeps the same target as a sweep spot by spot.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

_REACH = 1.2
"""Spots up to this many spot distances apart are neighbours: the diagonal of a square lattice is 1.41."""


@dataclass(frozen=True)
class Lattice:
    """Who is whose neighbour: N spots, at most M neighbours."""

    neighbors: np.ndarray
    """(N, M) int64 indices, each row filled up with N; symmetric."""
    degree: np.ndarray
    """(N,) number of neighbours."""
    colors: tuple[np.ndarray, ...]
    """Spots of each colour; no two neighbours have the same."""


@dataclass(frozen=True)
class Prior:
    """Parameters of the model that are not sampled, under the names of BayesSpace's description."""

    gamma: float
    """Weight of agreeing with all neighbours."""
    degrees_of_freedom: float
    """Of the t distribution."""
    lambda0: float
    """Precision of a region's mean, in every dimension, around the mean of all spots."""
    alpha: float
    """Of the Wishart prior: its degrees of freedom beyond the number of spots."""
    beta: float
    """Of the Wishart prior: the diagonal of its inverse scale matrix."""


def lattice(xy: np.ndarray, nearest: np.ndarray) -> Lattice:
    """Find each spot's neighbours on the lattice: 4 on a square one, 6 on a hexagonal one, fewer at an edge.

    Shapes: xy (N, 2) in spot distances, nearest (N, K) candidates without the spot itself. Spots are
    neighbours where they are about a spot distance apart and one is among the candidates of the other.
    """
    n_spots = len(xy)
    distance = np.linalg.norm(xy[nearest] - xy[:, None], axis=2)
    spot, rank = np.nonzero(distance <= _REACH)
    other = nearest[spot, rank]
    pairs = np.unique(np.column_stack([np.r_[spot, other], np.r_[other, spot]]), axis=0)
    degree = np.bincount(pairs[:, 0], minlength=n_spots)
    neighbors = np.full((n_spots, degree.max(initial=0)), n_spots, dtype=np.int64)
    place = np.arange(len(pairs)) - np.repeat(np.cumsum(degree) - degree, degree)
    neighbors[pairs[:, 0], place] = pairs[:, 1]
    color = color_spots(neighbors)
    return Lattice(neighbors, degree, tuple(np.flatnonzero(color == c) for c in np.unique(color)))


def color_spots(neighbors: np.ndarray) -> np.ndarray:
    """Colour the spots so that no two neighbours share a colour: two colours where two suffice.

    Shapes: neighbors (N, M) as in `Lattice`. Returns (N,) int64. Greedy, breadth first, because in that
    order the spots of a checkerboard see only the other colour.
    """
    n_spots = len(neighbors)
    color = np.full(n_spots, -1, dtype=np.int64)
    queued = np.zeros(n_spots, dtype=bool)
    for start in range(n_spots):
        queue = [] if queued[start] else [start]
        queued[start] = True
        for spot in queue:
            around = neighbors[spot][neighbors[spot] < n_spots]
            used = set(color[around].tolist())
            color[spot] = next(c for c in range(n_spots) if c not in used)
            queue += around[~queued[around]].tolist()
            queued[around] = True
    return color


def draw_means(
    values: np.ndarray,
    regions: np.ndarray,
    weights: np.ndarray,
    precision: np.ndarray,
    center: np.ndarray,
    n_regions: int,
    lambda0: float,
    rng: np.random.Generator,
) -> np.ndarray:
    """Draw the regions' means from their normal conditional; an empty region's from the prior.

    Shapes: values (N, D), regions and weights (N,), precision (D, D), center (D,) the prior's mean.
    Returns (n_regions, D).
    """
    n_spots, dimensions = values.shape
    membership = np.zeros((n_spots, n_regions))
    membership[np.arange(n_spots), regions] = weights
    posterior = lambda0 * np.eye(dimensions) + membership.sum(axis=0)[:, None, None] * precision
    target = lambda0 * center + membership.T @ values @ precision
    root = np.linalg.cholesky(posterior)
    noise = rng.standard_normal((n_regions, dimensions, 1))
    half = np.linalg.solve(root, target[:, :, None]) + noise
    return np.linalg.solve(root.transpose(0, 2, 1), half)[:, :, 0]


def draw_precision_root(
    scatter: np.ndarray, degrees_of_freedom: float, rng: np.random.Generator
) -> np.ndarray:
    """Draw a precision matrix from the Wishart distribution with scale inverse(scatter), by its root.

    Shapes: scatter (D, D). Returns B (D, D) with precision = B @ B.T (Bartlett's decomposition).
    """
    dimensions = len(scatter)
    lower = np.tril(rng.standard_normal((dimensions, dimensions)), -1)
    np.fill_diagonal(lower, np.sqrt(rng.chisquare(degrees_of_freedom - np.arange(dimensions))))
    return np.linalg.solve(np.linalg.cholesky(scatter).T, lower)


def flip_regions(
    regions: np.ndarray, log_density: np.ndarray, lattice: Lattice, gamma: float, rng: np.random.Generator
) -> np.ndarray:
    """One Metropolis sweep: propose another region to every spot, each of the others alike.

    A spot's log weight of a region is its log density there plus 2 gamma times the share of its
    neighbours in that region. Shapes: regions (N,), log_density (N, R) up to a constant of the spot, two
    regions or more. Returns the new regions (N,).
    """
    n_spots, n_regions = log_density.shape
    step = np.asarray(rng.integers(1, n_regions, n_spots))
    bar = -np.asarray(rng.standard_exponential(n_spots))
    pull = 2 * gamma / np.maximum(lattice.degree, 1)
    # The last entry stands for the neighbour that is not there: it agrees with no region.
    current = np.append(regions, -1)
    for spots in lattice.colors:
        old = current[spots]
        new = (old + step[spots]) % n_regions
        around = current[lattice.neighbors[spots]]
        agreement = (around == new[:, None]).sum(axis=1) - (around == old[:, None]).sum(axis=1)
        gain = pull[spots] * agreement + log_density[spots, new] - log_density[spots, old]
        current[spots] = np.where(bar[spots] < gain, new, old)
    return current[:-1]


def sample_regions(
    values: np.ndarray,
    start: np.ndarray,
    n_regions: int,
    lattice: Lattice,
    prior: Prior,
    iterations: int,
    burn_in: int,
    rng: np.random.Generator,
) -> np.ndarray:
    """Run the chain and count how often each spot was in each region after the burn-in.

    Shapes: values (N, D), start (N,) first regions, below n_regions (2 or more). Returns (N, n_regions)
    int64. One iteration draws means, precision, the spots' weights (their gamma mixing is what makes the
    errors t-distributed) and regions, in this order; the start counts as the first iteration.
    """
    n_spots, dimensions = values.shape
    freedom = prior.degrees_of_freedom
    spots = np.arange(n_spots)
    center = values.mean(axis=0)
    regions, weights = start.astype(np.int64), np.ones(n_spots)
    precision = prior.lambda0 * np.eye(dimensions)
    visits = np.zeros((n_spots, n_regions), dtype=np.int64)
    for iteration in range(1, iterations):
        means = draw_means(values, regions, weights, precision, center, n_regions, prior.lambda0, rng)
        residuals = values - means[regions]
        scatter = prior.beta * np.eye(dimensions) + (residuals * weights[:, None]).T @ residuals
        root = draw_precision_root(scatter, n_spots + prior.alpha, rng)
        precision = root @ root.T
        distances = _squared_distances(values @ root, means @ root)
        weights = rng.standard_gamma((dimensions + freedom) / 2, n_spots)
        weights *= 2 / (distances[spots, regions] + freedom)
        regions = flip_regions(regions, -0.5 * weights[:, None] * distances, lattice, prior.gamma, rng)
        if iteration >= burn_in:
            visits[spots, regions] += 1
    return visits


def _squared_distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(N, R) squared distances between the rows of a (N, D) and b (R, D)."""
    squares = (a * a).sum(axis=1)[:, None] + (b * b).sum(axis=1)
    return np.maximum(squares - 2 * a @ b.T, 0)
