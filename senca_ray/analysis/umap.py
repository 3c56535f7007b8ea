"""Two-dimensional layouts of embeddings (UMAP), to be looked at."""

from __future__ import annotations

import warnings

import numpy as np

LEAST_SPOTS = 5
"""Of fewer spots there is no layout: their neighbourhoods are all the same."""
MOST_SPOTS = 20_000
"""Of more spots as many are laid out, drawn at random: more points than a page can show apart."""
_NEIGHBORS = 15
"""Spots that make up a neighbourhood, the spot itself among them; the library's own default."""


def umap_layout(embedding: np.ndarray, kept: np.ndarray) -> np.ndarray | None:
    """UMAP positions (N, 2) float32 of up to MOST_SPOTS kept spots, NaN for others; None below LEAST_SPOTS.

    Shapes: embedding (N, D) finite, kept (N,) bool. The same embedding gives the same positions.
    """
    from senca_ray.fit.cells import sampled_rows

    shown = np.flatnonzero(kept)
    shown = shown[sampled_rows(len(shown), MOST_SPOTS)]
    values = np.asarray(embedding, dtype=np.float32)[shown]
    if len(values) < LEAST_SPOTS:
        return None
    layout = np.full((len(kept), 2), np.nan, dtype=np.float32)
    with warnings.catch_warnings():
        # Of a neighbourhood graph in parts, of packages that are not there: nothing a reader could mend.
        warnings.simplefilter("ignore")
        layout[shown] = _positions(values)
    return layout


def _positions(values: np.ndarray) -> np.ndarray:
    from sklearn.neighbors import NearestNeighbors
    from umap import UMAP

    neighbors = min(_NEIGHBORS, len(values))
    # Given exact neighbours, the library need not compile its own search, which took as long as all the rest.
    distances, nearest = NearestNeighbors(n_neighbors=neighbors).fit(values).kneighbors(values)
    model = UMAP(
        n_neighbors=neighbors,
        precomputed_knn=(nearest, distances),
        force_approximation_algorithm=True,  # or the neighbours given would be ignored for small sections
        random_state=0,
        n_jobs=1,
    )
    return np.asarray(model.fit_transform(values))
