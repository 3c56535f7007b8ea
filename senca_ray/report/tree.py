"""A dendrogram as the page draws it, with a colour for every part of every cut."""

from __future__ import annotations

from typing import Any

import numpy as np

from senca_ray import keys
from senca_ray.analysis.portrait import Tree
from senca_ray.report.maps import match

_HEIGHT_DIGITS = 4


def tree_content(tree: Tree, codes: np.ndarray, k: int, first_free: int) -> dict[str, Any]:
    """A dendrogram as the script draws it, with a colour for every node that no cut changes.

    Nodes are the L leaves, then what every merge made. Cut into k regions it has the colours of `codes` (N,),
    those of the regions shown; a cut that is one finer leaves the larger part its colour and gives the other
    a new one, and a coarser one keeps that of the larger part.
    """
    n_leaves = len(tree.merges) + 1
    joined = tree.merges[:, :2].astype(int)
    k = min(max(k, 1), n_leaves)
    sizes = np.bincount(tree.leaf[tree.leaf >= 0], minlength=n_leaves).tolist()
    places = dict(zip(_leaf_order(joined, n_leaves), range(n_leaves), strict=True))
    x, y = [float(places[leaf]) for leaf in range(n_leaves)], [0.0] * n_leaves
    for (a, b), height in zip(joined.tolist(), tree.merges[:, 2].tolist(), strict=True):
        sizes.append(sizes[a] + sizes[b])
        x.append((x[a] + x[b]) / 2)
        y.append(float(f"{height:.{_HEIGHT_DIGITS}g}"))
    return {
        "joined": joined.tolist(),
        "sizes": sizes,
        "x": x,
        "y": y,
        "codes": _node_codes(tree.leaf, joined, sizes, codes, k, first_free),
        "leaf": tree.leaf.tolist(),
        "k": k,
    }


def _node_codes(
    leaf: np.ndarray, joined: np.ndarray, sizes: list[int], codes: np.ndarray, k: int, first_free: int
) -> list[int]:
    """Colour code of every node; see `tree_content`."""
    n_leaves = len(joined) + 1
    groups = {node: [node] for node in range(n_leaves)}
    for node, (a, b) in enumerate(joined[: n_leaves - k].tolist(), start=n_leaves):
        groups[node] = groups.pop(a) + groups.pop(b)
    of_leaf = {one: node for node, members in groups.items() for one in members}
    cut = np.array([of_leaf.get(one, keys.NO_REGION) for one in leaf.tolist()])
    matched = match(cut, codes, first_free)
    found = {node: int(matched[np.argmax(cut == node)]) for node in groups if (cut == node).any()}
    fresh = max([first_free - 1, *found.values(), *codes.tolist()]) + 1
    for node in groups:
        if node not in found:
            found[node], fresh = fresh, fresh + 1
    steps = list(enumerate(joined.tolist(), start=n_leaves))
    for node, (a, b) in steps[n_leaves - k :]:
        found[node] = found[_larger(a, b, sizes)[0]]
    for node, (a, b) in reversed(steps[: n_leaves - k]):
        larger, smaller = _larger(a, b, sizes)
        found[larger] = found[node]
        found[smaller], fresh = fresh, fresh + 1
    return [found[node] for node in range(2 * n_leaves - 1)]


def _larger(a: int, b: int, sizes: list[int]) -> tuple[int, int]:
    """Two nodes, the one with more spots first."""
    return (a, b) if sizes[a] >= sizes[b] else (b, a)


def _leaf_order(joined: np.ndarray, n_leaves: int) -> list[int]:
    """Leaves from left to right, so that no two lines of the drawing cross."""
    order, waiting = [], [2 * n_leaves - 2]
    while waiting:
        node = waiting.pop()
        if node < n_leaves:
            order.append(node)
        else:
            waiting += joined[node - n_leaves].tolist()[::-1]
    return order
