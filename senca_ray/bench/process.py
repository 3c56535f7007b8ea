"""Fresh processes: where a figure is about memory, imports or start-up, it is measured in one of its own.

Nothing heavy in here: what this module imports is part of what a fresh process weighs.
"""

from __future__ import annotations

import importlib
import json
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from senca_ray.errors import SencaError

_PATIENCE = 20.0
"""Seconds that an interrupted process has to end by itself."""


def fresh(function: Callable[..., Any], **arguments: Any) -> Any:
    """Call a module's function in a new Python process; arguments and result travel as JSON.

    Raises SencaError with the end of what the process wrote when it fails.
    """
    target = f"{function.__module__}:{function.__qualname__}"
    with tempfile.TemporaryDirectory(prefix="senca-bench-") as folder:
        result = Path(folder) / "result.json"
        command = [sys.executable, "-m", __name__, target, json.dumps(arguments), str(result)]
        process = subprocess.Popen(  # noqa: S603  our own module, no shell
            command, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        try:
            output, errors = process.communicate()
        except KeyboardInterrupt:
            _let_end(process)
            raise
        if process.returncode or not result.exists():
            last = "\n".join((errors or output).strip().splitlines()[-5:])
            raise SencaError(
                f"{target} ended with exit code {process.returncode} and no result; its last words:\n{last}"
            )
        return json.loads(result.read_text(encoding="utf-8"))


def _let_end(process: subprocess.Popen[str]) -> None:
    """Ctrl-C has reached the process as well: let it stop its cluster and remove its files."""
    try:
        process.wait(_PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def environment() -> dict[str, str]:
    """The environment of a measured process: ours, without the address of a Ray cluster.

    A cluster that is up already has no start-up to measure, and other cores than the plain loop beside it.
    """
    return {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}


def peak_memory_mb(pid: int | None = None) -> float:
    """Highest resident memory so far, in MB, of this process or, on Linux, of another.

    On Linux not `ru_maxrss`: a new process inherits that of the one that started it. 0 where the process has
    ended or cannot be seen.
    """
    status = Path(f"/proc/{pid or os.getpid()}/status")
    try:
        lines = status.read_text(encoding="utf-8").splitlines()
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20 if pid is None else 0.0
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM:")), 0.0)


def main(target: str, arguments: str, result: str) -> None:
    """Run the function that `fresh` named and leave its result in a file."""
    module, name = target.split(":")
    value = getattr(importlib.import_module(module), name)(**json.loads(arguments))
    Path(result).write_text(json.dumps(value), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
