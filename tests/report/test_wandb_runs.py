"""What lies in a study's folder once it was published without a key, read back as W&B reads it."""

from __future__ import annotations

import json
import shutil
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import psutil
import pyarrow.parquet as pq
import pytest
from portrait_toys import write_toy_portraits
from study_folder import COHORT, make_study
from wandb_stub import records, user

from senca_ray import keys
from senca_ray.analysis.results import read_results
from senca_ray.config import Setting
from senca_ray.report.view import load_study
from senca_ray.report.wandb_publisher import PublishOutcome, publish
from senca_ray.report.wandb_runs import study_group, suggestion_runs, trial_runs


@dataclass(frozen=True)
class Run:
    """One run on disk."""

    folder: Path

    @cached_property
    def records(self) -> list[dict[str, Any]]:
        return records(self.folder)

    @property
    def told(self) -> dict[str, Any]:
        return dict(next(r["run"] for r in self.records if r["type"] == "run"))

    @property
    def config(self) -> dict[str, Any]:
        return dict(self.told["config"]["update"])

    @property
    def history(self) -> list[dict[str, Any]]:
        return [_nested(r["history"]["item"]) for r in self.records if r["type"] == "history"]

    @property
    def summary(self) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for record in self.records:
            if record["type"] == "summary":
                found |= record["summary"]["update"]
        return found

    def media(self, kind: str) -> list[Path]:
        return sorted((self.folder / "files" / "media" / kind).rglob("*.*"))


def _nested(item: dict[str, Any]) -> dict[str, Any]:
    """W&B tells a picture as 'name.caption', 'name.format', ..."""
    found: dict[str, Any] = {}
    for name, value in item.items():
        top, _, below = name.partition(".")
        found[top] = found.get(top, {}) | {below: value} if below else value
    return found


@dataclass(frozen=True)
class Published:
    """A study after it was published."""

    study: Path
    outcome: PublishOutcome
    cores: int
    """W&B's processes at most, at any time."""

    def run(self, method: str, setting: str, sample: str) -> Run:
        view = load_study(self.study)
        names = {tuple(p.config[k] for k in ("method", "setting", "sample")): p.id for p in trial_runs(view)}
        return Run(next((self.study / "wandb").glob(f"offline-run-*-{names[method, setting, sample]}")))


def publish_counting(study: Path) -> tuple[PublishOutcome, int]:
    cores = 0

    def told(_: str) -> None:
        nonlocal cores
        children = psutil.Process().children(recursive=True)
        cores = max(cores, sum("wandb-core" in child.name() for child in children))

    return publish(study, told), cores


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Published]:
    """A sweep of two sections, one with a portrait, in which two trials failed, published without a key."""
    folder = tmp_path_factory.mktemp("a study")
    cohort = (COHORT[0], COHORT[3])
    study = make_study(
        folder, cohort, fails=lambda s, v: (s, v) in {("C1", "neighbors=16"), ("A1", "neighbors=8")}
    )
    write_toy_portraits(study)
    with user(folder / "home"):
        yield Published(study, *publish_counting(study))


def folders(study: Path) -> dict[str, str]:
    """Folder of every run, by run id."""
    return {p.name.split("-")[-1]: p.name for p in (study / "wandb").glob("offline-run-*")}


def test_every_trial_has_a_run_and_the_study_its_own(published: Published) -> None:
    results = read_results(published.study)
    trials = results[[keys.METHOD, keys.SETTING, keys.SAMPLE]].drop_duplicates()
    outcome = published.outcome
    assert outcome.mode == "offline" and outcome.reason is None
    assert outcome.runs == len(trials) + 1 == len(folders(published.study))
    assert f"send them with  senca wandb sync '{published.study}'" in str(outcome)


def test_all_runs_are_written_by_one_process_of_wandb(published: Published) -> None:
    assert published.cores == 1


def test_a_trial_tells_scores_over_its_seeds_and_all_that_they_follow_from(published: Published) -> None:
    run = published.run("senca", "neighbors=4", "A1")
    results = read_results(published.study)
    mine = results.query("method == 'senca' and setting == 'neighbors=4' and sample == 'A1'")
    seeds = mine[mine[keys.CLUSTERING] != keys.CONSENSUS]
    summary = run.summary
    assert summary["ari_mean"] == pytest.approx(seeds[keys.ARI].mean())
    assert summary["ari_sd"] == pytest.approx(seeds[keys.ARI].std())
    assert summary["seconds_mean"] == pytest.approx(seeds[keys.SECONDS].mean())
    combined = mine[mine[keys.CLUSTERING] == keys.CONSENSUS].iloc[0]
    assert summary["consensus/ari"] == pytest.approx(combined[keys.ARI])
    assert summary["stability"] == pytest.approx(combined[keys.STABILITY])
    assert (summary["n_seeds"], summary["failed_seeds"]) == (3, 0) and "failures" not in summary
    assert "nmi_mean" not in summary, "what is not known is not told"

    config = run.config
    assert config["method"] == "senca" and config["setting"] == "neighbors=4" and config["patient"] == "A"
    assert config["k_policy"] == "labels" and config["clustering"] == "ward" and config["seeds"] == [0, 1, 2]
    assert config["fingerprint"] == "0" * 64 and config["encoder"] == "efficientnet-lite0"
    assert config["simulated"] is False and config["block"] == "annotated, with image"
    told = run.told
    assert told["run_group"] == study_group(load_study(published.study).description)
    assert told["job_type"] == "model" and set(told["tags"]) == {"senca", "neighbors=4", "A1"}


