from __future__ import annotations

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest
from study_folder import make_study

from senca_ray import keys
from senca_ray.errors import ProblemsError, SencaError
from senca_ray.report.view import is_consensus, is_model, load_study, n_fits, settings_of, value_of


def test_every_missing_file_is_named_with_the_command_that_makes_it(tmp_path: Path) -> None:
    with pytest.raises(ProblemsError) as caught:
        load_study(tmp_path)
    text = str(caught.value)
    for name in (keys.STUDY_FILE, keys.RESULTS_FILE, keys.REGIONS_FILE, keys.SUMMARY_FILE):
        assert name in text
    assert f"senca resume {tmp_path}" in text and f"senca report {tmp_path}" in text


@pytest.mark.parametrize("content", ["{", "[]", '{"schema": 0}'])
def test_a_study_file_that_is_none(finished: Path, tmp_path: Path, content: str) -> None:
    folder = Path(shutil.copytree(finished, tmp_path / "study"))
    (folder / keys.STUDY_FILE).write_text(content)
    with pytest.raises(SencaError, match=keys.STUDY_FILE):
        load_study(folder)


def test_rows_carry_their_regions(finished: Path) -> None:
    view = load_study(finished)
    done = view.results[keys.STATUS] == keys.OK
    assert view.results.loc[done, keys.REGIONS].map(len).eq(14 * 14).all()
    assert view.results.loc[~done, keys.REGIONS].isna().all() and (~done).sum() == 3 + 1


def test_variants_start_with_the_model_in_order_of_its_values(finished: Path) -> None:
    view = load_study(finished)
    variants = view.variants(view.results)
    single = [v for v in variants if not is_consensus(v)]
    assert variants[: len(single)] == single, "then the consensus rows"
    for part, controls in ((single, 4), (variants[len(single) :], 3)):
        assert [v[1] for v in part[:3]] == ["neighbors=4", "neighbors=8", "neighbors=16"]
        assert [is_model(v) for v in part] == [True] * 3 + [False] * controls


def test_a_lost_shard_costs_its_own_section_only(tmp_path: Path) -> None:
    folder = make_study(tmp_path)
    shutil.rmtree(next((tmp_path / "shards").glob("A1-*")))
    spots = next((tmp_path / "shards").glob("B1-*")) / keys.SPOTS_FILE
    spots.write_bytes(b"damaged")
    view = load_study(folder)
    assert list(view.displays) == ["A2", "C1"] and set(view.unreadable) == {"A1", "B1"}
    assert "senca prepare" in view.unreadable["A1"]


def test_settings_in_the_order_of_tables() -> None:
    variants: dict[str, dict[str, object]] = {"b=8": {"neighbors": 8}, "b=4": {}}
    sweep = {"kind": "grid", "vary": "neighbors", "variants": variants, "default": "b=4"}
    assert settings_of(sweep) == ["b=8", "b=4"], "values keep the order they were given in"
    assert settings_of(sweep | {"vary": None}) == ["b=4", "b=8"], "the default first"
    assert settings_of({"kind": "search", "default": "default"}) == ["default", "tuned"]
    assert [value_of(sweep | {"setting": {"neighbors": 4}}, name) for name in variants] == [8, 4]


def test_a_consensus_is_no_fit(finished: Path) -> None:
    view = load_study(finished)
    assert n_fits(view.results) == (view.results[keys.SEED] >= 0).sum() == 75


def test_a_search_compares_the_default_what_was_tested_and_the_controls(search: Path) -> None:
    view = load_study(search)
    assert set(view.compared.query("method == 'senca'")[keys.SETTING]) == {"default", "tuned"}
    assert view.compared[keys.REGIONS].notna().all(), "maps need them"
    assert view.main_fold["name"] == "all" and len(view.folds) == 5
    assert set(view.ranking["objective"]) == {"silhouette", "chaos", "pas", "stability", "loss_last"}


def test_a_search_without_its_selection_names_the_file(search: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(search, tmp_path / "study"))
    (folder / keys.SELECTION_FILE).unlink()
    with pytest.raises(SencaError, match=keys.SELECTION_FILE):
        load_study(folder)


def test_a_study_that_goes_on_is_shown_as_far_as_it_is(finished: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(finished, tmp_path / "study"))
    whole = load_study(folder)
    assert whole.partial is None
    trials = len(whole.results[[keys.METHOD, keys.SETTING, keys.SAMPLE]].drop_duplicates())
    description = json.loads((folder / keys.STUDY_FILE).read_text())
    (folder / keys.STUDY_FILE).write_text(json.dumps(description | {"trials": trials + 1}))
    for name in (keys.RESULTS_FILE, keys.REGIONS_FILE):
        (folder / name).unlink()
    view = load_study(folder)
    assert view.partial == f"{trials} of {trials + 1} trials"
    pd.testing.assert_frame_equal(view.results, whole.results)
    (folder / keys.JOURNAL_FILE).unlink()
    with pytest.raises(ProblemsError, match=r"results\.parquet: missing"):
        load_study(folder)
