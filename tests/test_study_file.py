from pathlib import Path

import pytest
import yaml

from senca_ray.config import Configs, Setting, from_mapping
from senca_ray.errors import ProblemsError, SencaError
from senca_ray.study.grid import ABLATIONS, Grid
from senca_ray.study.search import Search
from senca_ray.study_file import AblationPart, CohortPart, SearchPart, StudyFile, SweepPart, read_study_file

CONFIGS = Path(__file__).parents[1] / "configs"


def written(folder: Path, text: str) -> Path:
    path = folder / "study.yaml"
    path.write_text(text)
    return path


def test_a_sweep_in_words_is_the_sweep(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        "name: s\ntitle: t\nsweep: {vary: neighbors, values: [4, 8]}\nseeds: 2\nk: auto\n"
        "cohort: {data: raw, samples: [A1, B1]}\nsetting: {epochs: 3}\n",
    )
    read = read_study_file(path)
    study = read.study()
    assert isinstance(study, Grid)
    assert list(study.variants) == ["neighbors=4", "neighbors=8"] and study.seeds == (0, 1)
    assert study.setting == Setting(epochs=3) and study.protocol.k_policy == "auto"
    assert read.sections().samples == ("A1", "B1") and read.out() == Path("studies/s-raw")


def test_an_ablation_is_the_paper_s_unless_it_names_its_own() -> None:
    study = StudyFile(name="a", ablation=AblationPart()).study()
    assert isinstance(study, Grid) and study.variants == ABLATIONS and study.title == "a"
    own = AblationPart(variants={"all": {}, "short": {"epochs": 1}}, default="all")
    study = StudyFile(name="a", ablation=own).study()
    assert isinstance(study, Grid) and study.default == "all"


def test_seeds_follow_the_cohort() -> None:
    part = SweepPart(vary="neighbors", values=(4,))
    assert len(StudyFile(name="s", sweep=part).study().seeds) == 5
    assert len(StudyFile(name="s", sweep=part, cohort=CohortPart(data=Path("x"))).study().seeds) == 15


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("name: s\n", "exactly one of sweep, ablation and search"),
        ("name: s\nsweep: {vary: neighbors, values: [4]}\nablation: {}\n", "exactly one of"),
        ("name: ../s\nablation: {}\n", "letters, digits"),
        ("name: s\nablation: {}\ncolour: red\n", "colour"),
        ("name: s\nablation: {}\nsetting: {epochs: -1}\n", "epochs"),
        ("name: s\nablation: {}\ncohort: {data: x, sections: [A]}\n", "cohort.sections"),
        ("name: s\nsearch: {space: {epochs: {low: 1}}}\nseeds: 0\n", "seeds"),
    ],
)
def test_wrong_words_are_named(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(SencaError) as caught:
        read_study_file(written(tmp_path, text))
    assert words in str(caught.value) and "study.yaml" in str(caught.value)


def test_all_wrong_words_come_at_once(tmp_path: Path) -> None:
    with pytest.raises(ProblemsError) as caught:
        read_study_file(written(tmp_path, "name: s\nsweep: {values: [4]}\ncolour: red\nseeds: many\n"))
    assert {p.place for p in caught.value.problems} == {"sweep.vary", "colour", "seeds"}


@pytest.mark.parametrize("path", sorted(CONFIGS.rglob("*.yaml")), ids=lambda p: p.name)
def test_every_config_of_the_repository_is_read_and_valid(path: Path) -> None:
    """Those of configs/studies are studies, the others settings for --config."""
    if path.parent.name == "studies":
        assert isinstance(read_study_file(path).study(), Grid | Search)
    else:
        from_mapping(Configs, yaml.safe_load(path.read_text()))


def test_what_is_wrong_in_the_setting_the_protocol_and_the_search_comes_at_once() -> None:
    with pytest.raises(ProblemsError) as caught:
        from_mapping(StudyFile, {"name": "s", "setting": {"epochs": 0}, "prepare": {"patch_pixels": 1}})
    assert {p.place for p in caught.value.problems} == {"setting.epochs", "prepare.patch_pixels"}
    space = {"colour": [1], "epochs": {"low": 5, "high": 1}}
    with pytest.raises(ProblemsError) as caught:
        StudyFile(name="s", k="many", search=SearchPart(space=space, objectives=("beauty",)))
    found = " ".join(f"{p.place}: {p.message}" for p in caught.value.problems)
    assert all(word in found for word in ("colour", "beauty", "k policy 'many'"))


def test_an_unknown_name_is_told_with_the_known_ones() -> None:
    with pytest.raises(ProblemsError) as caught:
        from_mapping(StudyFile, {"name": "s", "ablation": {"variant": {}}, "colour": 1})
    messages = {p.place: p.message for p in caught.value.problems}
    assert messages["ablation.variant"] == "unknown; expected one of variants, default"
    assert "sweep, ablation, search" in messages["colour"]


def test_racing_is_for_one_objective_unless_it_is_said() -> None:
    space = {"epochs": [5, 10]}
    one = StudyFile(name="s", search=SearchPart(space=space)).study()
    two = StudyFile(name="s", search=SearchPart(space=space, objectives=("ari", "seconds"))).study()
    assert isinstance(one, Search) and isinstance(two, Search)
    assert one.racing and not two.racing