def test_losses_come_by_epoch(published: Published) -> None:
    rows = pq.read_table(published.study / keys.REGIONS_FILE).to_pandas()
    mine = rows.query("method == 'senca' and setting == 'neighbors=4' and sample == 'A1' and seed >= 0")
    losses = np.stack(mine[keys.LOSSES].to_list())
    history = [item for item in published.run("senca", "neighbors=4", "A1").history if "loss" in item]
    assert [item["epoch"] for item in history] == list(range(1, 11))
    assert [item["loss"] for item in history] == pytest.approx(losses.mean(axis=0))
    assert [item["loss_high"] for item in history] == pytest.approx(losses.max(axis=0))


def test_the_map_is_of_the_typical_seed(published: Published) -> None:
    run = published.run("senca", "neighbors=4", "A1")
    shown = next(item["regions"] for item in run.history if "regions" in item)
    rows = read_results(published.study)
    typical = rows.query(
        "method == 'senca' and setting == 'neighbors=4' and sample == 'A1' and typical == True"
    )
    assert shown["caption"].endswith(f"seed {typical[keys.SEED].item()}") and "ARI" in shown["caption"]
    assert [path.suffix for path in run.media("images")] == [".jpg"]


def embedding(run: Run) -> dict[str, Any]:
    return dict(json.loads(run.media("table")[0].read_text()))


def test_the_embedding_is_the_portrait_s_umap_where_there_is_one(published: Published) -> None:
    table = embedding(published.run("senca", "neighbors=4", "A1"))
    portrait = load_study(published.study).portraits["A1"]
    assert table["columns"] == ["umap_1", "umap_2", "region", "label"]
    assert portrait.umap is not None and len(table["data"]) == len(portrait.regions)
    assert table["data"][0][:2] == pytest.approx(portrait.umap[0], abs=1e-4)
    assert table["data"][0][2] == f"region {portrait.regions[0]}"


def test_else_it_is_what_the_trial_kept_in_two_dimensions(published: Published) -> None:
    table = embedding(published.run("senca", "neighbors=16", "A1"))
    assert table["columns"][:2] == ["pc_1", "pc_2"]
    values = np.array([row[:2] for row in table["data"]])
    assert values.mean(axis=0) == pytest.approx([0, 0], abs=1e-3)
    assert values[:, 0].std() > values[:, 1].std() > 0


def test_a_control_shows_its_map_alone(published: Published) -> None:
    run = published.run("smoothed-pca", keys.FIXED, "C1")
    assert run.told["job_type"] == keys.SIMPLE and run.told["display_name"] == "smoothed-pca C1"
    assert run.media("images") and not run.media("table")
    assert not any("loss" in item for item in run.history)


def test_a_failed_trial_says_why(published: Published) -> None:
    run = published.run("senca", "neighbors=16", "C1")
    assert run.summary["failed_seeds"] == 3 and run.summary["n_seeds"] == 0
    assert run.summary["failures"].startswith("seed 0: RuntimeError: loss is not finite; seed 1: ")
    assert not run.media("images") and "ari_mean" not in run.summary


def test_nothing_tells_of_the_machine_nor_of_where_the_study_lies(published: Published) -> None:
    for run in (published.run("senca", "neighbors=4", "A1"), study_run_of(published)):
        assert not {"host", "git", "program"} & set(run.told)
        written = json.dumps([run.told, run.summary])
        assert str(published.study.parent) not in written and socket.gethostname() not in run.told.values()
        assert not (run.folder / "files" / "wandb-metadata.json").exists()


def study_run_of(published: Published) -> Run:
    return next(
        run
        for run in map(Run, (published.study / "wandb").glob("offline-run-*"))
        if run.told["job_type"] == "study"
    )


