"""The tree of an embedding: how its spots join into ever fewer groups."""

from __future__ import annotations

import numpy as np

from senca_ray import keys
from senca_ray.analysis.portrait import Tree

MOST_LEAVES = 40
"""Groups that a tree tells apart: nobody cuts a section finer, and every leaf takes room on a page."""
LINKAGES = ("ward", "average", "complete")
"""Clusterings that join spots and so have a tree of their own; beside all others stands Ward's."""


def embedding_tree(
    embedding: np.ndarray, kept: np.ndarray, clustering: str, form: str = keys.EXACT
) -> Tree | None:
    """The tree of the kept spots, of a large section (`form`) that of its cells; None for fewer than two.

    Shapes: embedding (N, D) finite, kept (N,) bool. Groups are joined as `clustering` joins them, by Ward's
    method where it joins none. Undoing the last k - 1 merges leaves the k regions that agglomerative
    clustering finds, for k up to the number of leaves. Leaves are numbered as they stand side by side: drawn
    in this order no two branches cross.
    """
    from scipy.cluster.hierarchy import leaves_list, linkage

    values = np.asarray(embedding, dtype=np.float64)[kept]
    if len(values) < 2:
        return None
    joined = clustering if clustering in LINKAGES else "ward"
    steps, of = _cells_joined(values, joined) if form == keys.LARGE else (linkage(values, joined), None)
    n_spots = len(steps) + 1
    n_leaves = min(MOST_LEAVES, n_spots)
    below = n_spots - n_leaves  # the merges inside of leaves come first
    children = steps[:, :2].astype(int)

    # As in `steps`, nodes below N are spots (or cells) and N + i is what merge i made.
    leaf_of = np.full(2 * n_spots - 1, -1)
    tops = children[below:].ravel()
    tops = tops[tops < n_spots + below]
    leaf_of[tops] = tops
    for step in reversed(range(below)):
        leaf_of[children[step]] = leaf_of[n_spots + step]

    name = np.full(2 * n_spots - 1, -1)
    side_by_side = list(dict.fromkeys(leaf_of[leaves_list(steps)].tolist()))
    name[side_by_side] = np.arange(n_leaves)
    name[n_spots + below :] = n_leaves + np.arange(n_leaves - 1)
    leaf = np.full(len(kept), keys.NO_REGION, dtype=np.int16)
    found = name[leaf_of[:n_spots]]
    leaf[kept] = found if of is None else found[of]
    merges = np.column_stack([name[children[below:]], steps[below:, 2]])
    return Tree(joined, leaf, merges.astype(np.float64))


def _cells_joined(values: np.ndarray, linkage: str) -> tuple[np.ndarray, np.ndarray]:
    """The merges of the cells of a large section, and the cell of each spot (N,)."""
    from senca_ray.fit.cells import cells_of
    from senca_ray.fit.linkage import linkage_of

    cells = cells_of(values)
    return linkage_of(cells.centres, cells.sizes, linkage), cells.of
