from __future__ import annotations

import json
import shutil
from pathlib import Path

from portrait_toys import write_toy_portraits

from senca_ray import keys
from senca_ray.report import wandb_study
from senca_ray.report.view import load_study
from senca_ray.report.wandb_study import sweep_curves


def tables(study: Path) -> dict[str, int]:
    return {name: len(frame) for name, frame in wandb_study._tables(load_study(study))}


def figures(study: Path) -> set[str]:
    return {name for name, _, _ in wandb_study._figures(load_study(study))}


def test_a_search_brings_its_suggestions_its_figures_and_its_choice(search: Path) -> None:
    fold = json.loads((search / keys.SELECTION_FILE).read_text())["folds"][0]
    found = tables(search)
    assert found["search/suggestions"] == 5 * len(fold["suggestions"]) and found["search/choices"] == 5
    assert {"search/history", "search/parameters-ari"} <= figures(search)
    assert dict(wandb_study._headline(load_study(search)))["search/chosen"] == fold["chosen"]
    assert wandb_study._config(load_study(search).description)["space"]["hvgs"] == [250, 500, 1000]


def test_a_benchmark_brings_its_tables_and_figures(benchmark: Path) -> None:
    view = load_study(benchmark)
    block = "annotated-with-image"
    assert {f"benchmark/scores/{block}", f"benchmark/differences/{block}"} <= figures(benchmark)
    found = tables(benchmark)
    assert found["benchmark/sensitivity"] == 3 * 6 and "benchmark/published" in found
    assert found["summary"] == len(view.summary)
    told = dict(wandb_study._headline(view))
    row = view.summary.query("method == 'const' and clustering == 'kmeans'").iloc[-1]
    name = row["block"].replace(", ", "-").replace(" ", "-")
    assert told[f"{name}/const/kmeans/mean_ari"] == row["mean_ari"]
    assert told[f"{block}/const/leiden/mean_ari"] != told[f"{block}/const/kmeans/mean_ari"]
    assert told["failed_fits"] == 2, "a method that is not installed is missing, not failed"


def test_matched_regions_come_as_tables(finished: Path, tmp_path: Path) -> None:
    study = Path(shutil.copytree(finished, tmp_path / "study"))
    assert "kinds/regions" not in tables(study)
    write_toy_portraits(study)
    found = tables(study)
    assert found["kinds/regions"] == 4 * 4 and found["kinds/genes"] > 0


def test_variants_without_an_order_have_no_curve(finished: Path, ablation: Path) -> None:
    curves = list(sweep_curves(load_study(finished)))
    assert [[value for value, _ in points] for _, _, points in curves] == [[4, 8, 16]] * len(curves)
    assert len(curves) == 3 and not list(sweep_curves(load_study(ablation)))


def test_another_file_of_the_study_is_another_run(finished: Path, tmp_path: Path) -> None:
    study = Path(shutil.copytree(finished, tmp_path / "study"))
    before = wandb_study.study_run(load_study(study))
    again = wandb_study.study_run(load_study(study))
    assert (before.id, before.made_from) == (again.id, again.made_from)
    write_toy_portraits(study)
    after = wandb_study.study_run(load_study(study))
    assert after.id == before.id and after.made_from != before.made_from
