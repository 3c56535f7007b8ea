"""Sends the runs that lie in a study's folder, by W&B's own `wandb sync` in a process that can be stopped."""

from __future__ import annotations

import contextlib
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import psutil  # type: ignore[import-untyped]

from senca_ray.report.wandb_session import sending_environment
from senca_ray.report.wandb_spool import Spool

_AT_ONCE = 4
"""Runs that are sent side by side, by one process of W&B."""
_LOOK_EVERY = 0.2
_ANSI = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


@dataclass(frozen=True)
class Patience:
    """How long, in seconds, a slow W&B may take."""

    without_progress: float
    in_all: float


AT_THE_END = Patience(without_progress=60.0, in_all=300.0)
"""Of a study: what was not sent by then is kept for `senca wandb sync`."""
WHEN_ASKED = Patience(without_progress=300.0, in_all=float("inf"))


def send(spool: Spool, patience: Patience, told: Callable[[str], None]) -> str | None:
    """Send every run that was not sent; returns why some were not, None when all were.

    A run counts as sent once W&B has taken all of it; what is sent is noted even when this is interrupted.
    """
    unsent = spool.unsent()
    if not unsent:
        return None
    command = [sys.executable, "-m", "wandb", "sync", "--yes", "-n", str(_AT_ONCE)]
    command += [str(log.parent.resolve()) for log in unsent.values()]
    with tempfile.TemporaryFile() as printed:
        process = subprocess.Popen(  # noqa: S603  our own command, no shell
            command,
            cwd=spool.study_dir,
            env=sending_environment(spool.study_dir),
            stdin=subprocess.DEVNULL,
            stdout=printed,
            stderr=subprocess.STDOUT,
            # Ctrl-C is ours to handle.
            start_new_session=True,
        )
        try:
            stopped = _wait(process, spool, patience, told)
        finally:
            stop(process)
            text = _text(printed)
            spool.settle()
            for name, kept in spool.runs.items():
                found = re.search(rf"\S+/runs/{re.escape(name)}\b", text)
                kept.url = found[0] if found else kept.url
            spool.save()
    if not spool.unsent():
        return None
    errors = re.findall(r"ERROR:? (.+)", text)
    return stopped or (f"W&B said: {errors[-1].strip()}" if errors else "W&B gave no reason")


def _wait(
    process: subprocess.Popen[bytes], spool: Spool, patience: Patience, told: Callable[[str], None]
) -> str | None:
    """Wait until the process ends; where it takes too long, returns that in words."""
    began = progressed = time.monotonic()
    known = -1
    while process.poll() is None:
        if (done := spool.settle()) != known:
            known, progressed = done, time.monotonic()
            told(f"sent {done} of {len(spool.runs)} runs")
        now = time.monotonic()
        if now - progressed > patience.without_progress:
            return f"W&B took no run within {patience.without_progress:.0f} seconds"
        if now - began > patience.in_all:
            return f"W&B took longer than {patience.in_all:.0f} seconds"
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_LOOK_EVERY)
    return None


def stop(process: subprocess.Popen[bytes]) -> None:
    """End a process of W&B and its helpers, which have sessions of their own, where it still runs."""
    if process.poll() is not None:
        return
    with contextlib.suppress(psutil.NoSuchProcess):
        family = [*psutil.Process(process.pid).children(recursive=True), psutil.Process(process.pid)]
        for one in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                one.kill()
    process.wait()


def _text(printed: IO[bytes]) -> str:
    printed.seek(0)
    return _ANSI.sub("", printed.read().decode(errors="replace"))


def reported(study_dir: Path, command: list[str], seconds: float) -> tuple[int, str, str]:
    """Run a command that speaks to W&B for at most so long: exit code (-1 for too long), output, errors."""
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(  # noqa: S603  our own command, no shell
            command,
            env=sending_environment(study_dir) | {"WANDB_SILENT": "true"},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=errors,
            start_new_session=True,
        )
        try:
            code = process.wait(seconds)
        except subprocess.TimeoutExpired:
            code = -1
        finally:
            stop(process)
        return code, _text(output), _text(errors)
