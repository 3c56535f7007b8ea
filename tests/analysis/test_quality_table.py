"""The table of a cohort's quality and its warnings, from shards' descriptions."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from senca_ray import keys
from senca_ray.analysis.quality import (
    MEASURES,
    measures_beyond,
    quality_table,
    quality_warnings,
    shared_spots,
    summary_lines,
)
from senca_ray.config import Configs, QualityLimits, from_mapping
from senca_ray.data.shards import SCHEMA_VERSION
from senca_ray.errors import ProblemsError

LIMITS = QualityLimits()
_SEEDS = itertools.count(1000)


def signature(seed: int) -> dict[str, Any]:
    values = np.sort(np.random.default_rng(seed).choice(2**40, 300, replace=False))
    return {"spots": 300, "sketch": values[:128].tolist()}


def facts(**changes: Any) -> dict[str, Any]:
    """What is measured of a good section; every section has spots of its own."""
    return {
        "spots": 300,
        "genes_detected": 15000,
        "counts": [1000.0, 2500.0, 4000.0, 6000.0, 9000.0],
        "genes": [500.0, 1000.0, 1500.0, 2000.0, 3000.0],
        "mito_genes": 13,
        "mito_share": 0.05,
        "signature": signature(next(_SEEDS)),
        "distance_px": 100.0,
        "sharpness": 1.0,
        "off_tissue": 0.01,
        "tissue_share": 0.3,
        "fit": 0.98,
        "best_fit": 0.99,
        "shift": [0.0, 0.25],
        "turned_fit": 0.85,
        "turned": 2,
    } | changes


def write_shard_of(folder: Path, sample: str, **given: Any) -> str:
    """Write a shard's description; `quality` None: prepared before quality was measured."""
    meta = {
        "schema": SCHEMA_VERSION,
        "sample": sample,
        "patient": "P",
        "role": keys.TUNING,
        "modality": keys.RNA_IMAGE,
        "label_source": keys.ANNOTATED,
        "spots": 300,
        "quality": facts(),
        "fingerprint": f"{sample:0<64}",
    } | given
    if meta["quality"] is None:
        del meta["quality"]
    shard = folder / f"{sample}-0123"
    shard.mkdir(parents=True, exist_ok=True)
    (shard / keys.SHARD_FILE).write_text(json.dumps(meta, allow_nan=False))
    return str(shard)


def table_of(folder: Path, **sections: dict[str, Any]) -> pd.DataFrame:
    return quality_table({name: write_shard_of(folder, name, **given) for name, given in sections.items()})


def said(table: pd.DataFrame) -> list[tuple[str, str]]:
    return [(w.sample, w.measure.column) for w in quality_warnings(table, LIMITS)]


def test_a_good_cohort_has_no_warnings(tmp_path: Path) -> None:
    table = table_of(tmp_path, B10={}, B2={}, A1={})
    assert table["sample"].tolist() == ["A1", "B2", "B10"]
    assert said(table) == [] and measures_beyond(table, LIMITS) == ["", "", ""]
    assert table["counts"].tolist() == [4000.0] * 3 and table["shift"].tolist() == [0.25] * 3
    assert (table["shared_spots"] == 0).all()


@pytest.mark.parametrize(
    ("change", "column"),
    [
        ({"counts": [1, 2, 499.0, 600, 700]}, "counts"),
        ({"genes": [1, 2, 199.0, 600, 700]}, "genes"),
        ({"mito_share": 0.21}, "mito_share"),
        ({"sharpness": 0.09}, "sharpness"),
        ({"off_tissue": 0.11}, "off_tissue"),
        ({"shift": [0.5, -0.25]}, "shift"),
        ({"best_fit": 0.8, "turned_fit": 0.9, "turned": 4}, "turned_gain"),
    ],
)
def test_a_value_beyond_its_limit_is_warned_of(tmp_path: Path, change: dict[str, Any], column: str) -> None:
    table = table_of(tmp_path, A1={"quality": facts() | change}, B1={})
    assert said(table) == [("A1", column)]
    [warning] = quality_warnings(table, LIMITS)
    assert str(warning).startswith("A1: ") and "; expected at " in str(warning)
    assert measures_beyond(table, LIMITS)[0] == warning.measure.title


