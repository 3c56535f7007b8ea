"""How many trials are under way: what the cluster has or may get, divided by what a trial needs."""

from __future__ import annotations

import math
import time

from senca_ray import cluster
from senca_ray.growth import Growth

FILLED = 0.9
"""Share of the memory that trials may fill together."""
_UNMEASURED_MB = 1500.0
"""Taken for a worker's memory until the first trial, the largest, has ended."""
CONTEXT_MB = 500.0
"""Memory that a process takes on a card before it computes anything."""
_LOOK_AGAIN = 2.0
"""Seconds after which the cluster is looked at again: machines come and go."""
_WAITING = 256
"""Trials at most that wait for machines still to come: Ray goes through all that wait again and again."""
_STEP_MB = 256.0
"""Memory is asked for in such steps, because workers are used again only where trials ask for the same."""


class Packing:
    """Room for trials. A trial takes one core and, where there are GPUs, a share of one.

    On a cluster that grows, trials ask for the machines that may come: more are under way than there is room
    for now, and the autoscaler starts machines for those that wait.
    """

    def __init__(self) -> None:
        self._worker_mb = 0.0
        self._gpu_mb, self._card_mb = 0.0, 0.0
        self._seen = -_LOOK_AGAIN
        self._growth: Growth | None = None
        self._now: dict[str, float] = {}
        self._most: dict[str, float] = {}

    def measured(self, peak_mb: float, card_mb: float) -> None:
        """Take notice of a trial's peak memory, on a GPU of `card_mb` (0: in main memory)."""
        if card_mb:
            # The card also holds the process's own context, which torch does not count.
            self._gpu_mb, self._card_mb = max(self._gpu_mb, peak_mb + CONTEXT_MB), card_mb
        else:
            self._worker_mb = max(self._worker_mb, peak_mb)

    def share(self) -> float:
        """Share of a GPU for the next trial: 1 until one was measured, 0 where there is and comes no GPU."""
        self._look()
        if not self._now.get("GPU") and not self._most.get("GPU"):
            return 0.0
        if not self._card_mb:
            return 1.0
        return 1 / max(1, int(FILLED * self._card_mb / self._gpu_mb))

    def memory_mb(self) -> float:
        """Main memory to ask for with the next trial that uses no GPU; 0: none.

        Only where a machine's cores would take more trials than its memory, and only on a cluster that grows:
        elsewhere no trial waits, so Ray never fills a free core by itself.
        """
        self._look()
        per_core = self._now.get("memory", 0.0) / 2**20 / (self._now.get("CPU") or math.inf)
        if not self._most or not per_core or self._worker_mb <= per_core:
            return 0.0
        return min(math.ceil(self._worker_mb / _STEP_MB) * _STEP_MB, cluster.largest("memory") / 2**20)

    def slots(self) -> int:
        """Trials that may be under way; at least one.

        As many as the cluster, as it is now, has room for; where it may grow, as many as it may come to have
        room for, of which 256 at most wait.
        """
        self._look()
        now = self._room(self._now)
        return max(1, now, min(self._room(self._most), now + _WAITING))

    def _room(self, resources: dict[str, float]) -> int:
        room = resources.get("CPU", 0.0)
        if share := self.share():
            room = min(room, resources.get("GPU", 0.0) / share)
        elif "memory" in resources:
            # What is still to come may not tell; Ray then finds that trials have to wait.
            room = min(room, resources["memory"] / 2**20 / (self._worker_mb or _UNMEASURED_MB))
        return int(room + 1e-9)

    def _look(self) -> None:
        if self._growth is None:
            self._growth = Growth()
        if time.monotonic() - self._seen >= _LOOK_AGAIN:
            self._now, self._most = cluster.resources(), self._growth.most()
            self._seen = time.monotonic()
