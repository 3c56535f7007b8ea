"""Run a plan's trials as Ray Tune trials, on workers that are used again."""

from __future__ import annotations

import hashlib
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray.air.execution._internal import RayActorManager
from ray.tune import CheckpointConfig, PlacementGroupFactory, RunConfig, TuneConfig
from ray.tune.execution import class_cache, tune_controller

from senca_ray import keys
from senca_ray.study.checkpoint import TrialCheckpoint, remove_checkpoints
from senca_ray.study.packing import Packing
from senca_ray.study.plan import Plan
from senca_ray.study.queue import DEVICE_MB, MEMORY_MB, OUT_OF_MEMORY, PEAK_MB, SHARE, TRIAL, TrialQueue
from senca_ray.study.trial import OutOfMemory, Trial, from_config

_SINK, _RUN, _CHECKPOINTS = "sink", "run", "checkpoints"
_TUNE_FOLDER = "tune"

_LONGEST_WAIT = 2.0
"""Seconds without an event after which Tune asks for more trials: a cluster may have grown."""

Run = Callable[..., list[dict[str, Any]]]
"""`run_trial.run_trial`, or what a benchmark puts in its place."""


class _ActorManager(RayActorManager):
    """Waits until a trial begins or ends, where Tune's wakes up ten times a second.

    With it a driver takes 0.3 % of a core from its trials in place of 0.8 %.
    """

    def next(self, timeout: float | None = None) -> bool:
        return super().next(timeout=_LONGEST_WAIT)


class _Worker(tune.Trainable):
    """Runs one trial and hands its rows over; then takes the next, without importing torch again."""

    def setup(self, config: dict[str, Any]) -> None:
        self._config = config

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self._config = new_config
        return True

    def step(self) -> dict[str, Any]:
        trial = from_config(self._config[TRIAL])
        device = "cuda" if ray.get_gpu_ids() else "cpu"
        checkpoint = TrialCheckpoint(checkpoint_path(self._config[_CHECKPOINTS], trial))
        ended = {"done": True, DEVICE_MB: _device_mb(device), OUT_OF_MEMORY: False, PEAK_MB: 0.0}
        try:
            rows = self._config[_RUN](trial, device=device, checkpoint=checkpoint)
        except OutOfMemory:
            return ended | {OUT_OF_MEMORY: True}
        # Acknowledged only once the rows are safe, so an ended trial is never run again.
        ray.get(self._config[_SINK].append.remote(rows))
        checkpoint.remove()
        # On a GPU, rows of what was computed beside it (the consensus) say nothing about the card.
        there = [row for row in rows if row.get(keys.DEVICE, device) == device]
        return ended | {PEAK_MB: max((row.get(keys.PEAK_MEMORY_MB) or 0.0 for row in there), default=0.0)}

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Not Tune's way: a trial keeps its own checkpoint, which another driver finds too."""

    def load_checkpoint(self, checkpoint: Any) -> None:
        """Nothing was kept."""


def run_plan(
    plan: Plan,
    sink: Any,
    folder: Path,
    progress: Callable[[int], None],
    *,
    checkpoints: str | None = None,
    run: Run | None = None,
) -> None:
    """Run a plan on the connected cluster; afterwards every trial it gave has its rows.

    `sink` is an actor with `append(rows)`; `folder` is the study's; `progress` is told how many trials have
    ended. Below `checkpoints`, a folder or an address that every node reaches (left out: in the study's
    folder), those of long fits are found again. `run` runs a trial; left out, `run_trial` does. A trial whose
    worker is lost is started again.
    """
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
    queue = TrialQueue(plan, Packing(), lambda rows: ray.get(sink.append.remote(rows)), progress)
    folder = folder.resolve()
    checkpoints = checkpoints or str(folder / keys.CHECKPOINT_FOLDER)
    # Tune would hand variables to every trial, the driver's keys among them, in a description that Ray logs
    # and lists for all to see. Machines have keys, or a role, of their own. And what asks for variables gets
    # none of the processes that Ray holds ready: the first trial begins a second later.
    class_cache.ENV_VARS_TO_PROPAGATE.clear()
    class_cache.DEFAULT_ENV_VARS.clear()
    tune_controller.RayActorManager = _ActorManager  # type: ignore[misc]  # no setting for it
    try:
        _tuner(queue, sink, folder, checkpoints, run or _run_trial()).fit()
    finally:
        shutil.rmtree(folder / _TUNE_FOLDER, ignore_errors=True)
    remove_checkpoints(checkpoints)


def checkpoint_path(folder: str, trial: Trial) -> str:
    """Where below a folder or an address a trial keeps its checkpoint."""
    identity = repr(sorted(trial.keys()[0].items()))
    return f"{folder}/{hashlib.sha256(identity.encode()).hexdigest()[:16]}.pt"


def _run_trial() -> Run:
    # Not at the top: workers import this module, and most of what a fit needs only when they fit.
    from senca_ray.study.run_trial import run_trial

    return run_trial


def _tuner(queue: TrialQueue, sink: Any, folder: Path, checkpoints: str, run: Run) -> tune.Tuner:
    return tune.Tuner(
        tune.with_resources(_Worker, _resources),
        param_space={_SINK: sink, _RUN: run, _CHECKPOINTS: checkpoints},
        tune_config=TuneConfig(
            search_alg=queue,
            num_samples=-1,  # until the queue says that it has finished
            reuse_actors=True,
            trial_name_creator=lambda trial: trial.trial_id,
            trial_dirname_creator=lambda trial: trial.trial_id,
        ),
        run_config=RunConfig(
            name=_TUNE_FOLDER,
            storage_path=str(folder),
            # The folder is there on the driver's machine alone: on any other the save at a trial's end,
            # Tune's default, fails, and with it the trial. Nothing is ever gone back to.
            checkpoint_config=CheckpointConfig(checkpoint_at_end=False),
            verbose=0,
        ),
    )


def _resources(config: dict[str, Any]) -> PlacementGroupFactory:
    asked = {"CPU": 1.0, "GPU": config[SHARE], "memory": config[MEMORY_MB] * 2**20}
    bundle = {name: amount for name, amount in asked.items() if amount}
    return PlacementGroupFactory([bundle])


def _device_mb(device: str) -> float:
    if device == "cpu":
        return 0.0
    import torch

    return float(torch.cuda.get_device_properties(0).total_memory / 2**20)