def test_the_study_s_run_holds_its_tables_its_maps_and_its_files(published: Published) -> None:
    run = study_run_of(published)
    summary = pd.read_csv(published.study / keys.SUMMARY_FILE)
    default = summary[summary["is_default"] & (summary["block"] == "annotated, with image")]
    for part, consensus in (("", False), ("/consensus", True)):
        chosen = default[(default["clustering"] == keys.CONSENSUS) == consensus]
        found = run.summary[f"annotated-with-image{part}/senca/neighbors=4/mean_ari"]
        assert found == pytest.approx(chosen["mean_ari"].iloc[0])
    assert run.summary["sections"] == 2 and run.summary["failed_fits"] == 6
    content = next(item for item in run.history if "summary" in item)
    assert content["summary"]["nrows"] == len(summary)
    assert {"sweep/annotated-with-image", "sections", "trials", "kinds/regions", "maps/A1"} <= set(content)
    curve = [item for item in run.history if "curve/annotated-with-image/mean_ari" in item]
    assert [item["curve/neighbors"] for item in curve] == [4, 8, 16]
    assert run.config["setting"]["neighbors"] == 4 and run.config["samples"] == ["A1", "C1"]

    artifacts = [r["artifact"] for r in run.records if r["type"] == "artifact"]
    results = next(a for a in artifacts if a["type"] == "results")
    files = {entry["path"]: Path(entry["local_path"]) for entry in results["manifest"]["contents"]}
    assert set(files) == {keys.RESULTS_FILE, keys.REGIONS_FILE, keys.SUMMARY_FILE}
    assert files[keys.RESULTS_FILE].is_relative_to(published.study), "what waits stays with the study"
    assert files[keys.RESULTS_FILE].read_bytes() == (published.study / keys.RESULTS_FILE).read_bytes()


def test_publishing_again_writes_what_has_changed_alone(published: Published, tmp_path: Path) -> None:
    study = Path(shutil.copytree(published.study, tmp_path / "study", symlinks=True))
    before = folders(study)
    marks = {name: (study / "wandb" / name).stat().st_mtime_ns for name in before.values()}
    assert publish(study).runs == len(before)
    assert folders(study) == before
    assert marks == {name: (study / "wandb" / name).stat().st_mtime_ns for name in before.values()}

    results = pd.read_parquet(study / keys.RESULTS_FILE)
    changed = results.index[(results[keys.METHOD] == "untrained") & (results[keys.SAMPLE] == "C1")][0]
    results.loc[changed, keys.ARI] = 0.123
    results.to_parquet(study / keys.RESULTS_FILE)
    told: list[str] = []
    publish(study, told.append)
    assert told == ["writing run 1 of 2", "writing run 2 of 2"], "the trial and the study"
    after = folders(study)
    assert after.keys() == before.keys() and len(list((study / "wandb").glob("offline-run-*"))) == len(after)
    rewritten = [name for name in after.values() if name not in marks]
    kept = [name for name in after.values() if name in marks]
    same = [n for n in kept if (study / "wandb" / n).stat().st_mtime_ns == marks[n]]
    assert len(same) == len(after) - 2 and len(rewritten) <= 2


def test_a_run_that_lost_its_folder_is_written_again(published: Published, tmp_path: Path) -> None:
    study = Path(shutil.copytree(published.study, tmp_path / "study", symlinks=True))
    lost = sorted(folders(study).values())[0]
    shutil.rmtree(study / "wandb" / lost)
    told: list[str] = []
    publish(study, told.append)
    assert told == ["writing run 1 of 1"] and len(folders(study)) == published.outcome.runs


def test_a_search_has_runs_of_what_it_chose_and_a_small_one_a_suggestion(search: Path) -> None:
    view = load_study(search)
    planned = list(trial_runs(view))
    chosen = {fold["chosen"] for fold in view.folds}
    settings = {one.config["setting"] for one in planned if one.config["method"] == "senca"}
    assert settings == {"default", *chosen}
    assert {one.config["method"] for one in planned} == {"senca", *view.description["controls"]}
    small = list(suggestion_runs(view))
    tried = view.main_fold["suggestions"]
    assert [one.config["number"] for one in small] == [one["number"] for one in tried]
    assert [one.config["mse_weight"] for one in small] == [
        one["changes"].get("mse_weight", Setting().mse_weight) for one in tried
    ]
    assert len({one.id for one in (*planned, *small)}) == len(planned) + len(small)


def test_a_benchmark_s_trial_tells_each_of_its_clusterings(benchmark: Path) -> None:
    planned = {(one.config["method"], one.config["sample"]): one for one in trial_runs(load_study(benchmark))}
    told: dict[str, Any] = {}
    written = type("Run", (), {})()
    written.define_metric = lambda *_, **__: None
    written.log = lambda *_: None
    written.summary = told
    planned["const", "A1"].fill(written)
    rows = read_results(benchmark).query("method == 'const' and sample == 'A1' and seed >= 0")
    rows = rows.query("k_policy == 'labels' and protocol == 'unscored'")
    means = rows.groupby(keys.CLUSTERING)[keys.ARI].mean()
    assert planned["const", "A1"].config["clustering"] == "leiden"
    assert told["ari_mean"] == pytest.approx(means["leiden"])
    assert told["kmeans/ari_mean"] == pytest.approx(means["kmeans"])
    assert planned["const", "A1"].job_type == keys.PUBLISHED
