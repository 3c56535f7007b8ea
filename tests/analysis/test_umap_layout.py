from __future__ import annotations

import warnings

import numpy as np
import pytest

from senca_ray.analysis.umap import LEAST_SPOTS, umap_layout

RNG = np.random.default_rng(0)
CLOUDS = np.repeat([0, 1], 40)
EMBEDDING = RNG.normal(size=(80, 6)) + 20.0 * CLOUDS[:, None]
ALL = np.ones(80, dtype=bool)


def test_what_is_alike_lies_together_and_the_same_comes_out_again() -> None:
    layout = umap_layout(EMBEDDING, ALL)
    assert layout is not None and layout.shape == (80, 2) and layout.dtype == np.float32
    centres = np.stack([layout[cloud == CLOUDS].mean(axis=0) for cloud in (0, 1)])
    nearest = np.linalg.norm(layout[:, None] - centres, axis=2).argmin(axis=1)
    np.testing.assert_array_equal(nearest, CLOUDS)
    np.testing.assert_array_equal(umap_layout(EMBEDDING.astype(np.float32), ALL), layout)


def test_spots_left_out_have_no_place_and_move_no_other() -> None:
    kept = np.arange(80) % 5 != 1
    layout = umap_layout(np.where(kept[:, None], EMBEDDING, 1e6), kept)
    assert layout is not None
    assert np.isnan(layout[~kept]).all()
    np.testing.assert_array_equal(layout[kept], umap_layout(EMBEDDING[kept], kept[kept]))


@pytest.mark.parametrize(
    "values",
    [
        RNG.normal(size=(LEAST_SPOTS, 4)),
        RNG.normal(size=(16, 2)),
        RNG.normal(size=(30, 1)),
        np.ones((20, 3)),
        np.repeat(RNG.normal(size=(3, 4)), 10, axis=0),
    ],
    ids=["few spots", "hardly more than neighbours", "one dimension", "all equal", "three distinct"],
)
def test_odd_embeddings_have_a_layout_without_any_warning(values: np.ndarray) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        layout = umap_layout(values, np.ones(len(values), dtype=bool))
    assert layout is not None and np.isfinite(layout).all()


def test_too_few_spots_have_no_layout() -> None:
    assert umap_layout(EMBEDDING, np.arange(80) < LEAST_SPOTS - 1) is None


def test_of_many_spots_some_are_laid_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("senca_ray.analysis.umap.MOST_SPOTS", 30)
    kept = np.arange(80) % 5 != 1
    layout = umap_layout(EMBEDDING, kept)
    assert layout is not None
    placed = ~np.isnan(layout).any(axis=1)
    assert placed.sum() == 30 and not (placed & ~kept).any()
