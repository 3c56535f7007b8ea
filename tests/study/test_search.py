from pathlib import Path

import pytest
from search_toys import cohort, toy_search

from senca_ray import keys
from senca_ray.config import Setting
from senca_ray.errors import ProblemsError
from senca_ray.study.search import Search
from senca_ray.study.space import Choice, Range


@pytest.mark.parametrize(
    ("changes", "place"),
    [
        ({"seeds": ()}, "seeds"),
        ({"seeds": (1,), "objectives": ("stability",)}, "seeds"),
        ({"objectives": ()}, "objectives"),
        ({"objectives": ("ari", "ari"), "racing": False}, "objectives"),
        ({"objectives": ("ari", "nmi", "pas"), "racing": False}, "objectives"),
        ({"objectives": ("accuracy",)}, "objectives"),
        ({"objectives": ("ari", "seconds")}, "racing"),
        (
            {"objectives": ("loss_last",), "space": {"mse_weight": Range(1, 100)}},
            "objectives",
        ),
        ({"aggregate": "max"}, "aggregate"),
        ({"select": "cross-validation"}, "select"),
        ({"suggestions": 0}, "suggestions"),
        ({"ahead": 0}, "ahead"),
        ({"sampler_seed": -1}, "sampler_seed"),
        ({"space": {"epochs": Range(40, 2)}}, "epochs"),
    ],
)
def test_a_search_that_cannot_be_judged_is_refused(changes: dict, place: str) -> None:
    with pytest.raises(ProblemsError) as caught:
        toy_search(**changes)
    assert [p.place for p in caught.value.problems] == [place]


def test_everything_wrong_is_told_at_once() -> None:
    with pytest.raises(ProblemsError) as caught:
        toy_search(seeds=(0, 0), space={"x": Choice((1, 2))}, aggregate="max", suggestions=0)
    assert {p.place for p in caught.value.problems} == {"seeds", "x", "aggregate", "suggestions"}


def test_a_description_makes_the_same_search_again() -> None:
    search = toy_search(select="test-patients", test=("A",), aggregate="rank", sampler_seed=3)
    others = {n: getattr(search, n) for n in ("name", "title", "setting", "seeds", "protocol", "controls")}
    assert Search.described(search.describe(), others) == search


def test_all_that_the_cohort_cannot_give_is_told_before_anything_starts(tmp_path: Path) -> None:
    shards = cohort(tmp_path, {"A1": "A", "B1": "B"})
    shards |= cohort(tmp_path, {"B2": "B"}, modality=keys.RNA_IMAGE, genes=400)
    search = toy_search(
        space={"neighbors": Choice((4, 32)), "hvgs": Range(100, 500)}, select="loo-patient", test=("A",)
    )
    with pytest.raises(ProblemsError) as caught:
        search.most_trials(shards)
    found = [(p.sample, p.place) for p in caught.value.problems]
    everywhere = [(sample, "neighbors") for sample in ("A1", "B1", "B2")]
    assert found == [("-", "samples"), ("-", "test"), ("-", "select"), *everywhere, ("B2", "hvgs")]


def test_the_most_trials_are_counted_before_anything_starts(tmp_path: Path) -> None:
    shards = cohort(tmp_path, {"A1": "A", "B1": "B", "C1": "C"})
    search = toy_search(suggestions=14, ahead=1, select="loo-patient", controls=("coordinates", "untrained"))
    # 10 suggestions alike in all folds on 3 sections, 4 more in folds of 2, 2, 2 and 3, 3 tests, 2 controls.
    assert search.most_trials(shards) == 10 * 3 + 4 * 9 + 3 + 2 * 3
    with_default = toy_search(suggestions=1, controls=(), setting=Setting())
    assert with_default.most_trials(shards) == 3
