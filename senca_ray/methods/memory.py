"""The peak memory of one fit, in a worker that runs one after the other."""

from __future__ import annotations

import contextlib
import resource
import sys
from pathlib import Path


def peak_memory_mb(device: str = "cpu") -> float:
    """Highest resident memory since the last fit began (where that cannot be told: of the process so far).

    On a GPU: most that torch held there since then, whether in use or not: what no other process could have.
    """
    if device != "cpu":
        import torch

        return float(torch.cuda.max_memory_reserved(device) / 2**20)
    with contextlib.suppress(OSError, StopIteration):
        status = Path("/proc/self/status").read_text()
        line = next(line for line in status.splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) / 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1024 * 1024 if sys.platform == "darwin" else 1024)


def forget_peak(device: str) -> None:
    """A worker runs one method after the other: each is to be seen with its own peak."""
    if device != "cpu":
        import torch

        torch.cuda.init()
        # What earlier fits left in torch's hands would count as this one's, and is taken from other trials.
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
