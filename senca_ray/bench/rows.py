"""Result rows of trials that nobody fitted: valid and as large as real ones, with random scores."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from senca_ray import keys
from senca_ray.bench.sizes import LABELS, SPOTS
from senca_ray.config import Setting
from senca_ray.methods.protocol import Protocol
from senca_ray.study.trial import Trial


def made_up_trial(method: str, label: str, sample: str, seeds: int, shard: str = "") -> Trial:
    """A trial of the default setting; without a shard it can be asked for its keys and not be fitted."""
    return Trial("bench", method, label, Setting(), sample, shard, tuple(range(seeds)), Protocol())


def made_up_rows(trial: Trial, rng: np.random.Generator) -> list[dict[str, Any]]:
    """A finished row for each of the trial's keys."""
    return [key | _row(trial, key, rng) for key in trial.keys()]  # noqa: SIM118  a trial is no mapping


def _row(trial: Trial, key: dict[str, Any], rng: np.random.Generator) -> dict[str, Any]:
    row = {
        keys.STATUS: keys.OK,
        keys.PATIENT: trial.sample[0],
        keys.MODALITY: keys.RNA_IMAGE,
        keys.LABEL_SOURCE: keys.SIMULATED,
        keys.K: LABELS,
        keys.N_SPOTS: SPOTS,
        keys.N_SCORED: SPOTS,
        **{name: float(rng.uniform()) for name in (keys.ARI, keys.NMI, keys.CHAOS, keys.PAS)},
        keys.LABEL_F1: json.dumps({f"label {i}": float(rng.uniform()) for i in range(LABELS)}),
        keys.SECONDS: 1.0,
        keys.PEAK_MEMORY_MB: 500.0,
        keys.DEVICE: "cpu",
        keys.ENCODER: "none",
        keys.FINGERPRINT: "0" * 64,
        keys.VERSIONS: json.dumps({"senca-ray": "0"}),
        keys.CONFIG: trial.setting.to_json(),
        keys.REGIONS: rng.integers(0, LABELS, SPOTS).tolist(),
    }
    if key[keys.SEED] == keys.ALL_SEEDS:
        return row | {keys.STABILITY: float(rng.uniform()), keys.N_SEEDS: len(trial.seeds)}
    return row | {keys.SILHOUETTE: 0.1, keys.LOSS_FIRST: 50.0, keys.LOSS_LAST: 40.0}
