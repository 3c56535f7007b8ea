"""Trials through a real local Ray."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import psutil
import pytest
import ray

from senca_ray import keys
from senca_ray.analysis.aggregator import aggregator
from senca_ray.analysis.results import read_results
from senca_ray.config import Setting
from senca_ray.methods.protocol import Protocol
from senca_ray.study.checkpoint import TrialCheckpoint
from senca_ray.study.grid import GridPlan
from senca_ray.study.queue import TrialQueue
from senca_ray.study.run_trial import run_trial
from senca_ray.study.runner import run_plan
from senca_ray.study.trial import Trial

pytestmark = pytest.mark.usefixtures("local_ray")

SMALL = Setting(hvgs=30, embedding=16, hidden=16, bottleneck=8, epochs=2)


def trials(shard: str, **changes: Any) -> list[Trial]:
    given = {
        "setting": SMALL,
        "sample": "T1",
        "shard": shard,
        "seeds": (0, 1),
        "protocol": Protocol(),
    } | changes
    methods = (("senca", "neighbors=4"), ("untrained", "neighbors=4"), ("coordinates", "fixed"))
    return [Trial("s", name, label, **given) for name, label in methods]


def run(out: Path, todo: list[Trial], told: Callable[[int], None] = lambda ended: None) -> pd.DataFrame:
    sink = aggregator(out)
    plan = GridPlan(todo, lambda trial: False)
    run_plan(plan, sink, out, told)
    assert plan.finished
    ray.get(sink.finish.remote())
    assert not (out / "tune").exists() and not (out / keys.CHECKPOINT_FOLDER).exists()
    return read_results(out)


def test_through_tune_the_scores_are_those_of_a_plain_loop(tmp_path: Path, toy_shard: str) -> None:
    todo, told = trials(toy_shard), []
    results = run(tmp_path / "study", todo, told.append).set_index([keys.METHOD, keys.SEED])[keys.ARI]
    plain = {(r[keys.METHOD], r[keys.SEED]): r[keys.ARI] for t in todo for r in run_trial(t)}
    assert results.to_dict() == plain
    assert told == list(range(1, len(todo) + 1))


def test_a_failing_trial_stays_in_the_table_and_the_others_finish(tmp_path: Path, toy_shard: str) -> None:
    missing = str(tmp_path / "gone")
    results = run(tmp_path / "study", [*trials(toy_shard), *trials(missing, sample="T2")])
    failed = results[results[keys.STATUS] == keys.FAILED]
    assert set(failed[keys.SAMPLE]) == {"T2"} and len(failed) == 3 * 3  # two seeds and their consensus
    assert failed[keys.REASON].str.contains("not a shard").all()
    assert (results[results[keys.SAMPLE] == "T1"][keys.STATUS] == keys.OK).all()


def test_a_killed_worker_costs_nothing(tmp_path: Path, toy_shard: str) -> None:
    """Its trial is given again; rows that were already handed over are not doubled."""
    killed: list[psutil.Process] = []

    def kill_a_worker(ended: int) -> None:
        if not killed:
            killed.extend(_workers()[:1])
            os.kill(killed[0].pid, signal.SIGKILL)

    slow = tuple(range(12))
    results = run(tmp_path / "study", trials(toy_shard, seeds=slow), kill_a_worker)
    assert killed
    assert len(results) == 3 * (len(slow) + 1) and (results[keys.STATUS] == keys.OK).all()
    assert not results.duplicated(list(keys.ROW_KEY)).any()


def test_a_trial_that_takes_its_worker_down_every_time_says_so(tmp_path: Path, toy_shard: str) -> None:
    def die(trial: Trial, device: str, checkpoint: object) -> list[dict[str, Any]]:
        if trial.sample == "T2":
            os.kill(os.getpid(), signal.SIGKILL)
        return run_trial(trial)

    out = tmp_path / "study"
    sink = aggregator(out)
    todo = [*trials(toy_shard)[:1], *trials(toy_shard, sample="T2")[:1]]
    run_plan(GridPlan(todo, lambda trial: False), sink, out, lambda ended: None, run=die)
    ray.get(sink.finish.remote())
    results = read_results(out).set_index(keys.SAMPLE)
    assert (results.loc["T1", keys.STATUS] == keys.OK).all()
    assert results.loc["T2", keys.REASON].str.contains("lost 4 times").all()


def test_the_driver_rests_while_trials_run(
    tmp_path: Path, toy_shard: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tune alone would ask for another trial ten times a second, on a core that a trial could use."""
    asked: list[float] = []
    suggest = TrialQueue.suggest

    def note(queue: TrialQueue, trial_id: str) -> Any:
        asked.append(time.time())
        return suggest(queue, trial_id)

    monkeypatch.setattr(TrialQueue, "suggest", note)
    slept = tmp_path / "slept"

    def sleep(trial: Trial, device: str, checkpoint: object) -> list[dict[str, Any]]:
        begun = time.time()
        time.sleep(5)
        slept.write_text(f"{begun} {time.time()}")
        return run_trial(trial)

    out = tmp_path / "study"
    todo = trials(toy_shard)[2:]
    run_plan(GridPlan(todo, lambda trial: False), aggregator(out), out, lambda ended: None, run=sleep)
    begun, ended = map(float, slept.read_text().split())
    assert sum(begun < at < ended for at in asked) < 10


def _workers() -> list[psutil.Process]:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        found = [
            process
            for process in psutil.process_iter(["cmdline"])
            if "_Worker" in " ".join(process.info["cmdline"] or [])  # None: it is ending just now
        ]
        if found:
            return found
        time.sleep(0.05)
    raise AssertionError("no worker of a trial is running")


def test_a_long_trial_goes_on_from_its_checkpoint_in_another_worker(tmp_path: Path, toy_shard: str) -> None:
    killed, kept = tmp_path / "killed", tmp_path / "kept"

    def run_eagerly(trial: Trial, device: str, checkpoint: TrialCheckpoint) -> list[dict[str, Any]]:
        """Write the checkpoint at once instead of after half a minute; die after the first seed, once."""
        checkpoint._interval = 0.0
        begin, add = checkpoint.begin, checkpoint.add

        def tell(identity: str) -> list[dict[str, Any]]:
            rows = begin(identity)
            with kept.open("a") as file:
                file.write(f"{[row[keys.SEED] for row in rows]}\n")
            return rows

        def die(row: dict[str, Any]) -> None:
            add(row)
            killed.touch()
            os.kill(os.getpid(), signal.SIGKILL)

        checkpoint.begin = tell  # type: ignore[method-assign]
        if not killed.exists():
            checkpoint.add = die  # type: ignore[method-assign]
        return run_trial(trial, device, checkpoint)

    out = tmp_path / "study"
    sink, todo = aggregator(out), trials(toy_shard)[:1]
    run_plan(GridPlan(todo, lambda trial: False), sink, out, lambda ended: None, run=run_eagerly)
    ray.get(sink.finish.remote())
    results = read_results(out)
    assert kept.read_text().splitlines() == ["[]", "[0]"]
    undisturbed = {row[keys.SEED]: row[keys.ARI] for row in run_trial(todo[0])}
    assert results.set_index(keys.SEED)[keys.ARI].to_dict() == undisturbed
    assert not (out / keys.CHECKPOINT_FOLDER).exists()
