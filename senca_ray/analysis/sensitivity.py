"""What the ranking of a benchmark owes to its protocol."""

from __future__ import annotations

from typing import Any

import pandas as pd

from senca_ray import keys
from senca_ray.analysis.benchmark import complete, main_rows, reference_column, wide_scores
from senca_ray.analysis.blocks import with_blocks
from senca_ray.analysis.ranking import rank_agreement
from senca_ray.methods.protocol import Protocol

SENSITIVITY_COLUMNS = (
    *("block", "reading", "n_methods", "agreement", "best", "best_mean", "reference_rank", "reference_mean"),
    *("moved", "moved_from", "moved_to"),
)
AS_REPORTED = "as reported"
_NONE = pd.Series(dtype=float)


def sensitivity(results: pd.DataFrame, description: dict[str, Any]) -> pd.DataFrame:
    """How much the ranking changes with the protocol: a row a block and reading, the study's own first.

    Each reading is compared with the study's own protocol over the methods that were read both ways, and the
    second half of the seeds with the first. `agreement` is Kendall's tau-b of the two orders of mean ARI, 1
    where they are the same; `moved` names the method that moves by most places. Ranks count from 1, the best.
    A reading that shares no method is left out. Columns SENSITIVITY_COLUMNS; empty for a benchmark that read
    its fits in one way only.
    """
    rows = with_blocks(results)
    rows = rows[(rows[keys.STATUS] == keys.OK) & (rows[keys.CLUSTERING] != keys.CONSENSUS)]
    rows = rows.dropna(subset=[keys.ARI])
    own, main = Protocol.read(description), main_rows(rows, description)
    if len(main) == len(rows):
        return pd.DataFrame(columns=list(SENSITIVITY_COLUMNS))
    base, reference = _means(main, description), reference_column(description)
    readings: list[tuple[str, dict[str, pd.Series], dict[str, pd.Series]]] = [(AS_REPORTED, base, base)]
    for reading in own.variations():
        read = (rows[keys.K_POLICY] == reading.k_policy) & (rows[keys.PROTOCOL] == reading.handling)
        readings.append((own.difference(reading), base, _means(rows[read], description)))
    seeds = sorted(main[keys.SEED].unique())
    first, second = seeds[: len(seeds) // 2], seeds[len(seeds) // 2 :]
    if first:
        halves = [_means(main[main[keys.SEED].isin(half)], description) for half in (first, second)]
        readings.append((f"{_seeds(second)} against {_seeds(first)}", halves[0], halves[1]))
    found: list[dict[str, Any]] = []
    for block in base:
        for words, one, other in readings:
            before, after = one.get(block, _NONE).align(other.get(block, _NONE), join="inner")
            if len(before):
                found.append({"block": block, "reading": words} | _moves(before, after, reference))
    return pd.DataFrame(found, columns=list(SENSITIVITY_COLUMNS))


def _seeds(seeds: list[int]) -> str:
    return f"seeds {seeds[0]} to {seeds[-1]}" if len(seeds) > 1 else f"seed {seeds[0]}"


def _means(rows: pd.DataFrame, description: dict[str, Any]) -> dict[str, pd.Series]:
    """Mean ARI of each block by 'method (clustering)'."""
    return {
        block: complete(scores).mean() for block, scores in wide_scores(rows, description["unit"]).items()
    }


def _moves(base: pd.Series, other: pd.Series, reference: str) -> dict[str, Any]:
    """One order of the same methods against another."""
    before, after = (dict(means.rank(ascending=False, method="min").astype(int)) for means in (base, other))
    means = dict(other)
    best, moved = (
        max(means, key=means.__getitem__),
        max(before, key=lambda name: abs(after[name] - before[name])),
    )
    return {
        "n_methods": len(means),
        "agreement": rank_agreement(base, other),
        "best": best,
        "best_mean": means[best],
        "reference_rank": after.get(reference),
        "reference_mean": means.get(reference),
        "moved": moved if before[moved] != after[moved] else "",
        "moved_from": before[moved],
        "moved_to": after[moved],
    }
