"""The Ray cluster that work runs on: one that is already up, or a local one of our own."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager

# Read by Ray when it is imported or started. A variable that the user has set keeps its value.
_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    # Ctrl-C reaches us at once, instead of asking Tune to end the study as if it were finished.
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    # Our results go through the aggregator; no CSV, JSON and TensorBoard files of every trial.
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "RAY_AIR_NEW_OUTPUT": "0",
    # Announces a coming default about accelerator variables; nothing here depends on it.
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}


@contextmanager
def connected(address: str | None = None) -> Iterator[None]:
    """Use the cluster at `address` (or RAY_ADDRESS), else start a local one that ends with the block.

    The local one opens no dashboard and no client port.
    """
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    import ray

    if ray.is_initialized():
        yield
        return
    address = address or os.environ.get("RAY_ADDRESS")
    ray.init(
        address=address,
        # Only what we start ourselves can be told to have no dashboard.
        include_dashboard=None if address else False,
        logging_level=logging.ERROR,
        log_to_driver=False,
    )
    try:
        yield
    finally:
        ray.shutdown()


def cpus() -> int:
    """CPUs of the connected cluster."""
    import ray

    return max(1, int(ray.cluster_resources().get("CPU", 1)))


def gpus() -> int:
    """GPUs of the connected cluster."""
    import ray

    return int(ray.cluster_resources().get("GPU", 0))
