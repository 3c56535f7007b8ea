"""A small study on a host of its own, for proofs that disturb it; its results live in the storage."""

from __future__ import annotations

import io
import json
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
from hosts import ROOT, Host, Network, Storage

from senca_ray import keys

MEASURED = [keys.SECONDS, keys.PEAK_MEMORY_MB, keys.VERSIONS]
"""Columns of a clock, a gauge and a machine: all others have to be equal."""
OPTIONS = "--sample A1 --sample B1 --values 4,8,16 --seeds 6"
PATIENCE = 1800.0
"""Seconds for a study; about one minute on an idle machine."""

_SCRIPT = ROOT / "experiments" / "sweep_neighbors.py"
_BEGAN = time.monotonic()


def say(text: str) -> None:
    """Print it with the seconds since the beginning."""
    print(f"[{time.monotonic() - _BEGAN:5.0f} s] {text}", flush=True)


@dataclass
class Run:
    """A command that runs on a host, and what it has said."""

    process: subprocess.Popen[str]
    said: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        assert self.process.stdout is not None
        listen = threading.Thread(target=self.said.extend, args=(self.process.stdout,), daemon=True)
        listen.start()

    def end(self, expected: int = 0) -> None:
        """Wait for its end; SystemExit where that is another than expected."""
        code = self.process.wait(PATIENCE)
        if code != expected:
            raise SystemExit(f"ended with {code}, {expected} expected:\n{''.join(self.said)[-5000:]}")

    @property
    def last_error(self) -> str:
        """The last line that is an error's."""
        lines = [line.strip() for line in "".join(self.said).splitlines()]
        return next((line for line in reversed(lines) if line.startswith("error:")), "")


@dataclass(frozen=True)
class SmallStudy:
    """The study called `name` in a storage."""

    name: str
    storage: Storage
    network: Network
    options: str = OPTIONS

    @property
    def address(self) -> str:
        """Where it lives."""
        return f"s3://{self.storage.bucket}/senca/studies/{self.name}"

    @property
    def environment(self) -> dict[str, str]:
        """What a host needs to run it."""
        home = f"s3://{self.storage.bucket}/senca"
        return {**self.storage.environment, "SENCA_STORAGE": home, "WANDB_MODE": "disabled"}

    def begin(self, host: Host) -> Run:
        """Run the experiment."""
        return Run(host.begin(f"python {_SCRIPT} {self.options} --out {self.address}"))

    def resume(self, host: Host) -> Run:
        """Run `senca resume`, as another machine would."""
        return Run(host.begin(f"senca resume {self.address}"))

    def journal(self, host: Host) -> Path | None:
        """The journal on the host's disk, once there is one."""
        found = (self.network.folder / host.name).glob(f"home/.cache/senca_ray/studies/{self.name}-*/*.jsonl")
        return next(found, None)

    def trials(self, host: Host) -> set[str]:
        """The trials that have their rows on the host's disk."""
        journal = self.journal(host)
        return trials_in(journal.read_bytes()) if journal else set()

    def stored_trials(self) -> set[str]:
        """The trials that have their rows in the storage."""
        pieces = self.storage.names(f"senca/studies/{self.name}/journal/")
        return trials_in(b"".join(self.storage.read(piece) for piece in pieces))

    def wait_for(self, host: Host, count: int, run: Run) -> set[str]:
        """Wait until so many trials have ended, and return which; SystemExit when the run ends before."""
        return wait(lambda: (found := self.trials(host)) and len(found) >= count and found, run)

    def table(self) -> pd.DataFrame:
        """Its results without what is measured; SystemExit where a row failed."""
        rows = pd.read_parquet(
            io.BytesIO(self.storage.read(f"senca/studies/{self.name}/{keys.RESULTS_FILE}"))
        )
        failed = rows[rows[keys.STATUS] == keys.FAILED]
        if len(failed) or not len(rows):
            raise SystemExit(f"{len(failed)} of {len(rows)} rows failed: {set(failed[keys.REASON])}")
        return rows.drop(columns=MEASURED)

    def check_equal(self, quiet: pd.DataFrame) -> int:
        """Number of its rows; SystemExit unless its table is the undisturbed one's."""
        try:
            pd.testing.assert_frame_equal(self.table(), quiet, check_exact=True)
        except AssertionError as error:
            raise SystemExit(f"{self.name}: the table differs from the undisturbed one: {error}") from None
        return len(quiet)


def trials_in(journal: bytes) -> set[str]:
    """What tells the trials of a journal's whole lines apart."""
    rows = (json.loads(line) for line in journal.split(b"\n")[:-1])
    return {f"{row[keys.METHOD]} {row[keys.SETTING]} {row[keys.SAMPLE]}" for row in rows}


def wait(happened: Callable[[], Any], run: Run | None = None) -> Any:
    """What `happened` gives once that is true; SystemExit when it does not come, or the run ends before."""
    deadline = time.monotonic() + PATIENCE
    while not (found := happened()):
        if time.monotonic() > deadline:
            raise SystemExit(f"it did not happen within {PATIENCE:.0f} s")
        if run is not None and run.process.poll() is not None:
            time.sleep(0.5)
            raise SystemExit(f"ended with {run.process.returncode}:\n{''.join(run.said)[-5000:]}")
        time.sleep(0.1)
    return found
