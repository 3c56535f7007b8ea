"""The Ray cluster that work runs on: one that is already up, or a local one of our own."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

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
    # Announces a coming default about accelerator variables; nothing here depends on it.
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}


_TOKEN = Path("~/.ray/auth_token")
"""Where Ray keeps the token of clusters that it starts."""


@contextmanager
def connected(address: str | None = None) -> Iterator[None]:
    """Use the cluster at `address` (or RAY_ADDRESS), else start a local one that ends with the block.

    The local one has no dashboard and no client port, and answers only to who holds its token: Ray's other
    ports are open to the network. Raises SencaError when the cluster cannot be reached.
    """
    address = address or os.environ.get("RAY_ADDRESS")
    environment = dict(_ENVIRONMENT)
    token = {"RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"} & set(os.environ) or _TOKEN.expanduser().exists()
    if address and token:
        # Ray turns tokens on by itself for clusters that it starts, not for those that it joins.
        environment["RAY_AUTH_MODE"] = "token"
    for name, value in environment.items():
        os.environ.setdefault(name, value)
    import ray

    if ray.is_initialized():
        yield
        return
    try:
        _knock(address)
        ray.init(
            # Without "local" Ray would join a cluster that somebody else runs on this machine.
            address=address or "local",
            # Only what we start ourselves can be told to have no dashboard.
            include_dashboard=None if address else False,
            logging_level=logging.ERROR,
            log_to_driver=False,
        )
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


def _knock(address: str | None) -> None:
    """Open and close a connection to host:port: Ray itself would try for minutes. Raises OSError."""
    host, colon, port = (address or "").removeprefix("ray://").rpartition(":")
    if colon and port.isdecimal():
        socket.create_connection((host, int(port)), timeout=10).close()


def resources() -> dict[str, float]:
    """What the connected cluster has in all: CPU, GPU, memory (bytes) and others."""
    import ray

    return dict(ray.cluster_resources())


def cpus() -> int:
    """CPUs of the connected cluster."""
    return max(1, int(resources().get("CPU", 1)))


def gpus() -> int:
    """GPUs of the connected cluster."""
    return int(resources().get("GPU", 0))
