"""Which trials a benchmark consists of, how often each fit is read, and what is no benchmark."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from study.search_toys import cohort

from senca_ray import experiment, keys
from senca_ray.cohort import Cohort
from senca_ray.config import Setting
from senca_ray.data.sample import Sample
from senca_ray.errors import ProblemsError
from senca_ray.fit.choices import CLUSTERINGS
from senca_ray.methods import METHODS, Method, RegionMethod, all_methods
from senca_ray.methods.base import Embedding
from senca_ray.methods.protocol import UNDETERMINED, Protocol
from senca_ray.study.benchmark import Benchmark
from senca_ray.study.trial import Trial, from_config, to_config


class Slow(Method):
    """A method of minutes with settings of its own."""

    name, title, kind, slow = "toy-slow", "a toy", keys.PUBLISHED, True
    clusterings = ("gmm-tied",)

    def genes_needed(self, setting: Setting) -> int:
        return 1

    def embed(self, sample: Sample, setting: Setting, seed: int) -> Embedding:
        return Embedding(sample.xy)


class Regions(RegionMethod):
    """A method that finds regions by itself, or is clustered otherwise."""

    name, title, kind = "toy-regions", "a toy", keys.NULL
    clusterings = (keys.OWN, "kmeans")

    def genes_needed(self, setting: Setting) -> int:
        return 1

    def segment(self, sample: Sample, setting: Setting, seed: int, k: int) -> Embedding:
        return Embedding(sample.xy, regions=np.arange(len(sample.xy)) % k)


class Once(Slow):
    """A method that no seed changes."""

    name, kind, slow, seeded, clusterings = "toy-once", keys.SIMPLE, False, False, ("ward",)


@pytest.fixture(autouse=True)
def toys(monkeypatch: pytest.MonkeyPatch) -> None:
    for method in (Slow(), Regions(), Once()):
        monkeypatch.setitem(METHODS, method.name, method)


def benchmark(*methods: str, **changes: Any) -> Benchmark:
    given: dict[str, Any] = {
        "name": "b",
        "title": "t",
        "setting": Setting(hvgs=30),
        "seeds": (0, 1, 2, 3, 4),
        "methods": methods or keys.METHOD_KINDS,
    }
    return Benchmark(**given | changes)


def trials(tmp_path: Path, study: Benchmark, **meta: object) -> list[Trial]:
    return study.trials(cohort(tmp_path / "shards", {"A1": "A"}, **meta))


def readings(trial: Trial) -> list[tuple[str, str, str]]:
    """Clustering, k policy and handling of every row of a seed."""
    found = [trial.key(0, protocol) for protocol in trial.protocols]
    return [(key[keys.CLUSTERING], key[keys.K_POLICY], key[keys.PROTOCOL]) for key in found]


# --- Methods and their clusterings ---------------------------------------------------------------------


def test_a_kind_stands_for_all_its_methods_each_with_its_own_clusterings() -> None:
    entries = dict(benchmark().entries())
    assert entries.keys() == all_methods().keys()
    assert all(entries[name] == (m.clusterings or ("ward",)) for name, m in all_methods().items())
    nulls = dict(benchmark("null").entries())
    assert nulls.keys() == {"senca", *(n for n, m in all_methods().items() if m.kind == keys.NULL)}
    assert nulls["toy-regions"] == (keys.OWN, "kmeans")


@pytest.mark.parametrize(
    ("methods", "reference", "expected"),
    [
        (("coordinates",), "senca", [("senca", ("ward",)), ("coordinates", ("kmeans",))]),
        (("coordinates:ward",), "senca", [("senca", ("ward",)), ("coordinates", ("ward",))]),
        (("senca", "senca:leiden", "senca"), "senca", [("senca", ("ward", "leiden"))]),
        # The one named first is a method's main one, and the reference is named before all.
        (("coordinates:ward", "coordinates"), "coordinates:ward", [("coordinates", ("ward", "kmeans"))]),
        (("coordinates", "coordinates:ward"), "coordinates:ward", [("coordinates", ("ward", "kmeans"))]),
        (("toy-regions:own",), "toy-once", [("toy-once", ("ward",)), ("toy-regions", (keys.OWN,))]),
        (("toy-regions:ward",), "toy-once", [("toy-once", ("ward",)), ("toy-regions", ("ward",))]),
    ],
)
def test_methods_are_named_alone_or_with_a_clustering(
    methods: tuple[str, ...], reference: str, expected: list[Any]
) -> None:
    assert benchmark(*methods, reference=reference).entries() == expected


def test_a_method_without_a_clustering_of_its_own_has_the_study_s() -> None:
    study = benchmark("senca", "coordinates", protocol=Protocol(clustering="average"))
    assert study.entries() == [("senca", ("average",)), ("coordinates", ("kmeans",))]


def test_controls_are_nulls_and_simple_ones() -> None:
    assert benchmark("senca", "toy-slow", "toy-once", "null", reference="toy-slow").controls == (
        "toy-once",
        *(name for name, m in all_methods().items() if m.kind == keys.NULL),
    )


# --- Trials --------------------------------------------------------------------------------------------


def test_seeds_are_those_that_a_method_can_use(tmp_path: Path) -> None:
    study = benchmark("senca", "toy-slow", "toy-once", seeds=(7, 5, 6, 4), slow_seeds=2)
    found = {t.method: t for t in trials(tmp_path, study)}
    assert {name: t.seeds for name, t in found.items()} == {
        "toy-slow": (7, 5),
        "senca": (7, 5, 6, 4),
        "toy-once": (7,),
    }
    assert {name: t.label for name, t in found.items()} == {
        "toy-slow": keys.FIXED,
        "senca": keys.DEFAULT,
        "toy-once": keys.FIXED,
    }
    assert trials(tmp_path, benchmark("toy-slow", slow_seeds=9))[0].seeds == (0, 1, 2, 3, 4)


def test_long_fits_come_first_then_large_sections(tmp_path: Path) -> None:
    shards = cohort(tmp_path, {"A1": "A", "B1": "B"})  # B1 has a spot more
    study = benchmark("coordinates", "toy-slow")
    order = [(t.method, t.sample) for t in study.trials(shards)]
    assert order[:2] == [("toy-slow", "B1"), ("toy-slow", "A1")]
    assert [sample for _, sample in order[2:]] == ["B1", "B1", "A1", "A1"]
    assert study.most_trials(shards) == len(order) == 6


def test_what_needs_an_image_is_left_out_where_there_is_none(tmp_path: Path) -> None:
    shards = cohort(tmp_path / "a", {"A1": "A"}) | cohort(
        tmp_path / "b", {"B1": "B"}, modality=keys.RNA_IMAGE
    )
    found = benchmark("smoothed-image", "coordinates", reference="coordinates").trials(shards)
    assert sorted((t.sample, t.method) for t in found) == [
        ("A1", "coordinates"),
        ("B1", "coordinates"),
        ("B1", "smoothed-image"),
    ]


def test_every_clustering_is_read_and_the_main_one_in_other_ways_too(tmp_path: Path) -> None:
    (_, found) = trials(tmp_path, benchmark("coordinates", "coordinates:ward"))
    assert readings(found) == [
        ("kmeans", "labels", "unscored"),
        ("ward", "labels", "unscored"),
        ("kmeans", "labels", "unscored+refined"),
        ("kmeans", "labels", "dropped"),
        ("kmeans", "labels", "scored"),
        ("kmeans", "auto", "unscored"),
    ]


def test_regions_of_its_own_are_not_read_where_that_needs_another_fit(tmp_path: Path) -> None:
    (_, found) = trials(tmp_path, benchmark("toy-regions"))
    assert readings(found) == [
        (keys.OWN, "labels", "unscored"),
        ("kmeans", "labels", "unscored"),
        (keys.OWN, "labels", "unscored+refined"),
        (keys.OWN, "labels", "scored"),
    ]


def test_without_sensitivity_a_fit_is_read_once_a_clustering(tmp_path: Path) -> None:
    found = trials(tmp_path, benchmark("coordinates", "coordinates:ward", sensitivity=False))
    assert {t.method: readings(t) for t in found} == {
        "senca": [("ward", "labels", "unscored")],
        "coordinates": [("kmeans", "labels", "unscored"), ("ward", "labels", "unscored")],
    }


def test_a_section_without_labels_is_read_in_no_way_that_needs_them(tmp_path: Path) -> None:
    """Under `auto` another policy would be `labels`, which fails there: rows that nobody asked for."""
    study = benchmark("coordinates", protocol=Protocol("auto"))
    for found in trials(tmp_path, study, label_source=keys.UNLABELLED):
        assert "labels" not in {policy for _, policy, _ in readings(found)}


NAMES = st.sampled_from(
    [*METHODS, *keys.METHOD_KINDS, *(f"{m}:{c}" for m in ("senca", "coordinates") for c in CLUSTERINGS)]
)
STUDIES = st.builds(
    benchmark,
    NAMES,
    NAMES,
    reference=st.sampled_from(["senca", "coordinates", "coordinates:leiden", "smoothed-pca:average"]),
    unit=st.sampled_from(("patient", "section")),
    seeds=st.sampled_from([(0,), (0, 1, 2), (5, 3)]),
    slow_seeds=st.integers(1, 4),
    sensitivity=st.booleans(),
    protocol=st.builds(
        Protocol,
        st.sampled_from(("labels", "auto", "fixed:3")),
        st.sampled_from(CLUSTERINGS),
        st.sampled_from((None, ("a", "b"))),
        st.sampled_from(UNDETERMINED),
        st.booleans(),
    ),
)


@settings(max_examples=40, deadline=None)
@given(study=STUDIES)
def test_no_two_rows_of_a_benchmark_have_one_key(
    study: Benchmark, tmp_path_factory: pytest.TempPathFactory
) -> None:
    shards = cohort(tmp_path_factory.getbasetemp() / "paper", {"A1": "A", "B1": "B"}, modality=keys.RNA_IMAGE)
    found = study.trials(shards)
    all_keys = [tuple(key.values()) for trial in found for key in trial.keys()]  # noqa: SIM118  a method
    assert len(set(all_keys)) == len(all_keys)
    assert len({(t.method, t.sample) for t in found}) == len(found) == study.most_trials(shards)
    for trial in found:
        assert from_config(json.loads(json.dumps(to_config(trial)))) == trial
        main = trial.protocol
        assert main.k_policy == study.protocol.k_policy and main.handling == study.protocol.handling
        assert trial.protocol.pair == study.protocol.pair


def test_a_method_that_is_told_k_is_not_fitted_anew_for_another() -> None:
    """DeepST takes a minute a fit; its clusters are Leiden's, and yet it has to know k before."""
    readings = {
        name: benchmark(name)._trial(METHODS[name], ("leiden",), "A1", "uri", keys.ANNOTATED).also
        for name in ("deepst", "pca")
    }
    assert {p.k_policy for p in readings["deepst"]} == {"labels"}
    assert {p.k_policy for p in readings["pca"]} == {"labels", "auto"}


