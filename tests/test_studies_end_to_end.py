"""Studies as a user runs them: ablation, search, study files, crashes, bad input, on a real local Ray.

Sections, seeds and epochs are as few as show it. One undisturbed grid and one undisturbed search are what the
disturbed ones have to end as.
"""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
import signal
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import optuna
import pytest
import yaml
from world import HIDDEN, World, assert_same_results, experiment, journal_of, results_of

from senca_ray import keys, lock
from senca_ray.study.grid import ABLATIONS, FULL

GRID = ("--sample", "A1", "--sample", "B1", "--seeds", "2", "--set", "epochs=2")
GRID_FILE = {
    "name": "ablation",
    "ablation": {},
    "cohort": {"samples": ["A1", "B1"]},
    "seeds": 2,
    "setting": {"epochs": 2},
}
SPACE = ("--space", "mse_weight=1..100:log", "--space", "neighbors=4,8")
FEW = ("--seeds", "2", "--suggestions", "3", *SPACE, "--set", "epochs=2", "--set", "hvgs=200")
# How many are under way at once is left to the machine otherwise, and what is suggested depends on it.
SEARCH = ("--sample", "A1", "--sample", "B1", "--sample", "C1", *FEW, "--ahead", "2")
SEARCH_FILE = {
    "name": "tune",
    "search": {
        "space": {"mse_weight": {"low": 1, "high": 100, "log": True}, "neighbors": [4, 8]},
        "suggestions": 3,
        "ahead": 2,
    },
    "cohort": {"samples": ["A1", "B1", "C1"]},
    "seeds": 2,
    "setting": {"epochs": 2, "hvgs": 200},
}
SPLIT = ("--sample", "A1", "--sample", "A2", "--sample", "B1")
FOLDS = ["without A", "without B", "without C", "all"]


@pytest.fixture(scope="module")
def place(world: World) -> World:
    """What the other end-to-end tests have prepared; without W&B, which takes seconds a study."""
    return dataclasses.replace(world, wandb="disabled")


@pytest.fixture(scope="module")
def studies(place: World) -> Path:
    folder = place.home / "studies"
    folder.mkdir()
    return folder


@pytest.fixture(scope="module")
def grid(place: World, studies: Path) -> tuple[Path, str]:
    """The undisturbed ablation, and what it said."""
    out = studies / "grid"
    return out, succeeded(place.experiment("ablation", *GRID, "--out", str(out)))


@pytest.fixture(scope="module")
def search(place: World, studies: Path) -> tuple[Path, str]:
    """The undisturbed search, every patient left out in turn, and what it said."""
    out = studies / "search"
    return out, succeeded(place.experiment("tune", *SEARCH, "--out", str(out)))


@pytest.fixture(scope="module")
def untested(place: World, studies: Path, grid: tuple[Path, str]) -> tuple[Path, str]:
    """A search for two scores that tests on nobody, over its own copy of a section, and what it said."""
    out, shards = studies / "untested", place.home / "own-shards"
    (section,) = (place.cache / "shards").glob("A1-*")
    shutil.copytree(section, shards / section.name)
    options = ("--sample", "A1", "--shards", str(shards), *FEW, "--select", "none")
    objectives = ("--objective", "ari", "--objective", "silhouette")
    return out, succeeded(place.experiment("tune", *options, *objectives, "--out", str(out)))


def succeeded(ran: CompletedProcess[str]) -> str:
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


def page_of(study: Path) -> str:
    return (study / keys.REPORT_FILE).read_text(encoding="utf-8")


def tables_in(page: str) -> list[str]:
    """The text of the page's tables, a space in place of each tag."""
    return [re.sub(r"<[^>]*>", " ", table) for table in re.findall(r"<table>.*?</table>", page, re.DOTALL)]


