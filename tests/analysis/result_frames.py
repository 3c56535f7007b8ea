"""Results tables written by hand, for the tests of what is computed from them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import pandas as pd

from senca_ray import keys

NUMBERS = (
    *(keys.ARI, keys.NMI, keys.K, keys.SILHOUETTE, keys.CHAOS, keys.PAS, keys.LOSS_LAST),
    *(keys.STABILITY, keys.N_SEEDS, keys.SECONDS),
)


def row(sample: str, setting: str, seed: int, ari: float | None, **changes: Any) -> dict[str, Any]:
    """A result row; the patient is the first letter of the sample, `ari` None stands for a failed fit."""
    ok = ari is not None
    return {
        keys.STUDY: "s",
        keys.METHOD: "senca",
        keys.SETTING: setting,
        keys.SAMPLE: sample,
        keys.SEED: seed,
        keys.CLUSTERING: "ward",
        keys.K_POLICY: "labels",
        keys.PROTOCOL: keys.UNSCORED,
        keys.STATUS: keys.OK if ok else keys.FAILED,
        keys.REASON: None if ok else "out of memory",
        keys.PATIENT: sample[0],
        keys.MODALITY: keys.RNA,
        keys.LABEL_SOURCE: keys.ANNOTATED,
        keys.K: 4.0 if ok else None,
        keys.ARI: ari,
        **dict.fromkeys((keys.NMI, keys.SILHOUETTE, keys.CHAOS, keys.PAS, keys.LOSS_LAST, keys.STABILITY)),
        keys.N_SEEDS: None,
        keys.SECONDS: 1.0,
        keys.FINGERPRINT: "f" * 64,
        keys.CONFIG: json.dumps({"neighbors": 4, "epochs": 10}),
    } | changes


def frame(*groups: Iterable[dict[str, Any]]) -> pd.DataFrame:
    """Rows in mixed order, as a results table: what they mean must not depend on it."""
    rows = [r for group in groups for r in group]
    table = pd.DataFrame(rows).astype(dict.fromkeys(NUMBERS, float))
    return table.sample(frac=1, random_state=0).reset_index(drop=True)


def sweep(setting: str, scores: dict[str, list[float]], **changes: Any) -> list[dict[str, Any]]:
    """Rows of one setting: scores of the seeds 0, 1, ... by sample."""
    return [
        row(s, setting, seed, ari, **changes)
        for s, values in scores.items()
        for seed, ari in enumerate(values)
    ]


def consensus(setting: str, scores: dict[str, float | None], **changes: Any) -> list[dict[str, Any]]:
    """Rows of the consensus of three seeds: a score by sample."""
    combined = {keys.CLUSTERING: keys.CONSENSUS, keys.STABILITY: 0.5, keys.N_SEEDS: 3} | changes
    return [row(s, setting, keys.ALL_SEEDS, ari, **combined) for s, ari in scores.items()]
