"""Figure `racing`: the trials that racing runs on simulated tables, and how often it loses the best."""

from __future__ import annotations

from collections.abc import Callable

from senca_ray.bench.figure import Figure

_PATIENTS = (6, 8, 11, 24)
_ASKED = 24
"""Patients for which bounds are asked; with fewer a paired test has little room."""
_SUGGESTIONS, _REPLAYS = 40, 200
_MOST_LOST = (0.05 * _REPLAYS - 1) / _REPLAYS
"""Fewer than 5 % of the replays."""


def measure(repeat: int, say: Callable[[str], None]) -> list[Figure]:
    """200 replays by number of patients; every run draws other tables."""
    figures = []
    for patients in _PATIENTS:
        say(f"{patients} patients")
        runs = [shares(patients, seed) for seed in range(repeat)]
        asked = patients == _ASKED
        figures += [
            Figure(
                name=f"racing.{patients}.run",
                title=f"racing, {patients} patients: trials run",
                unit="share",
                bound=0.5 if asked else None,
                runs=tuple(run for run, _ in runs),
                note=f"{_SUGGESTIONS} suggestions, {_REPLAYS} replays of simulated tables",
            ),
            Figure(
                name=f"racing.{patients}.lost",
                title="  replays that lost the best",
                unit="share",
                bound=_MOST_LOST if asked else None,
                runs=tuple(lost for _, lost in runs),
            ),
        ]
    return figures


def shares(
    patients: int, seed: int, suggestions: int = _SUGGESTIONS, replays: int = _REPLAYS
) -> tuple[float, float]:
    """Mean share of trials run, and share of replays in which the best suggestion was stopped."""
    import numpy as np

    from senca_ray.study.racing import replay, simulate_table

    rng = np.random.default_rng([seed, patients])
    outcomes = [replay(simulate_table(rng, suggestions, patients)) for _ in range(replays)]
    run = float(np.mean([outcome.share_run for outcome in outcomes]))
    return run, sum(outcome.best_eliminated for outcome in outcomes) / replays
