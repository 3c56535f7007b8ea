"""A cohort that exists on paper, a store of made-up scores, and somebody who drives a plan by hand."""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from senca_ray import keys
from senca_ray.config import Setting
from senca_ray.data.shards import SCHEMA_VERSION
from senca_ray.study.search import Search
from senca_ray.study.search_plan import SearchPlan
from senca_ray.study.space import Choice, Range
from senca_ray.study.trial import Trial

SPACE = {"mse_weight": Range(1.0, 1000.0, log=True), "neighbors": Choice((2, 4, 8)), "epochs": Range(2, 40)}

Rows = list[dict[str, Any]]


def cohort(folder: Path, samples: dict[str, str], **changes: object) -> dict[str, str]:
    """Shards that only say what they are, by sample (sample to patient)."""
    for number, (sample, patient) in enumerate(samples.items()):
        meta = {"schema": SCHEMA_VERSION, "sample": sample, "patient": patient, "modality": keys.RNA}
        meta |= {"label_source": keys.ANNOTATED, "spots": 300 + number, "neighbors": 16, "genes": 900}
        (folder / sample).mkdir(parents=True, exist_ok=True)
        (folder / sample / keys.SHARD_FILE).write_text(json.dumps(meta | changes))
    return {sample: str(folder / sample) for sample in samples}


def toy_search(**changes: object) -> Search:
    given: dict = {
        "name": "s",
        "title": "t",
        "setting": Setting(),
        "space": SPACE,
        "seeds": (0, 1),
        "ahead": 3,
    }
    return Search(**given | {"suggestions": 16} | changes)


def toy_ari(setting: Setting, sample: str, seed: int) -> float:
    """Best at mse_weight 200; a section's own level; noise that depends on all of it."""
    noise = zlib.crc32(f"{setting.to_json()} {sample} {seed}".encode()) / 2**32
    far = abs(math.log10(setting.mse_weight / 200)) + abs(setting.epochs - 20) / 40
    return 0.6 - 0.2 * far + zlib.crc32(sample.encode()) / 2**33 + 0.02 * noise


class Store:
    """Result rows as a results store keeps them."""

    def __init__(self, ari: Callable[[Setting, str, int], float] = toy_ari) -> None:
        self.rows: dict[tuple[str, str, str], Rows] = {}
        self.times_run: dict[tuple[str, str, str], int] = {}
        self._ari = ari

    def __call__(self, trial: Trial) -> Rows | None:
        return self.rows.get(identity(trial))

    def run(self, trial: Trial) -> None:
        rows = []
        for seed in trial.seeds:
            ari = self._ari(trial.setting, trial.sample, seed)
            status = keys.FAILED if math.isnan(ari) else keys.OK
            rows.append(
                {keys.SEED: seed, keys.STATUS: status, keys.ARI: ari, keys.SECONDS: trial.setting.epochs}
            )
        if len(trial.seeds) > 1:
            stability = float(np.mean([r[keys.ARI] for r in rows]))
            rows.append({keys.SEED: keys.ALL_SEEDS, keys.STATUS: keys.OK, keys.STABILITY: stability})
        self.rows[identity(trial)] = rows
        self.times_run[identity(trial)] = self.times_run.get(identity(trial), 0) + 1


def identity(trial: Trial) -> tuple[str, str, str]:
    return trial.method, trial.label, trial.sample


def drive(
    plan: SearchPlan, store: Store, *, seed: int = 0, slots: int = 4, stop_after: int | None = None
) -> list[Trial]:
    """Run a plan with trials ending in any order; returns those started.

    With `stop_after` the driver is killed after so many trials: the rows of one more are stored, untold.
    """
    rng, running, started, ended = np.random.default_rng(seed), [], [], 0
    done, before = plan.done, plan.left
    while not plan.finished:
        while len(running) < slots and (trial := plan.next()) is not None:
            assert store(trial) is None, f"{identity(trial)} ran before"
            running.append(trial)
            started.append(trial)
        trial = running.pop(int(rng.integers(len(running))))
        store.run(trial)
        if ended == stop_after:
            return started
        plan.ended(trial)
        ended += 1
        assert plan.left < before, "every trial that ends leaves less to do"
        before = plan.left
        assert plan.done == done + ended
    assert plan.left == 0 and plan.next() is None
    return started
