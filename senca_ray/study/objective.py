"""Objectives: from the result rows of a suggestion to the numbers that Optuna sees."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import numpy as np

from senca_ray import keys

Direction = Literal["maximize", "minimize"]
MAXIMISE: Direction = "maximize"
MINIMISE: Direction = "minimize"
DIRECTIONS: dict[str, Direction] = {
    keys.ARI: MAXIMISE,
    keys.NMI: MAXIMISE,
    keys.SILHOUETTE: MAXIMISE,
    keys.STABILITY: MAXIMISE,
    keys.CHAOS: MINIMISE,
    keys.PAS: MINIMISE,
    keys.LOSS_LAST: MINIMISE,
    keys.SECONDS: MINIMISE,
}
"""What a search may go by, and the way it is better, in Optuna's words."""

NEED_LABELS = frozenset({keys.ARI, keys.NMI})

MEAN, MEDIAN, RANK = "mean", "median", "rank"
AGGREGATES = (MEAN, MEDIAN, RANK)
"""How the scores of the tuning patients become one number."""

Scores = tuple[float, ...]
"""One number an objective."""

LOSS_FIELDS = frozenset({"mse_weight", "temperature", "target", "contrast", "image", "embedding"})
"""Fields of Setting that change what the loss measures: where they differ, losses cannot be compared."""


def sample_scores(rows: Iterable[Mapping[str, Any]], objectives: Sequence[str]) -> Scores | None:
    """Mean over the seeds of a trial's rows; None where a row it needs has failed or has no such score.

    Stability is on the row that combines the seeds, everything else on those of the seeds.
    """
    rows = list(rows)
    scores = []
    for name in objectives:
        needed = [row for row in rows if (row[keys.SEED] == keys.ALL_SEEDS) == (name == keys.STABILITY)]
        values = [row.get(name) if row[keys.STATUS] == keys.OK else None for row in needed]
        numbers = [float(v) for v in values if v is not None and math.isfinite(v)]
        if not numbers or len(numbers) < len(values):
            return None
        scores.append(_mean(numbers))
    return tuple(scores)


def patient_scores(sections: Sequence[Scores | None]) -> Scores | None:
    """Mean over the sections of a patient; None where one of them has failed."""
    found = [section for section in sections if section is not None]
    if len(found) < len(sections):
        return None
    return tuple(_mean(values) for values in zip(*found, strict=True))


def aggregated(
    patients: Sequence[Scores], others: Sequence[Sequence[Scores]], objectives: Sequence[str], how: str
) -> Scores:
    """The numbers of a suggestion, from its scores on P patients.

    'rank' is the mean over patients of the share of `others` (suggestions with scores on at least these
    patients) that it beats there, ties counting half, and 0.5 where there are none; higher is better whatever
    the objective.
    """
    if how == RANK:
        return tuple(
            _share_beaten(_column(patients, i), _table(others, i)[:, : len(patients)], name)
            for i, name in enumerate(objectives)
        )
    middle = statistics.median if how == MEDIAN else _mean
    return tuple(float(middle(values)) for values in zip(*patients, strict=True))


def standings(suggestions: Sequence[Sequence[Scores]], objectives: Sequence[str]) -> list[Scores]:
    """The 'rank' numbers of suggestions with scores on the same P patients, each against all the others."""
    tables = [_table(suggestions, i) for i in range(len(objectives))]
    return [
        tuple(
            _share_beaten(table[row], np.delete(table, row, axis=0), name)
            for table, name in zip(tables, objectives, strict=True)
        )
        for row in range(len(suggestions))
    ]


def _column(patients: Sequence[Scores], objective: int) -> np.ndarray:
    """(P,)"""
    return np.array([scores[objective] for scores in patients])


def _table(suggestions: Sequence[Sequence[Scores]], objective: int) -> np.ndarray:
    """(S, P); (0, 0) without suggestions."""
    columns = [_column(patients, objective) for patients in suggestions]
    return np.stack(columns) if columns else np.empty((0, 0))


def _share_beaten(values: np.ndarray, others: np.ndarray, objective: str) -> float:
    """`values` (P,), `others` (S, P)."""
    if not len(others):
        return 0.5
    ahead = values - others if DIRECTIONS[objective] == MAXIMISE else others - values
    return float(np.mean((np.sign(ahead) + 1) / 2))


def direction(objective: str, how: str) -> Direction:
    """Optuna's word for the way the aggregated number is better: of ranks, more are always better."""
    return MAXIMISE if how == RANK else DIRECTIONS[objective]


def _mean(values: Sequence[float]) -> float:
    # fsum: the same whatever the order in which rows were stored.
    return math.fsum(values) / len(values)
