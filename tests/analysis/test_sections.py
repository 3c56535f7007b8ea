from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from report.study_folder import COHORT, make_benchmark, make_search, make_study
from tiny_study import failed, trial_rows, write_study

from senca_ray import keys
from senca_ray.analysis import sections
from senca_ray.analysis.confidence import seed_agreement
from senca_ray.analysis.description import read_description
from senca_ray.analysis.embeddings import KeptEmbedding, read_embedding, write_embedding
from senca_ray.analysis.kind_control import read_control
from senca_ray.analysis.markers import region_markers
from senca_ray.analysis.portrait import Portrait, read_portrait, read_portraits
from senca_ray.analysis.results import Journal, read_regions, read_results, write_tables
from senca_ray.analysis.sections import KEPT_MARKERS, make_portraits
from senca_ray.analysis.selection import read_selection
from senca_ray.analysis.study_markers import study_markers, write_markers
from senca_ray.data.sample import ALL_GENES
from senca_ray.data.shards import read_sample
from senca_ray.errors import SencaError
from senca_ray.fit.regions import silhouette_curve
from senca_ray.methods.protocol import Protocol

LAID_OUT: list[int] = []
"""Spots of every layout that was computed."""


@pytest.fixture(autouse=True)
def quick_layout(monkeypatch: pytest.MonkeyPatch) -> None:
    """UMAP has tests of its own, and compiles for seconds."""

    def layout(embedding: np.ndarray, kept: np.ndarray) -> np.ndarray:
        LAID_OUT.append(len(kept))
        return np.where(kept[:, None], embedding[:, :2], np.nan).astype(np.float32)

    LAID_OUT.clear()
    monkeypatch.setattr(sections, "umap_layout", layout)


@pytest.fixture(scope="module")
def once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_study(
        tmp_path_factory.mktemp("sections"), fails=lambda sample, setting: sample == "C1", side=10
    )


@pytest.fixture
def grid(once: Path, tmp_path: Path) -> Path:
    """A sweep whose fits all failed on section C1."""
    return Path(shutil.copytree(once, tmp_path / "study"))


def portraits(folder: Path) -> dict[str, Portrait]:
    return read_portraits(folder, list(read_description(folder)["shards"]))


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (folder / keys.PORTRAIT_FOLDER).iterdir()}


def rows_of(folder: Path, **wanted: Any) -> pd.DataFrame:
    rows = read_results(folder).merge(read_regions(folder), on=list(keys.ROW_KEY))
    for name, value in wanted.items():
        rows = rows[rows[name] == value]
    return rows


def mangle(folder: Path, portrait: Portrait, change: Callable[[Path, KeptEmbedding], None]) -> None:
    """Change the embedding that a portrait was made from."""
    found = read_embedding(folder, portrait.method, portrait.setting, portrait.sample)
    assert found is not None
    [path] = [
        path
        for path in (folder / keys.EMBEDDING_FOLDER).iterdir()
        if portrait.sample.encode() in path.read_bytes()
        and f'"{portrait.setting}"'.encode() in path.read_bytes()
    ]
    change(path, found)


def replace_embedding(folder: Path, portrait: Portrait, values: np.ndarray) -> None:
    trial = {name: getattr(portrait, name) for name in (keys.METHOD, keys.SETTING, keys.SAMPLE)}
    write_embedding(folder, trial | {keys.SEED: portrait.seed}, values)


def test_a_grid_is_portrayed_with_what_the_seeds_of_the_default_agree_on(grid: Path) -> None:
    make_portraits(grid)
    made = portraits(grid)
    assert list(made) == ["A1", "A2", "B1"]
    for sample, portrait in made.items():
        own = rows_of(grid, method="senca", setting="neighbors=4", sample=sample)
        [agreed] = own[own[keys.CLUSTERING] == keys.CONSENSUS][keys.REGIONS]
        seeds = own[own[keys.CLUSTERING] == "ward"]
        assert (portrait.method, portrait.setting, portrait.n_seeds) == ("senca", "neighbors=4", 3)
        np.testing.assert_array_equal(portrait.regions, agreed)
        np.testing.assert_array_equal(portrait.confidence, seed_agreement(agreed, list(seeds[keys.REGIONS])))
        assert portrait.seed == seeds[seeds[keys.TYPICAL].eq(True)][keys.SEED].item()
        kept = read_embedding(grid, "senca", "neighbors=4", sample)
        assert kept is not None and portrait.curve == silhouette_curve(kept.values, "ward")
        assert portrait.tree is not None and portrait.tree.linkage == "ward"
        assert portrait.umap is not None and len(portrait.umap) == 100
        assert len(portrait.kinds) == portrait.k == 4
    assert read_control(grid) is not None


