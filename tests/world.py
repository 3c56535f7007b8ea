"""A machine of its own for commands that run as a user would run them."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import psutil

from senca_ray import keys

ROOT = Path(__file__).parents[1]
BIN = Path(sys.executable).parent

HIDDEN = shutil.ignore_patterns(".*")
"""What copies of the cache leave out: another worker may be writing it."""

_PATIENCE = 300
"""Seconds to wait for what has to come; much more than a slow machine needs."""


@dataclass(frozen=True)
class World:
    """Caches in a temporary folder, W&B offline or not at all."""

    home: Path
    cache: Path
    wandb: str = "offline"

    @property
    def environment(self) -> dict[str, str]:
        private = {"SENCA_CACHE": str(self.cache), "WANDB_MODE": self.wandb, "COLUMNS": "100"}
        return os.environ | private | {"PATH": f"{BIN}:{os.environ['PATH']}"}

    def run(
        self, *command: str, cwd: Path | None = None, answers: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command,
            cwd=cwd or self.home,
            env=self.environment,
            input=answers,
            capture_output=True,
            text=True,
            timeout=580,
        )

    def experiment(self, name: str, *options: str) -> subprocess.CompletedProcess[str]:
        return self.run(*experiment(name), *options)

    @contextmanager
    def running(self, *command: str) -> Iterator[Running]:
        """A command under way; the block's end ends it, and every process that it has started."""
        said = self.home / f"said-{time.monotonic_ns()}"
        with said.open("w") as file:
            process = subprocess.Popen(
                command,
                cwd=self.home,
                env=self.environment,
                stdout=subprocess.DEVNULL,
                stderr=file,
                start_new_session=True,
                preexec_fn=_heed_interrupts,
            )
        running = Running(process, said)
        try:
            yield running
        finally:
            running.end()


class Running:
    """A command that was started; its family is known as far as it was looked at."""

    def __init__(self, process: subprocess.Popen[bytes], said: Path) -> None:
        self._process, self._said = process, said
        self._family: set[psutil.Process] = set()

    @property
    def stderr(self) -> str:
        return self._said.read_text()

    def until_rows(self, study: Path) -> None:
        """Wait for the study's first result rows."""
        journal = study / keys.JOURNAL_FILE
        deadline = time.monotonic() + _PATIENCE
        while not (journal.exists() and journal.stat().st_size):
            assert self._process.poll() is None, f"it ended before its first row: {self.stderr}"
            assert time.monotonic() < deadline, "no row came"
            time.sleep(0.02)
        self._look()

    def send(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def kill_node(self) -> None:
        """Kill its Ray node: the raylet, then the workers, of which none may hand over another row."""
        (raylet,) = (p for p in self._look() if p.name() == "raylet")
        workers = raylet.children(recursive=True)
        for process in (raylet, *workers):
            with suppress(psutil.NoSuchProcess):
                process.kill()

    def wait(self, seconds: float = _PATIENCE) -> int:
        """The exit code, once it has ended by itself."""
        return self._process.wait(seconds)

    def end(self) -> None:
        if self._process.poll() is None:
            self._look()
            self._process.kill()
        self._process.wait()
        for process in self._family:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(self._family, timeout=60)

    def _look(self) -> list[psutil.Process]:
        with suppress(psutil.NoSuchProcess):
            self._family |= set(psutil.Process(self._process.pid).children(recursive=True))
        return list(self._family)


def _heed_interrupts() -> None:
    """A child would ignore Ctrl-C where these tests themselves run in a script's background."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def experiment(name: str) -> tuple[str, str]:
    """The command line of one of experiments/."""
    return sys.executable, str(ROOT / f"experiments/{name}.py")


def results_of(folder: Path) -> pd.DataFrame:
    return pd.read_parquet(folder / keys.RESULTS_FILE)


def journal_of(folder: Path) -> list[dict[str, Any]]:
    """The whole rows in a study's journal; one that a crash has torn is not there."""
    lines = (folder / keys.JOURNAL_FILE).read_text().splitlines(keepends=True)
    return [json.loads(line) for line in lines if line.endswith("\n")]


def assert_same_results(found: Path, expected: Path) -> None:
    """Two studies have the same rows and regions, apart from what was measured with a clock or a gauge."""
    measured = [keys.SECONDS, keys.PEAK_MEMORY_MB]
    pd.testing.assert_frame_equal(
        results_of(found).drop(columns=measured), results_of(expected).drop(columns=measured)
    )
    regions = (pd.read_parquet(folder / keys.REGIONS_FILE) for folder in (found, expected))
    pd.testing.assert_frame_equal(*regions)
