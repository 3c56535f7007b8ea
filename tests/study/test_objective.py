import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from senca_ray import keys
from senca_ray.study.objective import aggregated, direction, patient_scores, sample_scores, standings


def row(seed: int, *, status: str = keys.OK, **scores: float | None) -> dict:
    return {keys.SEED: seed, keys.STATUS: status, **scores}


ROWS = [
    row(0, ari=0.1, chaos=1.0, seconds=2.0),
    row(1, ari=0.3, chaos=3.0, seconds=4.0),
    row(keys.ALL_SEEDS, ari=0.9, stability=0.5, seconds=9.0),
]


def test_seeds_are_averaged_and_stability_is_that_of_their_consensus() -> None:
    scores = sample_scores(ROWS, ["ari", "stability", "seconds"])
    assert scores == pytest.approx((0.2, 0.5, 3.0))
    assert sample_scores(ROWS[::-1], ["ari", "stability", "seconds"]) == scores


@pytest.mark.parametrize(
    "broken",
    [
        row(1, status=keys.FAILED, ari=0.3),
        row(1, ari=None),
        row(1, ari=math.nan),
        row(1, ari=math.inf),
        row(1),
    ],
)
def test_a_row_without_the_score_fails_the_section(broken: dict) -> None:
    assert sample_scores([ROWS[0], broken, ROWS[2]], ["ari"]) is None
    assert sample_scores([ROWS[0], broken, ROWS[2]], ["stability"]) == (0.5,)
    assert patient_scores([(0.1,), None]) is None


def test_stability_without_a_consensus_row_has_no_score() -> None:
    assert sample_scores(ROWS[:1], ["stability"]) is None


def test_sections_count_alike_within_a_patient_and_patients_in_the_number() -> None:
    patients = [patient_scores([(0.2,), (0.4,)]), (0.9,), (0.1,)]
    assert aggregated(patients, [], ["ari"], "mean") == pytest.approx(((0.3 + 0.9 + 0.1) / 3,))
    assert aggregated(patients, [], ["ari"], "median") == pytest.approx((0.3,))


def test_a_rank_is_the_share_beaten_on_each_patient() -> None:
    mine, others = [(0.5,), (0.5,)], [[(0.4,), (0.6,)], [(0.5,), (0.1,)]]
    assert aggregated(mine, others, ["ari"], "rank") == (0.625,)  # (1 + 0.5) / 2 and (0 + 1) / 2
    assert aggregated(mine, others, ["chaos"], "rank") == (0.375,)
    assert aggregated(mine[:1], others, ["ari"], "rank") == (0.75,)  # stopped after one patient
    assert aggregated(mine, [], ["ari"], "rank") == (0.5,)
    assert direction("chaos", "rank") == "maximize" and direction("chaos", "mean") == "minimize"


TABLES = st.integers(1, 5).flatmap(
    lambda p: st.lists(
        st.lists(st.tuples(st.integers(0, 3).map(float)), min_size=p, max_size=p), min_size=2, max_size=6
    )
)


@given(TABLES)
def test_standings_are_the_same_for_all_and_share_out_the_wins(table: list[list[tuple[float]]]) -> None:
    result = standings(table, ["ari"])
    assert sum(v for (v,) in result) == pytest.approx(len(table) / 2)
    for i, own in enumerate(table):
        assert result[i] == aggregated(own, table[:i] + table[i + 1 :], ["ari"], "rank")
