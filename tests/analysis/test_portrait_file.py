"""Portraits are kept and read back as they were."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from portrait_toys import toy_portrait

from senca_ray import keys
from senca_ray.analysis.portrait import Portrait, made_from, read_portrait, read_portraits, write_portrait
from senca_ray.errors import SencaError

XY = np.argwhere(np.ones((6, 8), dtype=bool)).astype(float)


def test_a_portrait_is_read_back_as_it_was(tmp_path: Path) -> None:
    given = toy_portrait("A1", XY)
    write_portrait(tmp_path, given, "these")
    found = read_portrait(tmp_path, "A1")
    assert found is not None and found.tree is not None and given.tree is not None
    for name in ("sample", "method", "setting", "n_seeds", "seed", "curve", "kinds", "k", "small"):
        assert getattr(found, name) == getattr(given, name), name
    for name in ("regions", "confidence", "umap"):
        np.testing.assert_array_equal(getattr(found, name), getattr(given, name))
    np.testing.assert_array_equal(found.tree.leaf, given.tree.leaf)
    np.testing.assert_array_equal(found.tree.merges, given.tree.merges)
    pd.testing.assert_frame_equal(found.markers, given.markers)
    assert made_from(tmp_path, "A1") == "these"


def test_a_portrait_of_one_seed_without_embedding_is_read_back(tmp_path: Path) -> None:
    given = Portrait("A1", "pca", keys.FIXED, np.zeros(48, dtype=np.int16), n_seeds=1)
    write_portrait(tmp_path, given, "these")
    found = read_portrait(tmp_path, "A1")
    assert found is not None and found.k == 1
    assert (found.confidence, found.umap, found.tree, found.seed, found.curve) == (None, None, None, None, {})


def test_small_regions_are_those_below_the_share_of_clustered_spots() -> None:
    regions = np.array([0] * 90 + [1] * 4 + [2] * 6 + [keys.NO_REGION] * 50, dtype=np.int16)
    portrait = dataclasses.replace(toy_portrait("A1", XY), regions=regions)
    assert portrait.small == (1,) and portrait.k == 3
    assert sum(portrait.shares.values()) == pytest.approx(1)


def test_sections_without_a_portrait_are_left_out_and_damage_is_named(tmp_path: Path) -> None:
    write_portrait(tmp_path, toy_portrait("A1", XY), "these")
    assert list(read_portraits(tmp_path, ["A1", "B1"])) == ["A1"]
    assert made_from(tmp_path, "B1") is None
    (tmp_path / keys.PORTRAIT_FOLDER / "A1.parquet").write_bytes(b"no table")
    with pytest.raises(SencaError, match=r"A1\.parquet: not a portrait"):
        read_portrait(tmp_path, "A1")
    assert made_from(tmp_path, "A1") is None


def test_confidence_of_a_region_is_the_mean_over_its_spots() -> None:
    regions = np.array([0, 0, 1, keys.NO_REGION], dtype=np.int16)
    sure = np.array([1, 0.5, 0.25, np.nan], dtype=np.float32)
    portrait = Portrait("A1", "senca", "default", regions, n_seeds=2, confidence=sure)
    assert portrait.confidence_by_region == {0: 0.75, 1: 0.25}
    assert dataclasses.replace(portrait, confidence=None).confidence_by_region == {}
