"""How many trials run side by side: what the cluster has, divided by what a trial was seen to need."""

from __future__ import annotations

import time

from senca_ray import cluster

_FILLED = 0.9
"""Share of the memory that trials may fill together."""
_UNMEASURED_MB = 1500.0
"""Taken for a worker's memory until the first trial, the largest, has ended."""
_CONTEXT_MB = 500.0
"""Memory that a process takes on a card before it computes anything."""
_LOOK_AGAIN = 2.0
"""Seconds after which the cluster is looked at again: machines come and go."""


class Packing:
    """Room for trials. A trial takes one core and, where there are GPUs, a share of one."""

    def __init__(self) -> None:
        self._worker_mb = 0.0
        self._gpu_mb, self._card_mb = 0.0, 0.0
        self._seen = -_LOOK_AGAIN
        self._resources: dict[str, float] = {}

    def measured(self, peak_mb: float, card_mb: float) -> None:
        """Take notice of a trial's peak memory, on a GPU of `card_mb` (0: in main memory)."""
        if card_mb:
            # The card also holds the process's own context, which torch does not count.
            self._gpu_mb, self._card_mb = max(self._gpu_mb, peak_mb + _CONTEXT_MB), card_mb
        else:
            self._worker_mb = max(self._worker_mb, peak_mb)

    def share(self) -> float:
        """Share of a GPU for the next trial: 1 until one was measured, 0 where there is no GPU."""
        if not self._look().get("GPU"):
            return 0.0
        if not self._card_mb:
            return 1.0
        return 1 / max(1, int(_FILLED * self._card_mb / self._gpu_mb))

    def slots(self) -> int:
        """Trials that may run at once on the cluster as it is now; at least one."""
        resources = self._look()
        room = resources.get("CPU", 1.0)
        if share := self.share():
            room = min(room, resources["GPU"] / share)
        else:
            room = min(room, resources.get("memory", 0.0) / 2**20 / (self._worker_mb or _UNMEASURED_MB))
        return max(1, int(room + 1e-9))

    def _look(self) -> dict[str, float]:
        if time.monotonic() - self._seen >= _LOOK_AGAIN:
            self._resources, self._seen = cluster.resources(), time.monotonic()
        return self._resources
