"""What can happen to a study, each as a function that makes it happen and returns what became of it."""

from __future__ import annotations

import dataclasses
import signal
import time
from dataclasses import asdict, dataclass
from typing import Any

import pandas as pd
from faulty_storage import Faulty
from hosts import Host
from small_study import Run, SmallStudy, say, trials_in, wait

_AFTER = 4
"""Trials that have ended when it happens."""
_FAULT = 60.0
"""Seconds for which a storage is away."""


@dataclass(frozen=True)
class Outcome:
    """What a fault did to a study that then ended with the table of the undisturbed one."""

    fault: str
    injected: str
    seen: str
    """What the user sees."""
    done: str
    """What the user does."""
    lost: str
    seconds: float
    """From the fault, or from the user's command where one is needed, to the next trial that ended."""
    rows: int
    """Rows of the table, all equal to those of the undisturbed study."""

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self) | {"seconds": round(self.seconds, 1)}


def killed_inside(study: SmallStudy, host: Host, quiet: pd.DataFrame, fault: str, pattern: str) -> Outcome:
    """Kill processes that Ray itself replaces: a trial's worker, the aggregator."""
    run = study.begin(host)
    before = study.wait_for(host, _AFTER, run)
    injected = f"pkill -9 -f '{pattern}'"
    host.run(injected)
    at = time.monotonic()
    wait(lambda: study.trials(host) - before, run)
    seconds = time.monotonic() - at
    run.end()
    seen = "nothing; the bar stands still for a moment"
    lost = _lost(study, before)
    return Outcome(fault, injected, seen, "nothing", lost, seconds, study.check_equal(quiet))


def stopped(
    study: SmallStudy, host: Host, quiet: pd.DataFrame, fault: str, injected: str, code: int
) -> Outcome:
    """Stop the command that runs the study, by what `injected` kills; `senca resume` on the same machine."""
    run = study.begin(host)
    study.wait_for(host, _AFTER, run)
    host.run(injected)
    run.end(code)
    before = study.trials(host)
    seen = run.last_error or "the command is gone"
    return _resumed(study, host, quiet, before, fault, injected, seen)


def machine_lost(study: SmallStudy, host: Host, other: Host, quiet: pd.DataFrame) -> Outcome:
    """Take the machine that runs the study away, disk and all; `senca resume ADDRESS` on another one."""
    run = study.begin(host)
    before = study.wait_for(host, _AFTER, run)
    wait(study.stored_trials, run)
    ended, before = study.trials(host), study.stored_trials()
    host.kill()
    say(f"{host.name} taken away: {len(ended)} trials had ended, {len(before)} of them at the address")
    words = "machine of the driver lost"
    outcome = _resumed(study, other, quiet, before, words, "the host and its disk taken away", "silence")
    again = len(ended) - len(before)
    lost = f"rows of the last seconds: {again} of {len(ended)} trials, run again" if again else outcome.lost
    return dataclasses.replace(outcome, lost=lost)


def storage_away(
    study: SmallStudy, host: Host, quiet: pd.DataFrame, storage: Faulty, fault: str, words: str
) -> Outcome:
    """Let the storage answer wrongly for a minute, from the moment when trials begin to read their shards."""
    host.run("rm -rf ~/.cache/senca_ray/near")
    run = study.begin(host)
    wait(lambda: any("fitting: 0 of" in line for line in run.said), run)
    before = study.trials(host)
    began, met = time.monotonic(), storage.met[fault]
    storage.fault = fault
    time.sleep(_FAULT)
    meanwhile = study.trials(host)
    storage.fault = None
    at = time.monotonic()
    if storage.met[fault] == met:
        raise SystemExit(f"{fault}: nobody asked the storage in {_FAULT:.0f} s")
    wait(lambda: study.stored_trials() - before or run.process.poll() is not None)
    seconds = time.monotonic() - at
    run.end()
    asked = storage.met[fault] - met
    say(f"{fault}: {asked} requests met it, {len(meanwhile) - len(before)} trials ended meanwhile")
    seen = next((line.strip() for line in run.said if "the study goes on" in line), "nothing")
    return Outcome(
        f"storage: {words} for {_FAULT:.0f} s",
        f"a proxy before the storage ({asked} requests met it in {at - began:.0f} s)",
        seen,
        "nothing",
        _lost(study, before),
        seconds,
        study.check_equal(quiet),
    )


def _resumed(
    study: SmallStudy,
    host: Host,
    quiet: pd.DataFrame,
    before: set[str],
    fault: str,
    injected: str,
    seen: str,
) -> Outcome:
    at = time.monotonic()
    run: Run = study.resume(host)
    wait(lambda: study.trials(host) - before, run)
    seconds = time.monotonic() - at
    run.end()
    done = "`senca resume`"
    return Outcome(fault, injected, seen, done, _lost(study, before), seconds, study.check_equal(quiet))


def _lost(study: SmallStudy, before: set[str]) -> str:
    """What of the trials that had ended had to be done again: SystemExit if one has its rows twice."""
    pieces = study.storage.names(f"senca/studies/{study.name}/journal/")
    journal = b"".join(study.storage.read(piece) for piece in pieces)
    if missing := before - trials_in(journal):
        raise SystemExit(f"{study.name}: trials that had ended are gone: {missing}")
    lines = journal.count(b"\n")
    rows = len(study.table())
    if lines != rows:
        raise SystemExit(f"{study.name}: {lines} lines of journal for {rows} rows: something ran twice")
    return "nothing"


INTERRUPT = f"pkill -{signal.SIGINT.value} -f '[s]weep_neighbors.py'"
