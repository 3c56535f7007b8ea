"""A benchmark as a user runs it: `experiments/benchmark.py` on a real local Ray, as small as shows it."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from world import World, results_of

from senca_ray import keys
from senca_ray.methods import METHODS

SAMPLES = ("A1", "A2", "B1", "C1")
MISSING = "spagcn"
NULLS = tuple(name for name, method in METHODS.items() if method.kind == keys.NULL)
RUN = ("senca", *NULLS, "smoothed-pca")
CHOSEN = ("model", "null", "smoothed-pca", "coordinates:average", MISSING)
OPTIONS = (
    *(word for sample in SAMPLES for word in ("--sample", sample)),
    *(word for method in CHOSEN for word in ("--method", method)),
    *("--seeds", "2", "--set", "epochs=2", "--set", "hvgs=200"),
)
BLOCK = "simulated, with image"
READINGS = {
    ("labels", "unscored"),
    ("labels", "unscored+refined"),
    ("labels", "dropped"),
    ("labels", "scored"),
    ("auto", "unscored"),
}


@pytest.fixture(scope="module")
def place(world: World) -> World:
    """What the other end-to-end tests have prepared; without W&B, which takes seconds a study."""
    return dataclasses.replace(world, wandb="disabled")


@pytest.fixture(scope="module")
def study(place: World) -> tuple[Path, str]:
    """The benchmark, once, and what it said."""
    out = place.home / "benchmark"
    ran = place.experiment("benchmark", *OPTIONS, "--out", str(out))
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return out, ran.stdout


@pytest.fixture(scope="module")
def summary(study: tuple[Path, str]) -> pd.DataFrame:
    return pd.read_csv(study[0] / keys.SUMMARY_FILE)


def plain(text: str) -> str:
    return " ".join(text.split())


def test_it_says_what_was_compared_and_how(study: tuple[Path, str]) -> None:
    text = plain(study[1])
    assert f"{BLOCK}: 4 sections of 3 patients, 2 seeds (0 to 1)" in text
    assert "k policy labels (oracle: taken from the labels)" in text
    assert "all spots clustered; undetermined left out of the score" in text
    assert "senca (ward) *" in text and "* the reference" in text
    assert "against senca (ward), paired over 3 patients" in text
    assert "what the ranking owes to the protocol" in text
    assert "its scores say nothing about tissue" in text
    assert "what papers print" not in text, "nothing is published about a simulated cohort"
    assert str(study[0] / keys.REPORT_FILE) in study[1]


def test_a_method_that_is_not_installed_is_told_with_the_command_and_stops_nothing(
    study: tuple[Path, str], summary: pd.DataFrame
) -> None:
    out, text = study
    results = results_of(out).set_index(keys.METHOD)
    lacking = results.loc[MISSING]
    assert set(lacking[keys.STATUS]) == {keys.FAILED} and set(lacking[keys.SAMPLE]) == set(SAMPLES)
    single = lacking[lacking[keys.SEED] >= 0]
    assert single[keys.REASON].str.contains(f"senca methods install {MISSING}").all()
    rest = results.drop(MISSING)
    assert (rest[keys.STATUS] == keys.OK).all(), rest[keys.REASON].dropna().unique()
    assert f"senca methods install {MISSING}" in text
    row = summary[(summary[keys.METHOD] == MISSING) & (summary[keys.CLUSTERING] != keys.CONSENSUS)].iloc[-1]
    assert np.isnan(row["mean_ari"]) and row["remark"] == "there is no score to compare"
    assert (row["kind"], row["source"]) == (keys.PUBLISHED, keys.PACKAGE)


def test_every_method_section_seed_and_reading_is_a_row(study: tuple[Path, str]) -> None:
    results = results_of(study[0])
    assert not results.duplicated(list(keys.ROW_KEY)).any()
    assert set(results[keys.METHOD]) == {*RUN, MISSING}
    single = results[results[keys.SEED] >= 0]
    for (name, sample), rows in single.groupby([keys.METHOD, keys.SAMPLE]):
        found = set(zip(rows[keys.K_POLICY], rows[keys.PROTOCOL], strict=True))
        own = METHODS[str(name)].clusterings[:1] == (keys.OWN,)
        expected = READINGS - {("labels", "dropped"), ("auto", "unscored")} if own else READINGS
        assert found == expected, (name, sample)
        assert set(rows[keys.SEED]) == ({0, 1} if METHODS[str(name)].seeded else {0})
    null = single[single[keys.METHOD] == "coordinates"]
    assert set(null[keys.CLUSTERING]) == {"kmeans", "average"}
    # Only the main clustering is read in other ways.
    assert set(null.loc[null[keys.CLUSTERING] == "average", keys.PROTOCOL]) == {keys.UNSCORED}
    combined = results[results[keys.SEED] == keys.ALL_SEEDS]
    assert set(combined[keys.PROTOCOL]) == {keys.UNSCORED} and set(combined[keys.K_POLICY]) == {"labels"}
    assert json.loads(single.loc[single[keys.METHOD] == "senca", keys.CONFIG].iloc[0])["epochs"] == 2


def test_one_section_read_in_several_ways(study: tuple[Path, str]) -> None:
    rows = results_of(study[0]).query("method == 'smoothed-pca' and sample == 'A1' and seed == 0")
    rows = rows[rows[keys.CLUSTERING] == "kmeans"].set_index([keys.K_POLICY, keys.PROTOCOL])
    unscored, dropped, scored = (rows.loc[("labels", name)] for name in ("unscored", "dropped", "scored"))
    assert unscored[keys.K] == dropped[keys.K] == scored[keys.K]
    assert unscored[keys.N_SPOTS] == scored[keys.N_SPOTS] == scored[keys.N_SCORED]
    assert unscored[keys.N_SCORED] == dropped[keys.N_SCORED] == dropped[keys.N_SPOTS] < scored[keys.N_SCORED]
    regions = pd.read_parquet(study[0] / keys.REGIONS_FILE).query(
        "method == 'smoothed-pca' and sample == 'A1' and seed == 0 and protocol == 'dropped'"
    )
    (found,) = regions[keys.REGIONS]
    assert (found == keys.NO_REGION).sum() == scored[keys.N_SPOTS] - dropped[keys.N_SPOTS]


def test_the_summary_is_what_its_rows_say(study: tuple[Path, str], summary: pd.DataFrame) -> None:
    results = results_of(study[0])
    main = results[(results[keys.PROTOCOL] == keys.UNSCORED) & (results[keys.K_POLICY] == "labels")]
    sections = main.groupby([keys.METHOD, keys.CLUSTERING, keys.PATIENT, keys.SAMPLE])[keys.ARI].mean()
    patients = sections.groupby(level=[0, 1, 2]).mean()
    assert set(summary["block"]) == {BLOCK} and set(summary["unit"]) == {"patient"}
    single = summary[summary[keys.CLUSTERING] != keys.CONSENSUS].set_index([keys.METHOD, keys.CLUSTERING])
    named = {(m, c) for m in RUN for c in METHODS[m].clusterings or ("ward",)}
    lacking = {(MISSING, clustering) for clustering in METHODS[MISSING].clusterings}
    assert set(single.index) == {*named, *lacking, ("coordinates", "average")}
    assert single["is_default"].to_dict()["senca", "ward"] and single["is_default"].sum() == 1
    scores = single["mean_ari"].dropna().tolist()
    assert scores == sorted(scores, reverse=True) and len(scores) == len(single) - len(lacking)
    for key, row in single.dropna(subset="mean_ari").iterrows():
        assert row["mean_ari"] == pytest.approx(patients[key].mean())
        if key == ("senca", "ward"):
            continue
        difference = patients[key] - patients["senca", "ward"]
        assert (row["n_paired"], row["wins"]) == (3, (difference > 0).sum())
        assert row["mean_difference"] == pytest.approx(difference.mean())
        assert row["t_p"] == pytest.approx(stats.ttest_1samp(difference, 0).pvalue)
        assert row["sign_flip_p"] >= 0.25 and row["sign_flip_p_holm"] >= row["sign_flip_p"]
        assert row["interval_low"] <= row["mean_difference"] <= row["interval_high"]
        assert "with 3 patients" in row["remark"]
    consensus = summary[summary[keys.CLUSTERING] == keys.CONSENSUS]
    assert consensus.loc[consensus["is_default"], keys.METHOD].tolist() == ["senca"]


def test_the_same_command_again_runs_nothing(place: World, study: tuple[Path, str]) -> None:
    out, text = study
    files = (keys.JOURNAL_FILE, keys.SUMMARY_FILE)
    before = [(out / name).read_bytes() for name in files]
    again = place.experiment("benchmark", *OPTIONS, "--out", str(out))
    assert again.returncode == 0, again.stderr
    assert f"all {len(SAMPLES) * (len(RUN) + 1)} trials were finished before" in again.stdout
    assert [(out / name).read_bytes() for name in files] == before
    table = plain(text)[plain(text).index(BLOCK) :]
    assert table[:2000] == plain(again.stdout)[plain(again.stdout).index(BLOCK) :][:2000]


def test_another_benchmark_in_the_same_folder_is_refused(place: World, study: tuple[Path, str]) -> None:
    refused = place.experiment(
        "benchmark", *OPTIONS, "--refined", "--unit", "section", "--out", str(study[0])
    )
    assert refused.returncode == 2
    assert "holds another study (it differs in unit, refined)" in refused.stderr


def test_all_that_is_wrong_is_told_at_once(place: World, tmp_path: Path) -> None:
    options = ("--method", "nonsense", "--unit", "moon", "--reference", "simple", "--undetermined", "gone")
    refused = place.experiment("benchmark", *options, "--out", str(tmp_path / "out"))
    assert refused.returncode == 2 and "Traceback" not in refused.stderr
    assert not (tmp_path / "out").exists()
    for words in ("'nonsense' is unknown", "moon", "'simple' found; expected one method", "'gone' found"):
        assert words in refused.stderr


def test_markers_of_the_regions_are_reported(place: World, tmp_path: Path) -> None:
    options = ("--sample", "A1", "--seeds", "2", "--set", "epochs=2", "--set", "hvgs=200", "--k", "fixed:3")
    gene = "ERBB2"
    ran = place.experiment("markers", *options, "--genes", f"{gene},NOSUCH", "--out", str(tmp_path / "out"))
    assert ran.returncode == 0, ran.stdout + ran.stderr
    markers = pd.read_parquet(tmp_path / "out" / keys.MARKERS_FILE)
    assert set(markers[keys.SAMPLE]) == {"A1"} and set(markers["region"]) == {0, 1, 2}
    # All genes of the shard are tested, not the 200 that the model read.
    assert markers["gene"].nunique() > 1000
    text = plain(ran.stdout)
    assert "A1: strongest genes of each region" in text and "NOSUCH" in text
    assert "the p-values are too small" in text
    page = (tmp_path / "out" / keys.REPORT_FILE).read_text()
    assert "Marker genes of the regions" in page and "NOSUCH" in page
