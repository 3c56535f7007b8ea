"""The Ray cluster that work runs on: one that is already up, or a local one of our own."""

from __future__ import annotations

import logging
import os
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from senca_ray.errors import SencaError

# Read by Ray when it is imported or started. A variable that the user has set keeps its value.
_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    # Ctrl-C reaches us at once, instead of asking Tune to end the study as if it were finished.
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    # Our results go through the aggregator; no CSV, JSON and TensorBoard files of every trial.
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "RAY_AIR_NEW_OUTPUT": "0",
    # Tune's own state of a study is never gone back to; how many trials wait, our queue says.
    "TUNE_GLOBAL_CHECKPOINT_S": "3600",
    "TUNE_MAX_PENDING_TRIALS_PG": "1000",
    # What a worker was killed for when memory ran out is tried again a few times, not for ever.
    "RAY_task_oom_retries": "3",
    # Measurements for Prometheus, on a port that asks for no token.
    "RAY_enable_metrics_collection": "0",
    # And numbers of every process for a dashboard: hardly ever, in place of every five seconds.
    "REPORTER_UPDATE_INTERVAL_MS": "3600000",
    # Announces a coming default about accelerator variables; nothing here depends on it.
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}


TOKEN_FILE = Path("~/.ray/auth_token")
"""Where Ray keeps the token of clusters that it starts."""

_LONGEST_TEMPORARY = 26
"""Characters of a folder in which the paths of a session's sockets stay below the system's 107."""


@contextmanager
def connected(address: str | None = None) -> Iterator[None]:
    """Use the cluster at `address` (or RAY_ADDRESS), else start a local one that ends with the block.

    The local one is that of `start_local`. Raises SencaError when the cluster cannot be reached.
    """
    address = address or os.environ.get("RAY_ADDRESS")
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    if address:
        use_token()
    import ray

    if ray.is_initialized():
        yield
        return
    try:
        if address:
            _knock(address)
            ray.init(address=address, logging_level=logging.ERROR, log_to_driver=False)
        else:
            start_local()
    except (OSError, ray.exceptions.AuthenticationError) as error:
        raise SencaError(
            f"the Ray cluster {address or 'of our own'} cannot be reached ({error}); start one there with "
            "`ray start --head`, copy its token to ~/.ray/auth_token, or leave --address out to use this "
            "machine"
        ) from None
    try:
        yield
    finally:
        ray.shutdown()


def start_local(cpus: int | None = None) -> None:
    """Start a Ray of our own on this machine, with all its cores or so many, and connect to it.

    It has no dashboard and no client port, listens on the loopback interface alone, and answers only to who
    holds its token; no other user of the machine gets at its sockets, its logs or the token.
    """
    import ray

    close_token()
    with _on_loopback():
        ray.init(
            # Without "local" Ray would join a cluster that somebody else runs on this machine.
            address="local",
            num_cpus=cpus,
            include_dashboard=False,
            _temp_dir=str(_private_folder() / "ray"),
            logging_level=logging.ERROR,
            log_to_driver=False,
        )
    close_token()
    # One reads every log again and again for a driver that wants none, one would start machines, and one is
    # the dashboard's server even where none was asked for: it alone took 0.3 % of a core from the trials.
    node: Any = ray._private.worker._global_node
    node.kill_log_monitor(check_alive=False)
    node.kill_monitor(check_alive=False)
    node.kill_dashboard(check_alive=False)


def use_token() -> None:
    """Have Ray send the token that this machine holds, if any, to a cluster that was there before.

    Ray turns tokens on by itself for clusters that it starts, not for those that it joins. Raises SencaError
    where a file is named for it that is not there.
    """
    close_token()
    given = os.environ.get("RAY_AUTH_TOKEN_PATH")
    if given and not Path(given).is_file():
        raise SencaError(
            f"RAY_AUTH_TOKEN_PATH={given}: no such file; unset it, or put the cluster's token there"
        )
    if given or os.environ.get("RAY_AUTH_TOKEN") or TOKEN_FILE.expanduser().exists():
        os.environ.setdefault("RAY_AUTH_MODE", "token")


def close_token() -> None:
    """Keep other users from the token and its folder, if there is one: Ray lets everybody read what it makes.

    `ray up` copies the file with its permissions to every machine.
    """
    token = TOKEN_FILE.expanduser()
    with suppress(OSError):
        # First the folder, which also covers a token that Ray is about to write.
        token.parent.mkdir(mode=0o700, exist_ok=True)
        token.parent.chmod(0o700)
        token.chmod(0o600)


@contextmanager
def _on_loopback() -> Iterator[None]:
    """Let a cluster that starts in the block take the loopback address for its machine's, as on macOS.

    Ray has no setting for it: it turns a loopback address that it is given into one that others can reach.
    """
    from ray._private import ray_constants

    before, ray_constants.ENABLE_RAY_CLUSTER = ray_constants.ENABLE_RAY_CLUSTER, False
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = before


def _private_folder() -> Path:
    """Folder around the sessions of local clusters: Ray lets everybody write into those, sockets included.

    Raises SencaError when it is somebody else's.
    """
    base = tempfile.gettempdir()
    if len(base) > _LONGEST_TEMPORARY:
        base = "/tmp"  # noqa: S108  what is made in it is checked
    base = os.environ.get("RAY_TMPDIR") or base
    folder = Path(base) / f"ray-{os.getuid()}"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if folder.is_symlink() or folder.stat().st_uid != os.getuid():
        raise SencaError(
            f"{folder}: belongs to somebody else; remove it, or set RAY_TMPDIR to a folder of yours"
        )
    folder.chmod(0o700)
    return folder


def _knock(address: str | None) -> None:
    """Open and close a connection to host:port: Ray itself would try for minutes. Raises OSError."""
    host, colon, port = (address or "").removeprefix("ray://").rpartition(":")
    if colon and port.isdecimal():
        socket.create_connection((host, int(port)), timeout=10).close()


def nodes_without(path: Path) -> list[str]:
    """Addresses of the connected cluster's other machines that see no `path`.

    A machine that joins later is not asked, nor one that does not answer within a minute.
    """
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    here = ray.get_runtime_context().get_node_id()
    ask = ray.remote(num_cpus=0)(os.path.exists)
    others = {n["NodeID"]: n["NodeManagerAddress"] for n in ray.nodes() if n["Alive"] and n["NodeID"] != here}
    asked = {
        ask.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False)).remote(
            str(path)
        ): at
        for node, at in others.items()
    }
    answered, _ = ray.wait(list(asked), num_returns=len(asked), timeout=60) if asked else ([], [])
    return sorted(asked[answer] for answer in answered if not ray.get(answer))


def resources() -> dict[str, float]:
    """What the connected cluster's machines have in all: CPU, GPU, memory (bytes) and others.

    A machine without CPUs, the head of most clusters, runs no trial; its memory does not count.
    """
    total: dict[str, float] = {}
    for machine in _machines():
        for name, amount in machine.items():
            total[name] = total.get(name, 0.0) + amount
    return total


def largest(name: str) -> float:
    """How much of this resource the machine of the connected cluster has that has most of it."""
    return max((machine.get(name, 0.0) for machine in _machines()), default=0.0)


def _machines() -> list[dict[str, float]]:
    import ray

    return [n["Resources"] for n in ray.nodes() if n["Alive"] and n["Resources"].get("CPU")]


def cpus() -> int:
    """CPUs of the connected cluster."""
    return max(1, int(resources().get("CPU", 1)))


def gpus() -> int:
    """GPUs of the connected cluster."""
    return int(resources().get("GPU", 0))
