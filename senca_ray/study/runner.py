"""Run trials as Ray Tune trials, one CPU each, on workers that are used again."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ray import get, tune
from ray.tune import Callback, RunConfig, TuneConfig

from senca_ray import cluster, keys
from senca_ray.study.trial import Trial, from_config, lost_rows, run_trial, to_config

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
    """Tells the progress of a study; its bar lives in this process and stays out of Tune's saved state."""

    def __init__(self, progress: Progress) -> None:
        self._progress, self._ended = progress, 0

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._ended += 1
        self._progress(self._ended)

    def __getstate__(self) -> dict[str, Any]:
        return {"_progress": _silent, "_ended": self._ended}


def _silent(ended: int) -> None:
    """Progress of a run that nobody watches."""


def run_trials(trials: list[Trial], aggregator: Any, storage: Path, progress: Progress) -> None:
    """Run the trials without result rows on the connected cluster; afterwards every one has its rows.

    A trial whose worker or node is lost is started again, at most three times; then its rows say so.
    `aggregator` is an actor with `append(rows)` and `keys()`; `storage` a folder for Tune's own state.
    """
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
    counter = _Counter(progress)
    # Not Tune's max_failures: it leaves out a worker that dies while it is handed to its next trial.
    for attempt in range(1 + _WORKER_LOSSES):
        todo = unfinished(trials, get(aggregator.keys.remote()))
        if not todo:
            return
        _run_once(todo, aggregator, storage / f"attempt-{attempt}", counter)
    for trial in unfinished(trials, get(aggregator.keys.remote())):
        get(aggregator.append.remote(lost_rows(trial, 1 + _WORKER_LOSSES)))


def unfinished(trials: list[Trial], known: list[tuple[Any, ...]]) -> list[Trial]:
    """The trials that still have seeds without a row, with just these seeds."""
    finished = {tuple(key) for key in known}
    result = []
    for trial in trials:
        seeds = tuple(s for s in trial.seeds if tuple(trial.key(s)[c] for c in keys.ROW_KEY) not in finished)
        if seeds:
            result.append(dataclasses.replace(trial, seeds=seeds))
    return result


def _run_once(trials: list[Trial], aggregator: Any, storage: Path, counter: _Counter) -> None:
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
            callbacks=[counter],
        ),
    )
    tuner.fit()
