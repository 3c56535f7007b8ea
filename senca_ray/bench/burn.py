"""A trial of an exact length: it burns so many seconds of CPU instead of fitting.

CPU, not sleep: what the driver and Ray themselves burn on the same cores then shows in the wall time.
"""

from __future__ import annotations

import hashlib
import time
from typing import Any

import numpy as np

from senca_ray.bench.rows import made_up_rows
from senca_ray.study.trial import Trial

_BLOCK = bytes(2**18)
"""Hashed in about 0.2 ms, and without Python's lock, as a fit mostly runs without it."""


def burn_trial(
    trial: Trial, *, seconds: float, device: str = "cpu", checkpoint: object = None
) -> list[dict[str, Any]]:
    """In place of `run_trial`: burn `seconds` of this thread's CPU time and return made-up rows.

    Device and checkpoint are what the engine passes to every trial; burning needs neither.
    """
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        hashlib.sha256(_BLOCK)
    return made_up_rows(trial, np.random.default_rng(0))
