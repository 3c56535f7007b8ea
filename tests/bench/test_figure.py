from __future__ import annotations

import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from senca_ray.bench.figure import Figure

NUMBERS = st.floats(-1e12, 1e12)


def figure(runs: tuple[float, ...] = (1.0,), **changes: object) -> Figure:
    given = {"name": "a.b", "title": "a", "unit": "s", "runs": runs} | changes
    return Figure(**given)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("better", "bound", "met"),
    [("lower", 2.0, True), ("lower", 1.9, False), ("higher", 2.0, True), ("higher", 2.1, False)],
)
def test_the_median_is_held_against_the_bound(better: str, bound: float, met: bool) -> None:
    assert figure((1.0, 2.0, 9.0), better=better, bound=bound).met is met


def test_without_a_bound_there_is_no_verdict() -> None:
    assert figure().met is None


@given(
    runs=st.lists(NUMBERS, min_size=1, max_size=6),
    bound=st.none() | NUMBERS,
    better=st.sampled_from(["lower", "higher"]),
)
def test_a_figure_survives_its_dictionary(runs: list[float], bound: float | None, better: str) -> None:
    one = figure(tuple(runs), bound=bound, better=better, note="n")
    assert Figure.from_dict("a.b", one.to_dict()) == one
    assert one.to_dict()["median"] == statistics.median(runs)


def test_median_and_verdict_of_a_file_are_not_believed() -> None:
    values = figure((3.0,), bound=2.0).to_dict() | {"median": 1.0, "met": True}
    read = Figure.from_dict("a.b", values)
    assert read.median == 3.0 and read.met is False


@pytest.mark.parametrize(
    "change",
    [
        {"runs": []},
        {"runs": [float("nan")]},
        {"runs": [float("inf")]},
        {"runs": [10**400]},
        {"runs": ["1"]},
        {"runs": [True]},
        {"runs": "12"},
        {"runs": None},
        {"bound": "2"},
        {"better": "bigger"},
        {"better": None},
        {"title": 3},
    ],
)
def test_what_is_no_figure_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"a\.b"):
        Figure.from_dict("a.b", figure().to_dict() | change)


@pytest.mark.parametrize("values", [None, [], "text", {}, {"runs": [1.0]}])
def test_what_is_no_mapping_of_a_figure_is_refused(values: object) -> None:
    with pytest.raises(ValueError, match=r"a\.b"):
        Figure.from_dict("a.b", values)