def suggestions_in(study: Path, fold: str) -> list[tuple[Any, ...]]:
    """What Optuna's file holds, read as anyone would."""
    log = optuna.load_study(study_name=f"tune {fold}", storage=f"sqlite:///{study / keys.OPTUNA_FILE}")
    return [(t.number, t.params, t.values, t.state.name, t.user_attrs) for t in log.trials]


# --- Ablation ----------------------------------------------------------------------------------------


def test_an_ablation_names_every_variant_the_default_first(grid: tuple[Path, str]) -> None:
    out, text = grid
    rows = [line.strip() for line in text.splitlines() if line.startswith("senca ")]
    named = [next((v for v in ABLATIONS if row.startswith(f"senca {v} ")), None) for row in rows]
    # One table of the seeds, one of their consensus.
    assert named == 2 * list(ABLATIONS) and named[0] == FULL
    assert rows[0].endswith("default")
    statistics = tables_in(page_of(out))[0]
    places = [statistics.index(f" {variant} ") for variant in ABLATIONS]
    assert places == sorted(places)
    assert set(results_of(out).query("method == 'senca'")[keys.SETTING]) == set(ABLATIONS)


# --- Search ------------------------------------------------------------------------------------------


def test_a_search_tests_every_choice_on_the_patient_left_out(search: tuple[Path, str]) -> None:
    out, text = search
    claim = "test scores are of 3 patients, each of them left out of the choice that is tested"
    assert claim in " ".join(text.split())
    assert "test scores" in page_of(out)
    selection = json.loads((out / keys.SELECTION_FILE).read_text())
    assert [fold["name"] for fold in selection["folds"]] == FOLDS
    model = results_of(out).query("method == 'senca' and seed >= 0").set_index([keys.SETTING, keys.SAMPLE])
    for fold, left_out in zip(selection["folds"], ("A1", "B1", "C1", None), strict=True):
        tuning = [sample for sample in ("A1", "B1", "C1") if sample != left_out]
        assert fold["tuning_samples"] == tuning and fold["test_samples"] == ([left_out] if left_out else [])
        scores = {
            one["label"]: model.loc[one["label"]].loc[tuning, keys.ARI].mean() for one in fold["suggestions"]
        }
        assert len(scores) == 3 and "default" in scores
        assert scores[fold["chosen"]] == max(scores.values())
        if left_out:
            tested = model.loc[(fold["chosen"], left_out), keys.ARI].mean()
            (row,) = re.findall(rf"^{fold['name']} .*$", text, re.MULTILINE)
            assert row.endswith(f"{tested:.3f}")


def test_optuna_reads_the_storage_of_a_search(search: tuple[Path, str]) -> None:
    selection = json.loads((search[0] / keys.SELECTION_FILE).read_text())
    for fold in selection["folds"]:
        logged = suggestions_in(search[0], fold["name"])
        expected = [(s["number"], s["values"], s["label"]) for s in fold["suggestions"]]
        assert [(number, values, own["label"]) for number, _, values, _, own in logged] == expected
        assert all(params.keys() == {"mse_weight", "neighbors"} for _, params, *_ in logged)


def test_a_search_that_tests_on_nobody_claims_no_test_score(untested: tuple[Path, str]) -> None:
    out, text = untested
    plain = " ".join(text.split())
    assert "no test score: every section took part in the choice" in plain
    assert plain.lower().count("test score") == plain.lower().count("no test score")
    page = page_of(out)
    assert "no test score" in page.lower()
    assert not any("test score" in table or "tuned" in table for table in tables_in(page))
    (fold,) = json.loads((out / keys.SELECTION_FILE).read_text())["folds"]
    assert fold["name"] == "all" and not fold["test_samples"]
    assert fold["chosen"] in fold["front"]
    assert all(len(one["values"]) == 2 for one in fold["suggestions"])


# --- Commands about studies ---------------------------------------------------------------------------


