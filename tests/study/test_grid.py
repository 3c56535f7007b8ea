from typing import Any

import pytest

from senca_ray import keys
from senca_ray.config import Setting
from senca_ray.errors import ProblemsError
from senca_ray.study import grid
from senca_ray.study.grid import ABLATIONS, FULL, Grid, GridPlan


def sweep(**changes: Any) -> Grid:
    given: dict[str, Any] = {
        "name": "s",
        "title": "t",
        "vary": "neighbors",
        "values": (4, 8),
        "setting": Setting(hvgs=30),
        "seeds": (0, 1, 2),
    }
    return grid.sweep(**given | changes)


def ablation(**changes: Any) -> Grid:
    given: dict[str, Any] = {
        "name": "a",
        "title": "t",
        "variants": ABLATIONS,
        "default": FULL,
        "setting": Setting(hvgs=30),
        "seeds": (0, 1),
    }
    return Grid(**given | changes)


def test_every_value_on_every_sample_beside_the_controls_that_apply(toy_shard: str) -> None:
    trials = sweep().trials({"T1": toy_shard})
    assert [(t.method, t.label, t.setting.neighbors, len(t.seeds)) for t in trials] == [
        ("senca", "neighbors=4", 4, 3),
        ("senca", "neighbors=8", 8, 3),
        ("untrained", "neighbors=4", 4, 3),
        ("smoothed-pca", keys.FIXED, 4, 3),
        ("coordinates", keys.FIXED, 4, 3),
    ]  # no smoothed-image: the section has no image


def test_what_the_shards_cannot_give_is_refused_at_once(toy_shard: str) -> None:
    with pytest.raises(ProblemsError) as caught:
        sweep(values=(4, 32), setting=Setting(hvgs=500)).trials({"T1": toy_shard})
    assert {p.place for p in caught.value.problems} == {"neighbors", "hvgs"}


@pytest.mark.parametrize(
    ("changes", "places"),
    [
        ({"values": (8, 16)}, ["neighbors"]),
        ({"values": (4, 4)}, ["values"]),
        ({"seeds": ()}, ["seeds"]),
        ({"seeds": (0, -1)}, ["seeds"]),
        ({"vary": "neighbours"}, ["vary"]),
        ({"values": (8, 16), "seeds": (1, 1)}, ["neighbors", "seeds"]),
        ({"values": (4, 0)}, ["neighbors=0: neighbors"]),
    ],
)
def test_a_sweep_that_cannot_be_judged_is_refused(changes: dict[str, Any], places: list[str]) -> None:
    with pytest.raises(ProblemsError) as caught:
        sweep(**changes)
    assert [p.place for p in caught.value.problems] == places


def test_whole_numbers_of_a_field_with_fractions_are_named_as_they_are_typed() -> None:
    made = sweep(vary="mse_weight", values=(1.0, 40.0, 0.5))
    assert list(made.variants) == ["mse_weight=1", "mse_weight=40", "mse_weight=0.5"]
    assert made.default == "mse_weight=40"


def labels(study: Grid, monkeypatch: pytest.MonkeyPatch, modality: str) -> list[str]:
    meta = {"modality": modality, "spots": 48, "genes": 100, "neighbors": 16}
    monkeypatch.setattr(grid, "read_meta", lambda uri: meta)
    return [t.label for t in study.trials({"A1": "there"}) if t.method == "senca"]


def test_an_ablation_leaves_out_what_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    assert labels(ablation(), monkeypatch, "rna+image") == list(ABLATIONS)
    assert labels(ablation(), monkeypatch, "rna") == [FULL, "no attention weights", "no graph"]


def test_without_an_image_branch_there_is_nothing_to_contrast(monkeypatch: pytest.MonkeyPatch) -> None:
    study = ablation(variants={FULL: {"image": False}, "neither": {"image": False, "contrast": False}})
    assert labels(study, monkeypatch, "rna+image") == [FULL]


def test_a_variant_with_unknown_fields_is_refused_with_its_name() -> None:
    with pytest.raises(ProblemsError) as caught:
        ablation(variants={FULL: {}, "x": {"colour": 1, "epochs": 0}, "y": {"attention": "none"}})
    text = str(caught.value)
    assert "x: colour" in text and "y: attention" in text


def test_the_default_has_to_be_among_the_variants() -> None:
    with pytest.raises(ProblemsError, match="'whole' is not among full"):
        ablation(default="whole")


def test_a_plan_gives_what_is_not_done_and_counts(toy_shard: str) -> None:
    trials = sweep().trials({"T1": toy_shard})
    plan = GridPlan(trials, lambda t: t.method == "senca")
    given = [plan.next() for _ in range(3)]
    assert given == trials[2:] and plan.next() is None
    assert (plan.done, plan.left, plan.finished) == (2, 3, False)
    for trial in given:
        assert trial is not None
        plan.ended(trial)
    assert (plan.done, plan.left) == (5, 0) and plan.finished


def test_fine_tuning_needs_patches_of_every_section_with_image(monkeypatch: pytest.MonkeyPatch) -> None:
    held = {"spots": 48, "genes": 100, "neighbors": 16}
    metas = {
        "A1": held | {"modality": "rna+image", "config": {"store_patches": True}},
        "B1": held | {"modality": "rna+image", "config": {"store_patches": False}},
        "C1": held | {"modality": "rna", "config": {"store_patches": False}},
    }
    monkeypatch.setattr(grid, "read_meta", lambda uri: metas[uri])
    study = sweep(vary="finetune", values=(False, True))
    with pytest.raises(ProblemsError) as caught:
        study.trials({name: name for name in metas})
    assert [(p.sample, p.place) for p in caught.value.problems] == [("B1", "finetune")]
    assert "--set store_patches=true (`senca prepare DATA --patches`)" in str(caught.value)
    # What takes longest comes first; without an image there is nothing to tune.
    fitted = [(t.sample, t.label) for t in study.trials({"A1": "A1", "C1": "C1"}) if t.method == "senca"]
    assert fitted == [("A1", "finetune=True"), ("A1", "finetune=False"), ("C1", "finetune=False")]
    left_out = sweep(vary="epochs", values=(10,), setting=Setting(hvgs=30, finetune=True, image=False))
    assert left_out.trials({"B1": "B1"})
