import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from tiny_study import write_study
from typer.testing import CliRunner

from senca_ray import recipe
from senca_ray.cli_study import study_app
from senca_ray.config import Configs, Setting, from_mapping
from senca_ray.errors import ProblemsError, SencaError
from senca_ray.methods.protocol import Protocol
from senca_ray.study.benchmark import Benchmark
from senca_ray.study.grid import ABLATIONS, Grid
from senca_ray.study.search import Search
from senca_ray.study_file import (
    AblationPart,
    BenchmarkPart,
    CohortPart,
    SearchPart,
    StudyFile,
    SweepPart,
    read_study_file,
)

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
    assert read.sections().samples == ("A1", "B1") and read.out() == "studies/s-raw"


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
        ("name: s\n", "exactly one of sweep, ablation, search, benchmark"),
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
        assert isinstance(read_study_file(path).study(), Grid | Search | Benchmark)
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


# --- Benchmarks ----------------------------------------------------------------------------------------


def test_a_benchmark_in_words_is_the_benchmark(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        "name: b\ntitle: t\nseeds: 4\nk: fixed:6\nclustering: average\nundetermined: dropped\nrefined: true\n"
        "benchmark: {methods: ['null', 'smoothed-pca:ward'], reference: smoothed-pca, unit: section,\n"
        "  slow_seeds: 2, sensitivity: false}\nsetting: {epochs: 3}\n",
    )
    assert read_study_file(path).study() == Benchmark(
        name="b",
        title="t",
        setting=Setting(epochs=3),
        methods=("null", "smoothed-pca:ward"),
        reference="smoothed-pca",
        unit="section",
        seeds=(0, 1, 2, 3),
        slow_seeds=2,
        sensitivity=False,
        protocol=Protocol("fixed:6", "average", undetermined="dropped", refined=True),
    )


def test_a_benchmark_is_of_all_methods_against_the_model_unless_it_says_otherwise() -> None:
    study = StudyFile(name="b", benchmark=BenchmarkPart()).study()
    assert isinstance(study, Benchmark)
    assert study == Benchmark(name="b", title="b", setting=Setting(), seeds=(0, 1, 2, 3, 4))
    assert (study.reference, study.unit, study.slow_seeds, study.sensitivity) == ("senca", "patient", 3, True)


def test_null_without_quotes_is_told_what_it_means_in_yaml(tmp_path: Path) -> None:
    """YAML reads a bare null as nothing at all."""
    with pytest.raises(ProblemsError) as caught:
        read_study_file(written(tmp_path, "name: b\nbenchmark: {methods: [null]}\n"))
    assert [p.place for p in caught.value.problems] == ["benchmark.methods.0"]


def test_what_is_wrong_in_a_benchmark_and_its_protocol_comes_at_once() -> None:
    part = BenchmarkPart(methods=("nonsense", "senca:louvain"), reference="simple", slow_seeds=0)
    with pytest.raises(ProblemsError) as caught:
        StudyFile(name="b", benchmark=part, k="many", undetermined="gone", seeds=2)
    places = [p.place for p in caught.value.problems]
    assert sorted(places) == ["k", "methods", "methods", "reference", "slow_seeds", "undetermined"]


def asked(monkeypatch: pytest.MonkeyPatch, *options: str) -> Any:
    """The study that a benchmark's command line asks for, which is not run."""
    found: list[Any] = []
    monkeypatch.setattr("senca_ray.experiment.run_study", lambda study, *_, **__: found.append(study))
    monkeypatch.setattr(sys, "argv", ["benchmark.py", *options])
    command = recipe.benchmark_command(name="benchmark", title="t", explain="Compare.")
    with pytest.raises(SystemExit) as ended:
        command()
    assert ended.value.code == 0
    return found[0]


def test_a_command_line_says_what_a_file_says(monkeypatch: pytest.MonkeyPatch) -> None:
    everything = asked(monkeypatch)
    assert everything == StudyFile(name="benchmark", title="t", benchmark=BenchmarkPart()).study()
    chosen = asked(
        *(monkeypatch, "--method", "null", "--method", "smoothed-pca:ward", "--reference", "coordinates"),
        *("--unit", "section", "--slow-seeds", "2", "--no-sensitivity", "--seeds", "3", "--k", "auto"),
        *("--clustering", "average", "--undetermined", "scored", "--refined", "--set", "epochs=3"),
    )
    assert chosen == Benchmark(
        name="benchmark",
        title="t",
        setting=Setting(epochs=3),
        methods=("null", "smoothed-pca:ward"),
        reference="coordinates",
        unit="section",
        seeds=(0, 1, 2),
        slow_seeds=2,
        sensitivity=False,
        protocol=Protocol("auto", "average", undetermined="scored", refined=True),
    )


def test_a_preset_of_settings_stands_in_for_config(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    preset = tmp_path / "preset.yaml"
    preset.write_text("setting: {epochs: 40}\n")
    found: list[Any] = []
    monkeypatch.setattr("senca_ray.experiment.run_study", lambda study, *_, **__: found.append(study))
    command = recipe.benchmark_command(name="extended", title="t", explain="Compare.", settings=preset)
    other = tmp_path / "other.yaml"
    other.write_text("setting: {hvgs: 700}\n")
    for options in ([], ["--set", "hvgs=500"], ["--config", str(other)]):
        monkeypatch.setattr(sys, "argv", ["extended.py", *options])
        with pytest.raises(SystemExit):
            command()
    assert [s.setting for s in found] == [Setting(epochs=40), Setting(epochs=40, hvgs=500), Setting(hvgs=700)]


def test_a_benchmark_is_shown(tmp_path: Path) -> None:
    study = StudyFile(name="b", benchmark=BenchmarkPart(methods=("null",))).study()
    described = {**study.describe(), "undetermined": "unscored", "refined": False}
    folder = write_study(tmp_path / "b", [], **described)
    shown = CliRunner().invoke(study_app, ["show", str(folder)])
    if isinstance(shown.exception, KeyError):
        raise shown.exception
    assert shown.exit_code == 0 and "coordinates:kmeans" in shown.output and "senca" in shown.output


def test_all_that_is_wrong_on_a_command_line_comes_at_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--method", "nonsense", "--unit", "moon", "--reference", "simple", "--k", "many"]
    monkeypatch.setattr(sys, "argv", ["benchmark.py", *options])
    with pytest.raises(SystemExit) as ended:
        recipe.benchmark_command(name="benchmark", title="t", explain="Compare.")()
    said = capsys.readouterr().err
    assert ended.value.code == 2
    assert all(word in said for word in ("'many'", "moon"))
    assert "'nonsense' is unknown" in said and "'simple' found; expected one method" in said
