import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import wilcoxon

from senca_ray.study.racing import FIRST_LOOK, P, Replay, hopeless, lower_p, replay, simulate_table

SCORES = st.floats(-1, 1, allow_nan=False).map(lambda x: round(x, 6))
PAIRS = st.lists(st.tuples(SCORES, SCORES), min_size=1, max_size=30)
COARSE = st.integers(-4, 4)


def scipys_p(differences: np.ndarray, method: str) -> float:
    return float(wilcoxon(differences, alternative="less", zero_method="zsplit", method=method).pvalue)


@given(st.lists(SCORES.filter(bool), min_size=2, max_size=30, unique_by=abs))
def test_p_is_scipys_where_nothing_ties(differences: list[float]) -> None:
    given = np.array(differences)
    assert lower_p(given) == pytest.approx(scipys_p(given, "exact"), abs=1e-12)


@settings(max_examples=30, deadline=None)  # scipy goes through every pattern of signs
@given(st.lists(COARSE, min_size=2, max_size=7).filter(any))
def test_p_is_scipys_with_ties_and_zeros(differences: list[int]) -> None:
    given = np.array(differences, float)
    assert lower_p(given) == pytest.approx(scipys_p(given, "auto"), abs=1e-12)


@given(PAIRS.filter(lambda pairs: len(pairs) >= FIRST_LOOK and len({*_sizes(pairs), 0}) > len(pairs)))
def test_the_rule_is_that_of_the_pruner(pairs: list[tuple[float, float]]) -> None:
    """Optuna's WilcoxonPruner: p below the threshold, and the mean worse."""
    values, incumbent = zip(*pairs, strict=True)
    differences = np.subtract(values, incumbent)
    expected = scipys_p(np.round(differences, 9), "exact") < P and differences.mean() < 0
    assert hopeless(values, incumbent, maximise=True) == expected


def _sizes(pairs: list[tuple[float, float]]) -> set[float]:
    return {round(abs(value - incumbent), 9) for value, incumbent in pairs}


@given(PAIRS)
def test_minimising_is_maximising_the_opposite(pairs: list[tuple[float, float]]) -> None:
    values, incumbent = np.array(pairs).T
    assert hopeless(values, incumbent, False) == hopeless(-values, -incumbent, True)
    assert not (hopeless(values, incumbent, True) and hopeless(incumbent, values, True))
    assert not hopeless(values, values, True)


def test_the_first_look_is_the_first_that_can_stop_anything() -> None:
    worse = np.arange(1, FIRST_LOOK + 1) / 100
    assert lower_p(-worse) < P <= lower_p(-worse[:-1])
    assert hopeless(0.3 - worse, [0.3] * FIRST_LOOK, maximise=True)


def test_a_significant_test_with_a_better_mean_stops_nothing() -> None:
    values = np.array([-0.01, -0.02, -0.03, -0.04, -0.05, -0.06, -0.07, -0.08, 3.0])
    assert lower_p(values) < 0.1
    assert not hopeless(values, np.zeros(9), maximise=True)


def test_a_replay_counts_what_runs() -> None:
    """The second suggestion is stopped at the first look, the third becomes the incumbent of the last."""
    patients = np.arange(10) / 100
    table = np.stack([patients, patients - 0.1 - patients / 9, patients + 0.2, patients + 0.1 - patients / 7])
    expected = (10 + FIRST_LOOK + 10 + FIRST_LOOK) / 40
    assert replay(table) == Replay(share_run=expected, best_eliminated=False)


def test_a_replay_tells_when_the_best_was_stopped() -> None:
    """Worse on the first patients, far better on the last."""
    table = np.zeros((2, 10))
    table[1] = [-0.01, -0.02, -0.03, -0.04, -0.05, 1, 1, 1, 1, 1]
    assert replay(table) == Replay(share_run=(10 + FIRST_LOOK) / 20, best_eliminated=True)


def test_too_few_patients_stop_nothing() -> None:
    table = np.linspace(1, 0, 20).reshape(4, 5)
    assert replay(table) == Replay(share_run=1.0, best_eliminated=False)


@pytest.mark.parametrize("table", [np.zeros((0, 3)), np.zeros(3), np.array([[0.1, np.nan]])])
def test_a_table_with_gaps_is_refused(table: np.ndarray) -> None:
    with pytest.raises(ValueError, match="finite scores"):
        replay(table)


def test_a_simulated_table_has_its_variance_components() -> None:
    table = simulate_table(np.random.default_rng(0), 400, 400)
    within = table - table.mean(axis=1, keepdims=True) - table.mean(axis=0) + table.mean()
    assert table.mean(axis=0).std() == pytest.approx(0.15, rel=0.1)
    assert table.mean(axis=1).std() == pytest.approx(0.06, rel=0.1)
    assert within.std() == pytest.approx(0.08, rel=0.02)


@pytest.mark.parametrize("seed", [0, 1])
def test_with_24_patients_half_of_the_trials_are_saved_and_the_best_is_kept(seed: int) -> None:
    rng = np.random.default_rng(seed)
    outcomes = [replay(simulate_table(rng, 40, 24)) for _ in range(200)]
    assert np.mean([outcome.share_run for outcome in outcomes]) <= 0.5
    assert np.mean([outcome.best_eliminated for outcome in outcomes]) < 0.05
