"""Run trials as Ray Tune trials, one CPU each, on workers that are used again."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ray import get, tune
from ray.tune import Callback, FailureConfig, RunConfig, TuneConfig

from senca_ray import cluster
from senca_ray.study.trial import Trial, from_config, run_trial, to_config

_WORKER_LOSSES = 3
"""How often a trial is started again after its worker or node was lost."""

Progress = Callable[[int], None]
"""Called with the number of trials that have ended."""


class _Worker(tune.Trainable):
    """Runs one trial and hands its rows over; then takes the next, without importing torch again."""

    def setup(self, config: dict[str, Any]) -> None:
        self._config = config

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self._config = new_config
        return True

    def step(self) -> dict[str, Any]:
        rows = run_trial(from_config(self._config["trial"]))
        # Acknowledged only once the rows are safe, so an ended trial is never run again.
        get(self._config["aggregator"].append.remote(rows))
        return {"done": True}

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Nothing to keep: a trial this short starts over."""

    def load_checkpoint(self, checkpoint: Any) -> None:
        """Nothing was kept."""


class _Counter(Callback):
    def __init__(self, progress: Progress) -> None:
        self._progress, self._ended = progress, 0

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._ended += 1
        self._progress(self._ended)

    on_trial_error = on_trial_complete


def run_trials(trials: list[Trial], aggregator: Any, storage: Path, progress: Progress) -> None:
    """Run every trial on the connected cluster; returns when all have ended.

    `aggregator` is an actor with `append(rows)`; `storage` a folder for Tune's own state.
    """
    logging.getLogger("ray.tune").setLevel(logging.ERROR)
    tuner = tune.Tuner(
        tune.with_resources(_Worker, {"cpu": 1}),
        param_space={
            "trial": tune.grid_search([to_config(t) for t in trials]),
            "aggregator": aggregator,
        },
        tune_config=TuneConfig(
            reuse_actors=True,
            max_concurrent_trials=cluster.cpus(),
            trial_name_creator=lambda trial: trial.trial_id,
            trial_dirname_creator=lambda trial: trial.trial_id,
        ),
        run_config=RunConfig(
            name=storage.name,
            storage_path=str(storage.parent.resolve()),
            verbose=0,
            failure_config=FailureConfig(max_failures=_WORKER_LOSSES),
            callbacks=[_Counter(progress)],
        ),
    )
    tuner.fit()
