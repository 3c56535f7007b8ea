"""Studies that name encoders and their weights."""

from __future__ import annotations

from pathlib import Path

import pytest

from senca_ray.config import PrepareConfig, Setting
from senca_ray.errors import ProblemsError
from senca_ray.study_file import (
    AblationPart,
    BenchmarkPart,
    CohortPart,
    SearchPart,
    StudyFile,
    SweepPart,
    read_study_file,
)

TWO = PrepareConfig(encoders=("random", "timm:vit_tiny_patch16_224.own"))


def test_encoders_are_swept_and_searched_like_any_setting() -> None:
    sweep = SweepPart(vary="encoder", values=TWO.encoders)
    study = StudyFile(name="s", sweep=sweep, setting=Setting(encoder="random"), prepare=TWO).study()
    assert [changes["encoder"] for changes in study.variants.values()] == list(TWO.encoders)  # type: ignore[union-attr]
    search = SearchPart(space={"encoder": list(TWO.encoders)})
    space = StudyFile(name="s", search=search, setting=Setting(encoder="random"), prepare=TWO).study().space  # type: ignore[union-attr]
    assert space["encoder"].ends() == TWO.encoders


@pytest.mark.parametrize(
    "kind",
    [
        {"benchmark": BenchmarkPart(), "setting": Setting(encoder="resnet18")},
        {
            "sweep": SweepPart(vary="encoder", values=("random", "resnet18")),
            "setting": Setting(encoder="random"),
        },
        {"ablation": AblationPart(variants={"full": {}, "other": {"encoder": "resnet18"}})},
        {
            "search": SearchPart(space={"encoder": ["random", "resnet18"]}),
            "setting": Setting(encoder="random"),
        },
    ],
)
def test_an_encoder_that_sections_are_not_prepared_with_is_told_before_anything_runs(
    kind: dict[str, object],
) -> None:
    with pytest.raises(
        ProblemsError, match=r"'resnet18' found; expected one of prepare\.encoders: random, timm:vit"
    ):
        StudyFile(name="s", prepare=TWO, **kind)  # type: ignore[arg-type]


def test_weights_of_a_study_file_are_a_file_or_a_mapping(tmp_path: Path) -> None:
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(b"x")
    path = tmp_path / "study.yaml"
    path.write_text(
        f"name: s\nablation: {{}}\ncohort: {{encoder_weights: {weights}}}\n"
        "prepare: {encoders: [resnet18]}\n"
    )
    assert read_study_file(path).sections().weights == {"resnet18": weights}
    path.write_text(
        f"name: s\nablation: {{}}\ncohort: {{encoder_weights: {{'timm:x.own': {weights}}}}}\n"
        "prepare: {encoders: [resnet18, 'timm:x.own']}\n"
    )
    assert read_study_file(path).sections().weights == {"timm:x.own": weights}


def test_wrong_weights_come_with_whatever_else_is_wrong(tmp_path: Path) -> None:
    cohort = CohortPart(encoder_weights={"resnet50": tmp_path / "nowhere"})
    with pytest.raises(ProblemsError) as raised:
        StudyFile(name="s", ablation=AblationPart(), cohort=cohort, k="many", prepare=TWO)
    places = [problem.place for problem in raised.value.problems]
    assert "cohort.encoder_weights" in places and len(places) > 1
    with pytest.raises(ProblemsError, match=r"for one of random, timm:vit.*; expected NAME=FILE"):
        StudyFile(name="s", ablation=AblationPart(), prepare=TWO, cohort=CohortPart(encoder_weights=tmp_path))


PATCHES = PrepareConfig(store_patches=True)


@pytest.mark.parametrize(
    "kind",
    [
        {"ablation": AblationPart(), "setting": Setting(finetune=True)},
        {"sweep": SweepPart(vary="finetune", values=(False, True))},
        {"search": SearchPart(space={"finetune": [False, True]})},
        {"ablation": AblationPart(variants={"full": {}, "tuned": {"finetune": True}})},
    ],
)
def test_fine_tuning_without_patches_says_what_to_add(kind: dict[str, object]) -> None:
    with pytest.raises(ProblemsError, match=r"finetune: true found.*--set store_patches=true"):
        StudyFile(name="s", **kind)  # type: ignore[arg-type]
    StudyFile(name="s", prepare=PATCHES, **kind)  # type: ignore[arg-type]
    StudyFile(name="s", prepare=PrepareConfig(read_images=False), **kind)  # type: ignore[arg-type]


def test_an_encoder_with_a_file_of_weights_is_not_fine_tuned(tmp_path: Path) -> None:
    weights = tmp_path / "model.pth"
    weights.write_bytes(b"x")
    prepare = PrepareConfig(store_patches=True, encoders=("resnet18", "random"))
    cohort = CohortPart(encoder_weights={"resnet18": weights})
    study = {"name": "s", "ablation": AblationPart(), "prepare": prepare, "cohort": cohort}
    with pytest.raises(ProblemsError, match=r"finetune: true found, and a file with the weights of resnet18"):
        StudyFile(**study, setting=Setting(finetune=True))  # type: ignore[arg-type]
    StudyFile(**study, setting=Setting(finetune=True, encoder="random"))  # type: ignore[arg-type]
    StudyFile(**study, setting=Setting(finetune=True, image=False))  # type: ignore[arg-type]