def test_studies_are_listed_shown_and_compared(
    place: World, studies: Path, grid: tuple[Path, str], search: tuple[Path, str]
) -> None:
    listed = succeeded(place.run("senca", "study", "list", str(studies)))
    assert re.search(r"^grid +finished +18 of 18 ", listed, re.MULTILINE)
    assert re.search(r"^search +finished ", listed, re.MULTILINE)
    shown = succeeded(place.run("senca", "study", "show", str(grid[0])))
    assert f"{FULL} (default)" in shown and "finished, 18 of 18 trials" in shown
    shown = succeeded(place.run("senca", "study", "show", str(search[0])))
    assert "mse_weight=1" in shown and "select loo-patient" in shown and "finished" in shown
    assert all(re.search(rf"^{fold} ", shown, re.MULTILINE) for fold in FOLDS)
    compared = succeeded(place.run("senca", "study", "compare", str(grid[0]), str(search[0])))
    assert "A is grid, B is search" in compared
    assert f"default against {FULL}" in compared or f"{FULL} against default" in compared
    assert "scored in B alone: C1" in compared


def test_clean_removes_what_is_agreed_to(place: World, search: tuple[Path, str], tmp_path: Path) -> None:
    copies = World(tmp_path, tmp_path / "cache")
    shutil.copytree(place.cache, tmp_path / "cache", ignore=HIDDEN)
    shutil.copytree(search[0], tmp_path / "studies/search")
    before = sorted(tmp_path.rglob("*"))
    options = ("senca", "clean", "--studies", str(tmp_path / "studies"))
    refused = succeeded(copies.run(*options, answers="n\n" * 10))
    assert "simulated cohorts" in refused and "prepared sections" in refused and "search" in refused
    assert "freed 0 bytes" in refused and sorted(tmp_path.rglob("*")) == before
    succeeded(copies.run(*options, "--yes"))
    assert not list((tmp_path / "cache").glob("simulated-*"))
    assert_same_results(tmp_path / "studies/search", search[0])


# --- Crashes -----------------------------------------------------------------------------------------


def test_a_search_whose_driver_is_killed_resumes_to_the_same_end(
    place: World, studies: Path, search: tuple[Path, str]
) -> None:
    out = studies / "driver-killed"
    with place.running(*experiment("tune"), *SEARCH, "--out", str(out)) as running:
        running.until_rows(out)
        running.send(signal.SIGKILL)
        assert running.wait() == -signal.SIGKILL
        # At once, while what is left of its Ray may still be there.
        done = journal_of(out)
        assert "stopped" in succeeded(place.run("senca", "study", "show", str(out)))
        succeeded(place.run("senca", "resume", str(out)))
    assert_ended_as(out, search[0], done)


def test_a_search_that_is_stopped_goes_on_with_the_same_command(
    place: World, studies: Path, search: tuple[Path, str], tmp_path: Path
) -> None:
    """The search of a file, which is the one of the recipe."""
    out, file = studies / "stopped", tmp_path / "search.yaml"
    file.write_text(yaml.safe_dump(SEARCH_FILE))
    command = ("senca", "study", "run", str(file), "--out", str(out))
    with place.running(*command) as running:
        running.until_rows(out)
        running.send(signal.SIGINT)
        assert running.wait() == 130, running.stderr
    assert f"senca resume {out}" in running.stderr and "Traceback" not in running.stderr
    done = journal_of(out)
    succeeded(place.run(*command))
    assert_ended_as(out, search[0], done)


def test_a_grid_whose_ray_node_is_killed_says_so_and_resumes_to_the_same_end(
    place: World, studies: Path, grid: tuple[Path, str], tmp_path: Path
) -> None:
    """The grid of a file, which is the one of the recipe."""
    out, file = studies / "node-killed", tmp_path / "grid.yaml"
    file.write_text(yaml.safe_dump(GRID_FILE))
    with place.running("senca", "study", "run", str(file), "--out", str(out)) as running:
        running.until_rows(out)
        running.kill_node()
        assert running.wait(60) == 2, running.stderr
    assert "the Ray node on this machine was lost" in running.stderr
    assert f"senca resume {out}" in running.stderr and "Traceback" not in running.stderr
    done = journal_of(out)
    assert not (out / keys.RESULTS_FILE).exists()
    succeeded(place.run("senca", "resume", str(out)))
    assert_ended_as(out, grid[0], done)


