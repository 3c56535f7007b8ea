from __future__ import annotations

import itertools
import math
import random
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.power import TTestPower

from senca_ray.analysis.evidence import Evidence, evidence
from senca_ray.analysis.statistics import paired_test

# Thousandths, as scores have: sums of flips then tie often, which float noise would break.
THOUSANDTHS = st.lists(st.integers(-1000, 1000), min_size=2, max_size=7)
FEW = settings(max_examples=25, deadline=None)

SLEEP = np.array([1.2, 2.4, 1.3, 1.3, 0.0, 1.0, 1.8, 0.8, 4.6, 1.4])
"""Student (1908): additional hours of sleep of ten patients, one drug minus the other."""


def by_flips(whole: list[int]) -> float:
    """p of the sign-flip test by going through all flips in whole numbers."""
    sums = [abs(sum(s * d for s, d in zip(f, whole, strict=True))) for f in signs(len(whole))]
    return sum(flipped >= abs(sum(whole)) for flipped in sums) / len(sums)


def signs(n: int) -> itertools.product[tuple[int, ...]]:
    return itertools.product((1, -1), repeat=n)


def test_sign_flips_by_hand() -> None:
    # 0.3, 0.2, -0.1 sum to 0.4. The 8 flips sum to 0.6, 0.4, 0.2, 0, 0, -0.2, -0.4, -0.6: four of them are
    # at least 0.4 away from 0.
    assert evidence(np.array([0.3, 0.2, -0.1])).sign_flip_p == pytest.approx(4 / 8)
    # All of one sign: only the flips of all and of none are as far away.
    assert evidence(np.array([0.3, 0.2, 0.1])).sign_flip_p == pytest.approx(2 / 8)


@FEW
@given(THOUSANDTHS)
@example([85, -585, 2, 225, 275])  # in floats, two flips that tie with the sum found come out below it
def test_sign_flips_are_counted_exactly(whole: list[int]) -> None:
    assert evidence(np.array(whole) / 1000).sign_flip_p == pytest.approx(by_flips(whole))


def test_many_units_draw_flips_near_the_exact_p() -> None:
    # 16 units: more flips than are tried. The exact p counts signed sums of 1..16 as a polynomial's terms.
    whole = [i if i % 3 else -i for i in range(1, 17)]
    ways = {0: 1}
    for size in map(abs, whole):
        ways = {
            total: ways.get(total - size, 0) + ways.get(total + size, 0)
            for total in {t + s for t in ways for s in (size, -size)}
        }
    exact = sum(count for total, count in ways.items() if abs(total) >= abs(sum(whole))) / 2**16
    found = evidence(np.array(whole) / 100).sign_flip_p
    assert found == pytest.approx(exact, abs=3 * math.sqrt(exact / 9999) + 1e-4)
    assert found == evidence(np.array(whole[::-1]) / -100).sign_flip_p


def test_effect_size_and_interval_of_a_published_example() -> None:
    # Sum 15.8, mean 1.58; squares sum to 38.58, less 15.8**2 / 10 = 24.964: 13.616; sd = sqrt(13.616 / 9)
    # = 1.23; d = 1.2846, t = d * sqrt 10 = 4.0621. R prints t = 4.0621, p = 0.002833; its package effectsize
    # gives d = 1.28 with the interval 0.41 to 2.12.
    found = evidence(SLEEP)
    assert found.effect_size == pytest.approx(1.58 / math.sqrt(13.616 / 9))
    assert (found.effect_low, found.effect_high) == pytest.approx((0.41, 2.12), abs=0.005)
    assert found.t_p == pytest.approx(0.002833, abs=5e-7)
    assert (found.n, found.wins, found.ties, found.remark) == (10, 9, 1, "")


@FEW
@given(st.integers(2, 30), st.floats(-3, 3), st.integers(0, 1000))
def test_effect_interval_ends_where_the_noncentral_t_says(n: int, mean: float, seed: int) -> None:
    differences = np.random.default_rng(seed).normal(mean, 1, n)
    found = evidence(differences)
    assume(abs(found.effect_size) * math.sqrt(n) < 30)  # beyond, the distribution itself is the less exact
    t = stats.ttest_1samp(differences, 0).statistic
    ends = np.array([found.effect_low, found.effect_high]) * math.sqrt(n)
    assert stats.nct.cdf(t, n - 1, ends) == pytest.approx([0.975, 0.025], abs=1e-5)
    assert found.effect_low < found.effect_size < found.effect_high


def test_nearly_equal_differences_have_no_effect_interval() -> None:
    found = evidence(np.array([0.1, 0.1, 0.1 + 1e-9]))
    assert found.effect_size > 1e6
    assert math.isnan(found.effect_low)
    assert math.isnan(found.effect_high)