def test_a_seed_alone_stands_for_itself(tmp_path: Path) -> None:
    folder = make_study(tmp_path, COHORT[:1], seeds=1, side=10)
    make_portraits(folder)
    portrait = portraits(folder)["A1"]
    [regions] = rows_of(folder, method="senca", setting="neighbors=4")[keys.REGIONS]
    np.testing.assert_array_equal(portrait.regions, regions)
    assert (portrait.n_seeds, portrait.seed, portrait.confidence) == (1, 0, None)


def test_a_search_is_portrayed_with_the_choice_of_its_main_fold(tmp_path: Path) -> None:
    folder = make_search(tmp_path)
    make_portraits(folder)
    chosen = read_selection(folder)["folds"][0]["chosen"]
    made = portraits(folder)
    assert {portrait.setting for portrait in made.values()} == {chosen} != {"default"}
    assert list(made) == ["A1", "B1", "C1", "D1"]


def test_a_search_that_chose_nothing_is_portrayed_with_its_default(tmp_path: Path) -> None:
    folder = make_search(tmp_path)
    selection = read_selection(folder)
    for fold in selection["folds"]:
        fold["chosen"] = None
    (folder / keys.SELECTION_FILE).write_text(json.dumps(selection))
    make_portraits(folder)
    assert {portrait.setting for portrait in portraits(folder).values()} == {"default"}


@pytest.mark.parametrize(
    ("reference", "setting", "clustering"),
    [
        ("senca", keys.DEFAULT, "ward"),
        ("const:leiden", keys.FIXED, "leiden"),
        ("const", keys.FIXED, "leiden"),
        ("bayesspace", keys.FIXED, keys.OWN),
    ],
)
def test_a_benchmark_is_portrayed_with_its_reference(
    tmp_path: Path, reference: str, setting: str, clustering: str
) -> None:
    folder = make_benchmark(
        tmp_path, COHORT[:1], side=10, reference=reference, protocol=Protocol(undetermined=keys.DROPPED)
    )
    make_portraits(folder)
    portrait = portraits(folder)["A1"]
    assert (portrait.method, portrait.setting) == (reference.partition(":")[0], setting)
    out = portrait.regions == keys.NO_REGION
    assert portrait.umap is not None and portrait.tree is not None and portrait.confidence is not None
    assert out.any() and np.isnan(portrait.umap[out]).all() and np.isnan(portrait.confidence[out]).all()
    assert (portrait.tree.leaf[out] == keys.NO_REGION).all() and portrait.tree.linkage == "ward"
    # A method that finds regions by itself has no clustering whose curve could be drawn.
    kept = read_embedding(folder, portrait.method, setting, "A1")
    assert kept is not None
    expected_curve = {} if clustering == keys.OWN else silhouette_curve(kept.values[~out], clustering)
    assert portrait.curve == expected_curve
    own = rows_of(
        folder, method=portrait.method, clustering=clustering, protocol=keys.DROPPED, k_policy="labels"
    )
    expected = seed_agreement(portrait.regions, list(own[keys.REGIONS]))
    np.testing.assert_array_equal(portrait.confidence, expected)


FIXED = {
    keys.SETTING: "neighbors=4",
    keys.PATIENT: "T",
    keys.MODALITY: keys.RNA,
    keys.LABEL_SOURCE: keys.SIMULATED,
    keys.K: 2,
    keys.N_SPOTS: 48,
    keys.N_SCORED: 47,
    keys.DEVICE: "cpu",
    keys.ENCODER: "none",
    keys.FINGERPRINT: "0",
    keys.VERSIONS: "{}",
    keys.CONFIG: "{}",
}
HALVES = np.arange(48) % 8 >= 4


def toy_study(folder: Path, shard: str, changed: dict[int, dict[str, Any]], **described: Any) -> Path:
    """One section, whose halves differ in half of the genes, in three seeds and their consensus."""
    rows = []
    for row in trial_rows("T1"):
        row |= FIXED | {keys.REGIONS: HALVES.astype(int).tolist(), keys.N_SEEDS: 3}
        rows.append(row | changed.get(row[keys.SEED], {}))
        if row[keys.SEED] != keys.ALL_SEEDS:
            # The same fit judged otherwise.
            other = {keys.PROTOCOL: keys.DROPPED, keys.REGIONS: [0] * 48, keys.TYPICAL: None}
            rows.append(row | other)
    write_study(folder, shards={"T1": shard}, **described)
    Journal(folder).append(rows)
    write_tables(folder)
    return folder


