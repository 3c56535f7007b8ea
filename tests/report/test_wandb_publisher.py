from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from senca_ray import keys
from senca_ray.report import wandb_publisher
from senca_ray.report.view import load_study
from senca_ray.report.wandb_publisher import publish

KEY = "d" * 40


@pytest.fixture
def without_account(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment of a user who never used W&B."""
    for name in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_BASE_URL", "WANDB_DATA_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("NETRC", str(tmp_path / "home" / "netrc"))


@pytest.fixture
def study(finished: Path, tmp_path: Path, without_account: None) -> Path:
    """A finished sweep, to be published."""
    return Path(shutil.copytree(finished, tmp_path / "a study"))


def inspect(folder: Path, *options: str) -> str:
    command = [str(Path(sys.executable).parent / "wandb"), "leet", "inspect", "--json", *options, str(folder)]
    # It leaves a log in the folder where it runs.
    finished = subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True, timeout=60)
    return finished.stdout


def test_without_a_key_the_run_is_kept_and_holds_the_study(study: Path) -> None:
    outcome = publish(study)
    assert outcome.mode == "offline" and outcome.reason is None
    assert outcome.folder is not None and outcome.folder.parent == study / "wandb"
    assert f"wandb sync '{outcome.folder}'" in str(outcome)
    run = json.loads(inspect(outcome.folder, "--summary"))

    summary = pd.read_csv(study / keys.SUMMARY_FILE)
    default = summary[summary["is_default"] & (summary["block"] == "annotated, with image")]
    found = run["summary"]["annotated-with-image/senca/neighbors=4/mean_ari"]
    single = default[default["clustering"] != keys.CONSENSUS]["mean_ari"].iloc[0]
    assert found == pytest.approx(single)
    assert (run["summary"]["sections"], run["summary"]["failed_fits"]) == (4, 3)
    assert run["summary"]["summary"]["nrows"] == len(summary)
    assert len(run["summary"]["maps/A1"]["filenames"]) == 10
    assert {"sweep/annotated-with-image", "sections", "label_free_objectives"} <= set(run["summary"])
    consensus = default[default["clustering"] == keys.CONSENSUS]["mean_ari"].iloc[0]
    found = run["summary"]["annotated-with-image/consensus/senca/neighbors=4/mean_ari"]
    assert found == pytest.approx(consensus)

    assert run["config"]["setting"]["neighbors"] == 4
    assert run["config"]["samples"] == ["A1", "A2", "B1", "C1"]
    assert str(study.parent) not in json.dumps(run["config"])


def test_the_results_travel_as_an_artifact(study: Path) -> None:
    outcome = publish(study)
    assert outcome.folder is not None
    records = [json.loads(line) for line in inspect(outcome.folder).splitlines()]
    artifacts: list[dict[str, Any]] = [r["artifact"] for r in records if r["type"] == "artifact"]
    results = next(a for a in artifacts if a["type"] == "results")
    files = {entry["path"]: Path(entry["local_path"]) for entry in results["manifest"]["contents"]}
    assert set(files) == {keys.RESULTS_FILE, keys.REGIONS_FILE, keys.SUMMARY_FILE}
    assert files[keys.RESULTS_FILE].is_relative_to(study), "what waits for upload stays with the study"
    assert files[keys.RESULTS_FILE].read_bytes() == (study / keys.RESULTS_FILE).read_bytes()


def test_a_search_brings_its_suggestions_its_figures_and_its_choice(
    search: Path, tmp_path: Path, without_account: None
) -> None:
    study = Path(shutil.copytree(search, tmp_path / "study"))
    outcome = publish(study)
    assert outcome.folder is not None, outcome.reason
    run = json.loads(inspect(outcome.folder, "--summary"))
    fold = json.loads((study / keys.SELECTION_FILE).read_text())["folds"][0]
    assert run["summary"]["search/chosen"] == fold["chosen"]
    assert run["summary"]["search/suggestions"]["nrows"] == 5 * len(fold["suggestions"])
    assert run["summary"]["search/choices"]["nrows"] == 5
    assert {"search/history", "search/parameters-ari"} <= set(run["summary"])
    assert run["config"]["space"]["hvgs"] == [250, 500, 1000] and run["config"]["kind"] == "search"


def test_a_benchmark_brings_its_tables_and_figures(benchmark: Path) -> None:
    view = load_study(benchmark)
    content = wandb_publisher._benchmark(view)
    block = "annotated-with-image"
    assert {f"benchmark/scores/{block}", f"benchmark/differences/{block}"} <= set(content)
    assert len(content["benchmark/sensitivity"].data) == 3 * 6 and "benchmark/published" in content
    told = dict(wandb_publisher._headline(view))
    row = view.summary.query("method == 'const' and clustering == 'kmeans'").iloc[-1]
    name = row["block"].replace(", ", "-").replace(" ", "-")
    assert told[f"{name}/const/kmeans/mean_ari"] == row["mean_ari"]
    assert told[f"{block}/const/leiden/mean_ari"] != told[f"{block}/const/kmeans/mean_ari"]
    assert told["failed_fits"] == 2, "a method that is not installed is missing, not failed"


def test_an_unreachable_server_costs_seconds_and_nothing_else(
    study: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{port}")
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    monkeypatch.setattr(wandb_publisher, "_INIT_SECONDS", 3.0)
    started = time.monotonic()
    outcome = publish(study)
    assert time.monotonic() - started < 15
    assert outcome.mode == "offline" and outcome.folder is not None and outcome.folder.is_dir()
    assert outcome.reason is not None and "cannot be reached" in outcome.reason
    printed = capfd.readouterr()
    assert printed.out == printed.err == ""
    written = [p for p in study.rglob("*") if p.is_file()]
    assert KEY not in str(outcome) and not any(KEY.encode() in p.read_bytes() for p in written)


def test_a_malformed_key_is_told(study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "short")
    outcome = publish(study)
    assert outcome.mode == "offline" and outcome.reason is not None and "WANDB_API_KEY" in outcome.reason


def test_the_environment_s_mode_wins(study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    monkeypatch.setenv("WANDB_MODE", "disabled")
    assert publish(study).mode == "disabled" and not (study / "wandb").exists()
    monkeypatch.setenv("WANDB_MODE", "offline")
    outcome = publish(study)
    assert outcome.mode == "offline" and outcome.reason is None


def test_without_wandb_the_study_is_done_all_the_same(study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    outcome = publish(study)
    assert outcome.mode == "failed" and str(outcome).startswith("not published: ")