@pytest.mark.parametrize("n", [2, 5, 8, 40])
def test_detectable_difference_has_80_percent_power(n: int) -> None:
    differences = np.random.default_rng(n).normal(0.05, 0.15, n)
    effect = evidence(differences).detectable / differences.std(ddof=1)
    assert TTestPower().power(effect, n, 0.05, alternative="two-sided") == pytest.approx(0.8, abs=1e-6)


def test_detectable_difference_in_simulated_samples() -> None:
    rng = np.random.default_rng(0)
    sample = rng.normal(0.0, 0.15, 8)
    found = evidence(sample).detectable
    simulated = rng.normal(found, sample.std(ddof=1), (6000, 8))
    # Standard error of the share: sqrt(0.8 * 0.2 / 6000) = 0.005.
    assert (stats.ttest_1samp(simulated, 0, axis=1).pvalue < 0.05).mean() == pytest.approx(0.8, abs=0.016)


def test_detectable_difference_agrees_with_the_usual_sample_size() -> None:
    # 34 pairs are the textbook number for d = 0.5 at 80 % power: with 34 it can be shown, with 33 not quite.
    for n, shown in ((34, True), (33, False)):
        differences = np.arange(n, dtype=float)
        assert (evidence(differences).detectable <= 0.5 * differences.std(ddof=1)) == shown


def test_interval_of_three_by_hand() -> None:
    # The level asked for with n = 3 leaves less than 1e-6 on either side, and 1 of 27 resamples takes the
    # smallest difference three times: the interval is the range, which covers 1 - 2 / 8 of the time.
    found = evidence(np.array([0.1, 0.6, 0.2]))
    assert (found.interval_low, found.interval_high) == pytest.approx((0.1, 0.6))
    assert "covers the mean in at most 75% of cases" in found.remark


def test_interval_is_the_percentile_of_all_resamples_at_the_expanded_level() -> None:
    # Hesterberg's tail for n = 5: P(Z < -sqrt(5 / 4) * 2.776) = P(Z < -3.104) = 0.00096, of 5**5 = 3125
    # equally likely resamples the third smallest and third largest.
    differences = np.array([-0.11, 0.02, 0.07, 0.19, 0.3])
    means = np.sort([np.mean(drawn) for drawn in itertools.product(differences, repeat=5)])
    found = evidence(differences)
    assert (found.interval_low, found.interval_high) == pytest.approx((means[2], means[-3]))
    wider = stats.t.interval(0.95, 4, differences.mean(), stats.sem(differences))
    assert wider[0] < found.interval_low < differences.mean() < found.interval_high < wider[1]


def test_interval_is_that_of_many_more_resamples() -> None:
    differences = np.random.default_rng(3).normal(0.05, 0.15, 12)
    drawn = np.random.default_rng(4).choice(differences, (100_000, 12)).mean(axis=1)
    tail = stats.norm.cdf(-math.sqrt(12 / 11) * stats.t.ppf(0.975, 11))
    low, high = np.quantile(drawn, [tail, 1 - tail])
    found = evidence(differences)
    assert (found.interval_low, found.interval_high) == pytest.approx((low, high), abs=0.04 * (high - low))


def test_interval_covers_the_mean_95_percent_of_the_time() -> None:
    # 250 samples: standard error 0.014. The plain percentile interval covers 0.87 with 6 units.
    samples = np.random.default_rng(5).normal(0.05, 0.15, (250, 6))
    found = [evidence(sample) for sample in samples]
    assert np.mean([e.interval_low <= 0.05 <= e.interval_high for e in found]) == pytest.approx(
        0.95, abs=0.035
    )


def is_nothing(found: Evidence) -> bool:
    """Whether everything that needs spread is left open."""
    names = ("interval_low", "interval_high", "effect_size", "effect_low", "effect_high", "detectable")
    return all(math.isnan(getattr(found, name)) for name in names)


@pytest.mark.parametrize("values", [[], [0.1], [math.nan], [math.nan, 0.1]])
def test_fewer_than_two_differences_show_nothing(values: list[float]) -> None:
    found = evidence(np.array(values), "section")
    n = sum(not math.isnan(value) for value in values)
    assert (found.n, found.wins, found.ties) == (n, n, 0)
    assert is_nothing(found)
    assert all(map(math.isnan, (found.t_p, found.wilcoxon_p, found.sign_flip_p)))
    assert found.mean_difference == pytest.approx(0.1 if n else math.nan, nan_ok=True)
    assert found.remark == f"with {n} section{'s' if n != 1 else ''} no paired test can be run"


def test_differences_that_are_all_zero_have_p_1() -> None:
    found = evidence(np.zeros(6))
    assert (found.t_p, found.wilcoxon_p, found.sign_flip_p) == (1, 1, 1)
    assert (found.mean_difference, found.wins, found.ties) == (0, 0, 6)
    assert is_nothing(found)
    assert found.remark.startswith("all differences are zero; without spread there is no interval")