def test_with_a_failed_seed_the_typical_one_stands_for_the_section(toy_shard: str, tmp_path: Path) -> None:
    shown = (np.arange(48) >= 24).astype(int).tolist()
    gone = failed("no consensus, because of failed seeds: 0 of 3")
    folder = toy_study(
        tmp_path / "s",
        toy_shard,
        {0: failed("loss is not finite"), 2: {keys.TYPICAL: True, keys.REGIONS: shown}, keys.ALL_SEEDS: gone},
    )
    make_portraits(folder)
    portrait = portraits(folder)["T1"]
    assert portrait.regions.tolist() == shown
    assert (portrait.n_seeds, portrait.confidence, portrait.seed, portrait.umap) == (1, None, None, None)


def test_a_study_of_an_earlier_version_has_portraits_without_what_it_did_not_keep(
    toy_shard: str, tmp_path: Path
) -> None:
    folder = toy_study(tmp_path / "s", toy_shard, {keys.ALL_SEEDS: failed("no consensus")})
    make_portraits(folder)
    portrait = portraits(folder)["T1"]
    np.testing.assert_array_equal(portrait.regions, HALVES)
    assert (portrait.tree, portrait.curve) == (None, {})


def test_markers_are_the_strongest_genes_of_every_region(toy_shard: str, tmp_path: Path) -> None:
    folder = toy_study(tmp_path / "s", toy_shard, {})
    make_portraits(folder)
    markers = portraits(folder)["T1"].markers
    sample = read_sample(toy_shard, ALL_GENES)
    all_ = region_markers(sample.counts, sample.genes, sample.total_counts, sample.target_sum, HALVES * 1)
    higher = all_[(all_["effect"] > 0) & (all_["p_adjusted"] < 0.05)]
    assert 0 < len(higher) < KEPT_MARKERS
    for region, rows in higher.groupby("region"):
        mine = markers[markers["region"] == region]
        ordered = rows.sort_values("effect", ascending=False, kind="stable")
        assert mine["gene"].tolist() == ordered["gene"].tolist()
        assert mine["effect"].is_monotonic_decreasing