def test_a_turned_frame_is_described(tmp_path: Path) -> None:
    change = {"best_fit": 0.8, "turned_fit": 0.9, "turned": 4}
    [line] = summary_lines(quality_warnings(table_of(tmp_path, A1={"quality": facts() | change}), LIMITS))
    assert "with x and y swapped; correct the positions" in line


def test_few_spots_are_warned_of_and_limits_can_be_moved(tmp_path: Path) -> None:
    table = table_of(tmp_path, A1={"spots": 99})
    assert said(table) == [("A1", "spots")]
    moved = from_mapping(Configs, {"quality": {"min_spots": 10}}).quality
    assert quality_warnings(table, moved) == []


def test_what_was_not_measured_is_not_warned_of(tmp_path: Path) -> None:
    nothing = {name: None for name in ("mito_share", "sharpness", "off_tissue", "fit", "shift", "turned_fit")}
    table = table_of(tmp_path, A1={"quality": None}, B1={"quality": facts() | nothing | {"signature": None}})
    assert said(table) == [] and table["measured"].tolist() == [False, True]
    assert table["sharpness"].isna().all() and table["shared_spots"].isna().all()
    assert table["spots"].tolist() == [300, 300]


def test_shards_that_cannot_be_read_are_all_named(tmp_path: Path) -> None:
    shards = {name: str(tmp_path / name) for name in ("A1", "B1")}
    with pytest.raises(ProblemsError) as caught:
        quality_table(shards)
    assert [p.sample for p in caught.value.problems] == ["A1", "B1"]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (
            {"patient": "Q"},
            "of different patients, so that a patient left out for testing is not: scores leak",
        ),
        ({"role": "test"}, "one for tuning and one for testing: scores leak"),
        ({}, "of one patient, which counts it twice"),
    ],
)
def test_a_section_that_is_there_twice(tmp_path: Path, given: dict[str, Any], words: str) -> None:
    twin = given | {"quality": facts(signature=signature(1))}
    table = table_of(tmp_path, A1={"quality": facts(signature=signature(1))}, A9=twin, B1={})
    [warning] = quality_warnings(table, LIMITS)
    assert warning.sample == "A1" and f"the same section as A9, {words}" in warning.advice
    assert table["shared_with"].tolist() == ["A9", "A1", ""]
    assert table["shared_spots"].tolist() == [1, 1, 0]
    assert [bool(b) for b in measures_beyond(table, LIMITS)] == [True, True, False]


@given(
    seed=st.integers(0, 999), large=st.integers(40, 1500), small=st.integers(40, 1500), part=st.floats(0, 1)
)
@settings(max_examples=20, deadline=None)
def test_the_share_in_common_is_estimated_from_sketches(
    seed: int, large: int, small: int, part: float
) -> None:
    small, large = sorted((small, large))
    common = round(part * small)
    values = np.random.default_rng(seed).choice(10**6, large + small - common, replace=False)
    spots = {"one": values[:large], "other": values[large - common :]}
    sketches = {n: {"spots": len(v), "sketch": np.sort(v)[:128].tolist()} for n, v in spots.items()}
    pairs = shared_spots(sketches)
    found = pairs[0].share if pairs else 0.0
    backwards = shared_spots(dict(reversed(sketches.items())))
    assert [pair.share for pair in backwards] == [pair.share for pair in pairs]
    if large + small <= 256 and large <= 128:
        assert found == pytest.approx(common / small if common >= 3 else 0.0)
    # A sketch of 128 tells shares of all spots to about 0.2 at worst; of a small section's it tells less.
    assert abs(found - common / small) < 0.25 * (1 + large / small)
    if not common:
        assert not pairs


def test_many_warnings_of_a_kind_are_one_line(tmp_path: Path) -> None:
    sections = {f"S{i}": {"spots": 10 + i} for i in range(12)}
    lines = summary_lines(quality_warnings(table_of(tmp_path, **sections), LIMITS))
    assert len(lines) == 1
    assert lines[0].startswith("12 sections: spots under 100: S0 10, S1 11") and "and 4 more" in lines[0]


def test_every_limit_belongs_to_a_measure() -> None:
    assert {m.limit for m in MEASURES} == set(vars(LIMITS))


def test_limits_out_of_range_are_refused_all_at_once() -> None:
    with pytest.raises(ProblemsError) as caught:
        from_mapping(Configs, {"quality": {"max_off_tissue": 2, "min_spots": -1}})
    assert [p.place for p in caught.value.problems] == ["quality.min_spots", "quality.max_off_tissue"]