def test_differences_that_are_all_equal_are_tested_by_sign_alone() -> None:
    found = evidence(np.array([0.3, 0.4, 0.5, 0.6, 0.7]) - np.array([0.1, 0.2, 0.3, 0.4, 0.5]))
    assert (found.wilcoxon_p, found.sign_flip_p) == pytest.approx((2 / 2**5, 2 / 2**5))
    assert math.isnan(found.t_p)
    assert is_nothing(found)
    assert "the t-test is not defined" in found.remark


def test_missing_differences_are_left_out() -> None:
    assert evidence(np.array([0.3, math.nan, 0.2, -0.1, math.nan])) == evidence(np.array([0.3, 0.2, -0.1]))


@pytest.mark.parametrize("n", [2, 3, 4, 5])
def test_few_units_are_said_to_show_little(n: int) -> None:
    found = evidence(np.arange(1.0, n + 1) / 10, "section")
    text = f"with {n} sections the smallest two-sided Wilcoxon or sign-flip p is {2 / 2**n:.2g}"
    assert found.remark.startswith(text)
    assert ("the t-test rests on an assumption" in found.remark) == (n < 5)
    assert ("bootstrap interval covers" in found.remark) == (n < 5)
    assert found.sign_flip_p == found.wilcoxon_p == pytest.approx(2 / 2**n)


def test_zero_differences_are_said_to_take_away_from_n() -> None:
    found = evidence(np.array([0, 0, 0, 0.1, 0.2, 0.4]))
    assert (found.wins, found.ties) == (3, 3)
    assert found.wilcoxon_p == found.sign_flip_p == pytest.approx(2 / 2**3)
    assert found.remark == (
        "3 of 6 differences are zero: with 3 that are not, the smallest two-sided Wilcoxon or sign-flip p is "
        "0.25"
    )
    assert evidence(np.array([0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.7])).remark == ""


@FEW
@given(THOUSANDTHS, st.randoms(use_true_random=False))
def test_order_of_units_changes_nothing(whole: list[int], order: random.Random) -> None:
    shuffled = order.sample(whole, len(whole))
    here, there = evidence(np.array(whole) / 1000), evidence(np.array(shuffled) / 1000)
    for name, value in vars(here).items():
        if isinstance(value, str):
            assert value == getattr(there, name)
        else:
            assert value == pytest.approx(getattr(there, name), rel=1e-7, abs=1e-12, nan_ok=True)


@FEW
@given(THOUSANDTHS)
def test_sides_swapped_mirror_everything(whole: list[int]) -> None:
    assume(sum(whole) != 0)  # then neither side is ahead, and drawn resamples are mirrored only on average
    here, there = evidence(np.array(whole) / 1000), evidence(-np.array(whole) / 1000)
    for name in ("n", "ties", "unit", "remark"):
        assert getattr(here, name) == getattr(there, name)
    for name in ("t_p", "wilcoxon_p", "sign_flip_p", "detectable"):
        assert getattr(here, name) == pytest.approx(getattr(there, name), rel=1e-7, nan_ok=True)
    assert here.wins + there.wins + here.ties == len(whole)
    for name, mirrored in (
        ("mean_difference", "mean_difference"),
        ("effect_size", "effect_size"),
        ("interval_low", "interval_high"),
        ("interval_high", "interval_low"),
        ("effect_low", "effect_high"),
        ("effect_high", "effect_low"),
    ):
        assert getattr(here, name) == pytest.approx(
            -getattr(there, mirrored), rel=1e-6, abs=1e-9, nan_ok=True
        )


@FEW
@given(THOUSANDTHS)
def test_figures_agree_with_each_other(whole: list[int]) -> None:
    differences = np.array(whole) / 1000
    found, tests = evidence(differences), paired_test(differences)
    assert (found.n, found.wins) == (tests.n, tests.wins)
    for name in ("mean_difference", "t_p", "wilcoxon_p"):
        assert getattr(found, name) == pytest.approx(getattr(tests, name), nan_ok=True)
    assert found.ties == whole.count(0)
    assert 2 / 2**found.n <= found.sign_flip_p <= 1
    if len(set(whole)) == 1:
        assert is_nothing(found)
        return
    noise = 1e-12
    assert differences.min() - noise <= found.interval_low <= found.mean_difference + noise
    assert found.mean_difference - noise <= found.interval_high <= differences.max() + noise
    if found.n >= 4 and not math.isnan(found.effect_low):
        # The noncentral interval leaves zero out exactly where the t-test rejects.
        apart = found.effect_low > 0 or found.effect_high < 0
        assert apart == (found.t_p < 0.05)


def test_statistics_import_neither_ray_nor_plotting() -> None:
    modules = ", ".join(f"senca_ray.analysis.{name}" for name in ("evidence", "ranking", "published"))
    heavy = "{'ray', 'torch', 'matplotlib', 'seaborn', 'scikit_posthocs'}"
    code = f"import sys, {modules}; print(sorted({heavy} & set(sys.modules)))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