# --- Description ---------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(study=STUDIES)
def test_a_description_gives_the_same_benchmark_again(study: Benchmark) -> None:
    stored = json.loads(json.dumps(experiment._described_so_far(study, Cohort(data=None))))
    again = experiment._described(stored)
    assert isinstance(again, Benchmark) and again.entries() == study.entries()
    assert dataclasses.replace(again, methods=study.methods) == study
    assert experiment._described_so_far(experiment._described(stored), Cohort(data=None)) == stored


def test_a_study_gone_on_with_is_the_one_that_was_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another package is installed meanwhile: its methods are no part of a study that is under way."""
    begun = benchmark("null")
    stored = json.loads(json.dumps(experiment._described_so_far(begun, Cohort(data=None))))
    methods = [name for name, _ in begun.entries()]
    monkeypatch.setitem(METHODS, "toy-new", type("New", (Slow,), {"name": "toy-new", "kind": keys.NULL})())
    assert [name for name, _ in experiment._described(stored).entries()] == methods


# --- What is no benchmark ------------------------------------------------------------------------------


def test_everything_that_is_wrong_is_named_at_once() -> None:
    with pytest.raises(ProblemsError) as caught:
        benchmark(
            *("nonsense", "senca:louvain", "coordinates:own", "senca", "model:ward", "senca:", ""),
            reference="simple",
            unit="moon",
            slow_seeds=0,
            seeds=(0, 0),
        )
    problems = [(p.place, p.message) for p in caught.value.problems]
    assert [place for place, _ in problems] == ["seeds", *["methods"] * 6, "reference", "unit", "slow_seeds"]
    messages = [message for _, message in problems]
    assert "'nonsense' is unknown" in messages[1] and "smoothed-pca" in messages[1]
    assert "clustering 'louvain' found" in messages[2] and "leiden" in messages[2]
    assert "clustering 'own' found" in messages[3] and messages[3].endswith("leiden")
    assert "'simple' found; expected one method" in messages[7]
    assert "'moon' found; expected one of patient, section" in messages[8]


@pytest.mark.parametrize(
    ("changes", "place"),
    [
        ({"methods": ()}, "methods"),
        ({"seeds": ()}, "seeds"),
        ({"seeds": (-1,)}, "seeds"),
        ({"reference": "nobody"}, "reference"),
        ({"reference": "coordinates:own"}, "reference"),
    ],
)
def test_what_is_missing_or_wrong_is_named(changes: dict[str, Any], place: str) -> None:
    with pytest.raises(ProblemsError) as caught:
        benchmark(**changes)
    assert [p.place for p in caught.value.problems] == [place]


def test_shards_that_hold_too_little_are_named(tmp_path: Path) -> None:
    with pytest.raises(ProblemsError) as caught:
        trials(tmp_path, benchmark("model", setting=Setting(hvgs=2000, neighbors=20)))
    assert {p.place for p in caught.value.problems} == {"hvgs", "neighbors"}


def test_a_setting_that_no_method_follows_asks_nothing_of_the_shards(tmp_path: Path) -> None:
    """Nulls can be run on a section of few genes."""
    study = benchmark("coordinates", reference="coordinates", setting=Setting(hvgs=2000))
    assert len(trials(tmp_path, study, genes=40)) == 1


def test_a_study_that_has_no_such_method_any_more_says_which() -> None:
    """A benchmark of another package's method, gone on with where that is not installed."""
    stored = experiment._described_so_far(benchmark("toy-slow"), Cohort(data=None))
    with pytest.raises(ProblemsError, match="'gone' is unknown"):
        experiment._described(stored | {"methods": ["toy-slow", "gone"]})


def test_a_benchmark_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        benchmark().unit = "section"  # type: ignore[misc]
