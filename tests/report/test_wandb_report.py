from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import pytest

from senca_ray.report.view import load_study
from senca_ray.report.wandb_report import build_report
from senca_ray.report.wandb_runs import study_group

pytestmark = pytest.mark.filterwarnings("ignore:Pydantic V1 style:DeprecationWarning")
"""Of wandb-workspaces, when it is imported."""


def spec(study: Path, **described: Any) -> tuple[dict[str, Any], str]:
    """The report as it would be stored, and its title."""
    view = load_study(study)
    view = dataclasses.replace(view, description=view.description | described)
    stored = build_report(view, "lab")._to_model()
    return json.loads(stored.spec.model_dump_json(by_alias=True, exclude_none=True)), stored.display_name


def grids(found: dict[str, Any]) -> list[dict[str, Any]]:
    return [block["metadata"] for block in found["blocks"] if block["type"] == "panel-grid"]


def panels(grid: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The last panel of each kind."""
    return {panel["viewType"]: panel["config"] for panel in grid["panelBankSectionConfig"]["panels"]}


def test_a_sweep_has_its_curve_and_its_trials_from_every_side(finished: Path) -> None:
    found, title = spec(finished)
    study, trials = grids(found)
    assert title == "made-up: Effect of the neighbour count (SENCA-st Table 5)"
    curves = [p["config"] for p in study["panelBankSectionConfig"]["panels"] if "Line" in p["viewType"]]
    assert {c["xAxis"] for c in curves} == {"curve/neighbors"} and len(curves) == 3
    shown = panels(trials)
    assert shown["Scatter Plot"]["xAxis"] == "config:neighbors.value"
    assert shown["Scatter Plot"]["yAxis"] == "summary:ari_mean"
    columns = [c["accessor"] for c in shown["Parallel Coordinates Plot"]["columns"]]
    assert columns == [
        *("config:method.value", "config:neighbors.value", "config:sample.value", "summary:ari_mean"),
    ]
    assert shown["Parameter Importance"]["targetKey"] == "ari_mean"
    assert shown["Bar Chart"]["groupBy"] == "sample.value"
    assert shown["Media Browser"]["mediaKeys"] == ["regions"]
    assert shown["Run History Line Plot"]["metrics"] == ["loss"]


def test_it_shows_the_runs_of_this_study_alone(finished: Path) -> None:
    for grid in grids(spec(finished)[0]):
        filters = grid["runSets"][0]["filters"]["filters"]
        known = {one["key"]["name"]: (one["op"], one["value"]) for one in filters}
        assert known["group"] == ("IN", [study_group(load_study(finished).description)])
        assert "project" not in grid["runSets"][0], "that of the report"


def test_a_name_is_no_part_of_the_filter_s_language(finished: Path) -> None:
    found, title = spec(finished, name="it's <a> \"test\" = x' or Metric('Name') != '", title="t" * 200)
    assert len(title) == 128
    group = grids(found)[0]["runSets"][0]["filters"]["filters"][0]["value"][0]
    assert re.fullmatch(r"it-s-a-test-x-or-Metric-Name-[0-9a-f]{6}", group)


def test_a_search_shows_what_it_tried(search: Path) -> None:
    _, tried, _ = grids(spec(search)[0])
    shown = panels(tried)
    columns = [c["accessor"] for c in shown["Parallel Coordinates Plot"]["columns"]]
    fields = ("mse_weight", "neighbors", "hvgs")
    assert columns == [*(f"config:{name}.value" for name in fields), "summary:tuning_ari"]
    assert shown["Parameter Importance"]["targetKey"] == "tuning_ari"


@pytest.mark.parametrize("kind", ["ablation", "benchmark"])
def test_other_studies_have_one_too(kind: str, request: pytest.FixtureRequest) -> None:
    found, _ = spec(request.getfixturevalue(kind))
    study, trials = grids(found)
    assert set(panels(study)) == {"Weave"} and "Scatter Plot" not in panels(trials)
    columns = [c["accessor"] for c in panels(trials)["Parallel Coordinates Plot"]["columns"]]
    varied = ["attention", "contrast", "image", "graph"] if kind == "ablation" else []
    assert columns == [f"config:{n}.value" for n in ("method", *varied, "sample")] + ["summary:ari_mean"]


def test_a_simulated_cohort_is_said_to_be_one(finished: Path) -> None:
    assert "Simulated cohort" not in json.dumps(spec(finished)[0])
    assert "Simulated cohort" in json.dumps(spec(finished, simulated=True)[0])


def test_panels_do_not_cover_each_other(finished: Path, search: Path) -> None:
    for grid in (*grids(spec(finished)[0]), *grids(spec(search)[0])):
        taken: set[tuple[int, int]] = set()
        for panel in grid["panelBankSectionConfig"]["panels"]:
            at = panel["layout"]
            cells = {(at["x"] + i, at["y"] + j) for i in range(at["w"]) for j in range(at["h"])}
            assert not cells & taken and at["x"] + at["w"] <= 24
            taken |= cells
