"""Figure `startup`: seconds until an import, the help text and a local Ray are there."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable

from senca_ray.bench.figure import Figure
from senca_ray.bench.process import environment, fresh
from senca_ray.errors import SencaError

_IMPORT = "import time; t = time.perf_counter(); import senca_ray; print(time.perf_counter() - t)"
_HELP = "from senca_ray.cli import main; main()"


def measure(repeat: int, say: Callable[[str], None]) -> list[Figure]:
    """Seconds of `import senca_ray`, of the whole of `senca --help`, and of starting Ray."""
    # The first of each compiles and reads files that the others find: it is not counted.
    imports = [_imported() for _ in range(repeat + 1)][1:]
    helps = [_helped() for _ in range(repeat + 1)][1:]
    ray = []
    for run in range(repeat):
        say(f"starting Ray, {run + 1} of {repeat}")
        ray.append(fresh(start_ray))
    return [
        Figure(name="startup.import", title="import senca_ray", unit="s", runs=tuple(imports), bound=0.3),
        Figure(name="startup.help", title="senca --help", unit="s", runs=tuple(helps), bound=1.0),
        Figure(
            name="startup.ray",
            title="import and start Ray",
            unit="s",
            runs=tuple(ray),
            note="a local cluster",
        ),
    ]


def start_ray() -> float:
    """Seconds until a local cluster answers, Ray's own import with it. For a fresh process."""
    started = time.perf_counter()
    from senca_ray import cluster

    with cluster.connected():
        cluster.cpus()
        return time.perf_counter() - started


def _imported() -> float:
    return float(_python("-c", _IMPORT))


def _helped() -> float:
    started = time.perf_counter()
    _python("-c", _HELP, "--help")
    return time.perf_counter() - started


def _python(*arguments: str) -> str:
    ended = subprocess.run(  # noqa: S603  this Python, no shell
        [sys.executable, *arguments], env=environment(), capture_output=True, text=True, check=False
    )
    if ended.returncode:
        raise SencaError(
            f"`python {' '.join(arguments)}` ended with exit code {ended.returncode}; install the package "
            f"again. Its last words:\n{ended.stderr.strip()[-500:]}"
        )
    return ended.stdout