def test_markers_that_the_study_tested_are_not_tested_again(
    toy_shard: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tests = []

    def counted(*about: Any) -> pd.DataFrame:
        tests.append(about)
        return region_markers(*about)

    monkeypatch.setattr(sections, "region_markers", counted)
    folder = toy_study(tmp_path / "s", toy_shard, {})
    make_portraits(folder)
    tested = portraits(folder)["T1"].markers
    write_markers(folder, study_markers(folder, read_description(folder)))
    shutil.rmtree(folder / keys.PORTRAIT_FOLDER)
    make_portraits(folder)
    pd.testing.assert_frame_equal(portraits(folder)["T1"].markers, tested)
    assert len(tests) == 1

    # Those of other regions are of no use.
    write_markers(folder, pd.read_parquet(folder / keys.MARKERS_FILE).assign(n_spots_in=20))
    shutil.rmtree(folder / keys.PORTRAIT_FOLDER)
    make_portraits(folder)
    assert len(tests) == 2


def test_what_did_not_change_is_not_made_again(grid: Path) -> None:
    make_portraits(grid)
    before = files(grid)
    assert len(LAID_OUT) == 3
    told: list[str] = []
    make_portraits(grid, told.append)
    assert (files(grid), len(LAID_OUT), told) == (before, 3, [])


def test_what_changed_is_made_again_and_kinds_of_all_are_matched_anew(
    grid: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_portraits(grid)
    before, made = files(grid), portraits(grid)
    replace_embedding(grid, made["A2"], np.random.default_rng(3).normal(size=(100, 4)))
    monkeypatch.setattr(sections, "match_kinds", lambda profiles: {p.sample: (7, 1, 2, 3) for p in profiles})
    told: list[str] = []
    make_portraits(grid, told.append)
    again = portraits(grid)
    assert len(LAID_OUT) == 4 and {words.partition(":")[0] for words in told} == {
        "A2",
        "regions across sections",
    }
    assert {portrait.kinds for portrait in again.values()} == {(7, 1, 2, 3)}
    np.testing.assert_array_equal(again["A1"].umap, made["A1"].umap)
    assert not np.array_equal(again["A2"].umap, made["A2"].umap)
    assert files(grid).keys() == before.keys()


@pytest.mark.parametrize("writes", range(5))
def test_a_stop_at_any_point_is_made_up_for(grid: Path, monkeypatch: pytest.MonkeyPatch, writes: int) -> None:
    make_portraits(grid)
    # From here on all kinds are others, and a section is to be made again.
    (grid / keys.PORTRAIT_FOLDER / "A2.parquet").unlink()
    monkeypatch.setattr(sections, "match_kinds", lambda profiles: {p.sample: (7, 1, 2, 3) for p in profiles})
    whole = shutil.copytree(grid, grid.with_name("whole"))
    make_portraits(whole)
    write, left = sections.write_portrait, iter(range(writes))

    def stopping(*about: Any) -> None:
        if next(left, None) is None:
            raise SencaError("no space left")
        write(*about)

    with monkeypatch.context() as patch:
        patch.setattr(sections, "write_portrait", stopping)
        if writes < 4:
            with pytest.raises(SencaError, match="no space left"):
                make_portraits(grid)
        else:
            make_portraits(grid)
    make_portraits(grid)
    assert files(grid) == files(whole)


def test_a_portrait_without_a_section_is_removed(grid: Path) -> None:
    make_portraits(grid)
    before = files(grid)
    shutil.copy(grid / keys.PORTRAIT_FOLDER / "A1.parquet", grid / keys.PORTRAIT_FOLDER / "C1.parquet")
    make_portraits(grid)
    assert files(grid) == before


def test_seeds_that_change_under_the_same_consensus_change_the_confidence(
    toy_shard: str, tmp_path: Path
) -> None:
    agreeing = toy_study(tmp_path / "agreeing", toy_shard, {})
    make_portraits(agreeing)
    folder = toy_study(
        tmp_path / "s", toy_shard, {1: {keys.REGIONS: [*(~HALVES).astype(int).tolist()[:47], 1]}}
    )
    shutil.copytree(agreeing / keys.PORTRAIT_FOLDER, folder / keys.PORTRAIT_FOLDER)
    make_portraits(folder)
    confidence = portraits(folder)["T1"].confidence
    assert confidence is not None
    np.testing.assert_allclose(confidence, [1] * 47 + [2 / 3], rtol=1e-6)


@pytest.mark.parametrize("damaged", ["A1.parquet", "kinds.json"])
def test_a_damaged_file_is_replaced(grid: Path, damaged: str) -> None:
    make_portraits(grid)
    whole = files(grid)
    path = grid / keys.PORTRAIT_FOLDER / damaged
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    make_portraits(grid)
    assert files(grid) == whole


def test_a_section_that_cannot_be_read_has_none_and_stops_no_other(
    grid: Path, caplog: pytest.LogCaptureFixture
) -> None:
    make_portraits(grid)
    path = grid / keys.STUDY_FILE
    description = json.loads(path.read_text())
    description["shards"]["A2"] = "/nowhere/A2-0"
    path.write_text(json.dumps(description))
    (grid / keys.PORTRAIT_FOLDER / "B1.parquet").unlink()
    make_portraits(grid)
    assert list(portraits(grid)) == ["A1", "B1"]
    [warning] = caplog.records
    assert "A2: no portrait of it (/nowhere/A2-0: not a shard" in warning.getMessage()


def test_a_study_without_any_regions_has_no_portraits(tmp_path: Path) -> None:
    folder = make_study(tmp_path, COHORT[:1], fails=lambda sample, setting: True, side=10)
    make_portraits(folder)
    assert portraits(folder) == {}


def test_a_damaged_embedding_is_told_and_costs_what_rests_on_it(
    grid: Path, caplog: pytest.LogCaptureFixture
) -> None:
    make_portraits(grid)
    made = portraits(grid)
    mangle(grid, made["A1"], lambda path, found: path.write_bytes(path.read_bytes()[:200]))
    replace_embedding(grid, made["A2"], np.zeros((7, 4)))
    replace_embedding(grid, made["B1"], np.full((100, 4), np.nan))
    with caplog.at_level(logging.WARNING):
        make_portraits(grid)
    words = [record.getMessage() for record in caplog.records]
    assert [text.partition(" (")[0] for text in words] == [
        f"{sample}: shown without UMAP, tree and curve" for sample in ("A1", "A2", "B1")
    ]
    assert "not an embedding" in words[0] and "remove the file" in words[0]
    assert "7 spots; expected 100" in words[1] and "NaN" in words[2]
    for sample, portrait in portraits(grid).items():
        assert (portrait.seed, portrait.umap, portrait.tree, portrait.curve) == (None, None, None, {})
        np.testing.assert_array_equal(portrait.confidence, made[sample].confidence)
    caplog.clear()
    make_portraits(grid)
    assert not caplog.records


def test_progress_names_the_section_and_what_is_done(grid: Path) -> None:
    told: list[str] = []
    make_portraits(grid, told.append)
    assert told[:3] == ["A1: UMAP", "A1: tree", "A1: markers"] and len(told) == 10
    assert read_portrait(grid, "C1") is None
