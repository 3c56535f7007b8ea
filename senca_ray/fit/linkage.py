"""Agglomerative clustering of points that stand for many spots each: scipy's linkages know no weights."""

from __future__ import annotations

import numpy as np
from scipy.spatial.distance import cdist


def linkage_of(points: np.ndarray, sizes: np.ndarray, linkage: str) -> np.ndarray:
    """The tree of points (L, D), point i standing for sizes[i] spots in one place; ward, average or complete.

    Returns (L - 1, 4) as scipy's linkage does: the two joined, the height and the points below, heights
    rising. Points below L, L + i is what merge i made. Memory grows with L squared.
    """
    if linkage == "ward":
        apart = cdist(points, points, "sqeuclidean")
        apart *= 2 * sizes[:, None] * sizes / (sizes[:, None] + sizes)
        steps = tree_of(apart, sizes, linkage)
        steps[:, 2] = np.sqrt(steps[:, 2])
        return steps
    return tree_of(cdist(points, points), sizes, linkage)


def tree_of(apart: np.ndarray, sizes: np.ndarray, linkage: str) -> np.ndarray:
    """As `linkage_of`, of distances (L, L), which are overwritten; of Ward's, twice the cost of the union.

    Follows chains of nearest neighbours. Source: Murtagh, Computer Journal 1983; updates of Lance &
    Williams 1967.
    """
    n_points = len(sizes)
    sizes = sizes.astype(np.float64)
    np.fill_diagonal(apart, np.inf)
    joined = np.empty((n_points - 1, 3))
    chain: list[int] = []
    left = np.ones(n_points, dtype=bool)
    for step in range(n_points - 1):
        if not chain:
            chain.append(int(left.argmax()))
        while True:
            nearest = int(apart[chain[-1]].argmin())
            # Of equals the one before in the chain, or the chain would never end.
            if len(chain) > 1 and apart[chain[-1], chain[-2]] <= apart[chain[-1], nearest]:
                break
            chain.append(nearest)
        one, other = sorted((chain.pop(), chain.pop()))
        joined[step] = one, other, apart[one, other]
        apart[one] = apart[:, one] = _united(apart, sizes, one, other, linkage)
        apart[other] = apart[:, other] = np.inf
        apart[one, one] = np.inf
        sizes[one] += sizes[other]
        left[other] = False
    return _in_order(joined)


def _united(apart: np.ndarray, sizes: np.ndarray, one: int, other: int, linkage: str) -> np.ndarray:
    """How far the union of two groups is from every group (L,)."""
    if linkage == "complete":
        return np.maximum(apart[one], apart[other])
    a, b = sizes[one], sizes[other]
    if linkage == "average":
        return np.asarray((a * apart[one] + b * apart[other]) / (a + b))
    with np.errstate(invalid="ignore"):  # those that are gone lie at infinity
        found = (a + sizes) * apart[one] + (b + sizes) * apart[other] - sizes * apart[one, other]
    return np.where(np.isinf(apart[one]), np.inf, found / (a + b + sizes))


def _in_order(joined: np.ndarray) -> np.ndarray:
    """Merges (L - 1, 4) by rising height, their groups named as in scipy instead of by their first point."""
    n_points = len(joined) + 1
    above = np.arange(2 * n_points - 1)  # towards the group that holds a point so far

    def group(node: int) -> int:
        while above[node] != node:
            above[node] = above[above[node]]
            node = int(above[node])
        return node

    below = np.ones(2 * n_points - 1)
    steps = np.column_stack([joined[np.argsort(joined[:, 2], kind="stable")], np.empty(n_points - 1)])
    for made, step in enumerate(steps, n_points):
        both = sorted((group(int(step[0])), group(int(step[1]))))
        above[both] = made
        below[made] = below[both].sum()
        step[:2], step[3] = both, below[made]
    return steps


def cut(steps: np.ndarray, k: int) -> np.ndarray:
    """The k groups (L,) that undoing the last k - 1 merges (L - 1, 4) leaves, k of 1 to L."""
    n_points = len(steps) + 1
    children = steps[:, :2].astype(int)
    group = np.arange(2 * n_points - 1)
    for step in reversed(range(n_points - k)):
        group[children[step]] = group[n_points + step]
    return np.unique(group[:n_points], return_inverse=True)[1]
