"""How sure a spot's region is: the share of the seeds that give it the same one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from senca_ray import keys


def seed_agreement(regions: np.ndarray, partitions: Sequence[np.ndarray]) -> np.ndarray:
    """Share (N,) float32 of the partitions that agree with a spot's region; NaN for spots without one.

    Shapes: regions (N,) and each partition (N,) integers, keys.NO_REGION for spots left out. Every partition
    numbers its regions in its own way, so each is matched to `regions` one to one such that as many spots as
    possible agree. What finds no partner, because one side has more regions, agrees nowhere.
    """
    agreeing = np.mean([_matched(regions, partition) == regions for partition in partitions], axis=0)
    return np.where(regions == keys.NO_REGION, np.nan, agreeing).astype(np.float32)


def _matched(regions: np.ndarray, partition: np.ndarray) -> np.ndarray:
    """The partition (N,) with the names of `regions`; keys.NO_REGION where it has no partner."""
    from scipy.optimize import linear_sum_assignment

    both = (regions != keys.NO_REGION) & (partition != keys.NO_REGION)
    names, row = np.unique(regions[both], return_inverse=True)
    others, column = np.unique(partition[both], return_inverse=True)
    overlap = np.zeros((len(names), len(others)), dtype=np.int64)
    np.add.at(overlap, (row, column), 1)
    partner = np.full(len(others), keys.NO_REGION)
    mine, theirs = linear_sum_assignment(overlap, maximize=True)
    partner[theirs] = names[mine]
    matched = np.full(len(partition), keys.NO_REGION)
    matched[both] = partner[column]
    return matched
