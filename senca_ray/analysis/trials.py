"""What a study knows of each trial: every score as mean and sd over its seeds, its losses, what failed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from senca_ray import keys
from senca_ray.analysis.blocks import BLOCK, block_titles, with_blocks

TRIAL = (keys.METHOD, keys.SETTING, keys.SAMPLE)
READING = (keys.CLUSTERING, keys.K_POLICY, keys.PROTOCOL)
"""Columns that tell apart how the same fits were read."""

MEASURES = (
    *(keys.ARI, keys.NMI, keys.SILHOUETTE, keys.CHAOS, keys.PAS, keys.PAIR_AMI),
    *(keys.K, keys.LOSS_FIRST, keys.LOSS_LAST, keys.SECONDS, keys.PEAK_MEMORY_MB),
)
"""What is averaged over the seeds of a trial."""


def trial_table(results: pd.DataFrame) -> pd.DataFrame:
    """One row per trial and reading of its fits, in the order of the results.

    Columns: block, patient, TRIAL, READING; of every measure its mean over the seeds that did not fail and
    its sd (ddof 1; NaN with one seed); stability (of a consensus), n_seeds (that did not fail; of a consensus
    those that it combines), n_failed, and why they failed.
    """
    # A column that no row fills is read without a type.
    rows = with_blocks(results).astype(dict.fromkeys((*MEASURES, keys.STABILITY, keys.N_SEEDS), float))
    by = [*BLOCK, keys.PATIENT, *TRIAL, *READING]
    groups = rows.groupby(by, sort=False).size()
    done = rows[rows[keys.STATUS] == keys.OK].groupby(by, sort=False)
    table = pd.DataFrame(index=groups.index)
    for name in MEASURES:
        table[f"{name}_mean"] = done[name].mean()
        table[f"{name}_sd"] = done[name].std(ddof=1)
    table[keys.STABILITY] = done[keys.STABILITY].mean()
    finished = done.size().reindex(groups.index, fill_value=0)
    combined = done[keys.N_SEEDS].max().reindex(groups.index)
    table[keys.N_SEEDS] = combined.fillna(finished).astype(int)
    table["n_failed"] = groups - finished
    failed = rows[rows[keys.STATUS] == keys.FAILED]
    told = failed.assign(told=_told(failed)).groupby(by, sort=False)["told"].agg("; ".join)
    table[keys.REASON] = told.reindex(groups.index).fillna("")
    table.insert(0, "block", block_titles(groups.index))
    return table.reset_index().drop(columns=list(BLOCK))


def own_rows(trial: pd.DataFrame, clusterings: Sequence[str] = ()) -> pd.DataFrame:
    """The rows of a trial's seeds under its own reading, of rows that differ in seed and clustering alone.

    That is the clustering in which one seed is marked as the typical one; in studies of an earlier version
    the first of `clusterings` that it has.
    """
    single = trial[trial[keys.CLUSTERING] != keys.CONSENSUS]
    marked = single.loc[single[keys.TYPICAL].notna(), keys.CLUSTERING]
    found = [*marked, *(name for name in clusterings if name in set(single[keys.CLUSTERING]))]
    return single[single[keys.CLUSTERING] == next(iter([*found, *single[keys.CLUSTERING]]), "")]


def typical_row(seeds: pd.DataFrame) -> pd.Series | None:
    """The row of the typical seed; of an older study its first seed's; None where every seed failed."""
    done = seeds[seeds[keys.STATUS] == keys.OK].sort_values(keys.SEED)
    marked = done[done[keys.TYPICAL].eq(True)]
    return next((part.iloc[0] for part in (marked, done) if len(part)), None)


def losses_by_epoch(losses: Sequence[np.ndarray]) -> pd.DataFrame:
    """Mean, lowest and highest loss over the seeds, a row an epoch; each seed has (E,) losses, E its own."""
    longest = max((len(one) for one in losses), default=0)
    if not longest:
        return pd.DataFrame(columns=["loss", "loss_low", "loss_high"], dtype=float)
    padded = np.full((len(losses), longest), np.nan)
    for row, one in zip(padded, losses, strict=True):
        row[: len(one)] = one
    mean, low, high = np.nanmean(padded, axis=0), np.nanmin(padded, axis=0), np.nanmax(padded, axis=0)
    return pd.DataFrame({"loss": mean, "loss_low": low, "loss_high": high})


def _told(failed: pd.DataFrame) -> list[str]:
    """'seed 3: the reason' of every failed row."""
    pairs = zip(failed[keys.SEED], failed[keys.REASON], strict=True)
    return [f"{keys.CONSENSUS if seed == keys.ALL_SEEDS else f'seed {seed}'}: {why}" for seed, why in pairs]