def assert_ended_as(out: Path, undisturbed: Path, done: list[dict[str, Any]]) -> None:
    """A study whose journal held `done` when it was disturbed ended as if it had not been."""
    assert 0 < len(done) < len(journal_of(undisturbed)), "it was not disturbed in its middle"
    assert journal_of(out)[: len(done)] == done
    assert len(journal_of(out)) == len(journal_of(undisturbed))
    assert_same_results(out, undisturbed)
    assert (out / keys.REPORT_FILE).exists()
    assert not (out / "tune").exists() and not (out / keys.LOCK_FILE).exists()
    if (undisturbed / keys.SELECTION_FILE).exists():
        selections = [json.loads((study / keys.SELECTION_FILE).read_text()) for study in (out, undisturbed)]
        assert selections[0] == selections[1]
        assert all(suggestions_in(out, fold) == suggestions_in(undisturbed, fold) for fold in FOLDS)


# --- Bad input ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (("--space", "nonsense=1..2"), ["nonsense: unknown"]),
        (
            ("--space", "neighbors=8..8", "--space", "epochs=40..5"),
            ["2 problems", "neighbors: 8..8 is empty", "epochs: 40..5 is empty"],
        ),
        (
            # A1 is not the patient's only section, and the shards hold 16 neighbours.
            (*SPLIT, "--select", "test-patients", "--test", "A1", "--space", "neighbors=4,64"),
            [
                "4 problems",
                "splits patient A: A2 would tune",
                "A1  neighbors",
                "A2  neighbors",
                "B1  neighbors",
            ],
        ),
    ],
    ids=["unknown field", "empty ranges", "split patient and too many neighbours"],
)
def test_a_search_that_cannot_be_is_refused_before_it_starts(
    place: World, tmp_path: Path, options: tuple[str, ...], expected: list[str]
) -> None:
    refused = place.experiment("tune", *options, "--out", str(tmp_path / "out"))
    assert_refused(refused, *expected)
    assert not list(tmp_path.rglob("out/*"))


def test_a_folder_that_holds_another_study_is_refused_before_sections_are_prepared(
    place: World, grid: tuple[Path, str], tmp_path: Path
) -> None:
    before = contents(grid[0])
    options = ("--shards", str(tmp_path / "shards"), "--out", str(grid[0]))
    assert_refused(place.experiment("tune", *options), "holds another study", "kind")
    assert contents(grid[0]) == before and not (tmp_path / "shards").exists()


def test_a_study_that_another_process_runs_is_refused(place: World, grid: tuple[Path, str]) -> None:
    with lock.held(grid[0]):
        before = contents(grid[0])
        for command in (("senca", "resume"), (*experiment("ablation"), *GRID, "--out")):
            assert_refused(place.run(*command, str(grid[0])), "is being run by process", "wait for it")
        assert contents(grid[0]) == before


def test_a_study_whose_sections_changed_is_not_resumed(place: World, untested: tuple[Path, str]) -> None:
    out = untested[0]
    before = contents(out)
    (spots,) = (place.home / "own-shards").glob(f"A1-*/{keys.SPOTS_FILE}")
    content = spots.read_bytes()
    spots.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    refused = place.run("senca", "resume", str(out))
    spots.write_bytes(content)
    assert_refused(refused, "1 problem in the 1 shards of the study", keys.SPOTS_FILE, "missing or changed")
    assert contents(out) == before


def assert_refused(ran: CompletedProcess[str], *expected: str) -> None:
    assert ran.returncode == 2, ran.stdout + ran.stderr
    assert "Traceback" not in ran.stderr
    for words in expected:
        assert words in ran.stderr


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
