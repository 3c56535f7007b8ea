"""How a plan meets Ray Tune: a Searcher that hands out its trials and takes notice of their end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ray.tune.search import Searcher

from senca_ray.methods import method
from senca_ray.methods.base import device_of
from senca_ray.study.packing import Packing
from senca_ray.study.plan import Plan
from senca_ray.study.trial import Trial, failed_rows, to_config

WORKER_LOSSES = 3
"""How often a trial is started again after its worker or node was lost."""

TRIAL, SHARE, MEMORY_MB = "trial", "share", "memory_mb"
"""What a Tune config holds: the trial, the share of a GPU that it may fill, main memory to ask for (or 0)."""

PEAK_MB, DEVICE_MB, OUT_OF_MEMORY = "peak_mb", "device_mb", "out_of_memory"
"""What a Tune result says: peak memory, memory of the GPU (0 without one), whether that was too little."""


class TrialQueue(Searcher):
    """Gives Tune a plan's trials, as many at once as the cluster has or may get room for at that moment.

    Where room goes away, what runs goes on, and nothing new is given until less is under way than fits.

    A trial whose worker is lost is given again, three times; then its rows say so. One that ran out of a
    GPU's memory is given again once, with twice the share of the card.
    """

    def __init__(
        self,
        plan: Plan,
        packing: Packing,
        store: Callable[[list[dict[str, Any]]], None],
        progress: Callable[[int], None],
    ) -> None:
        """`store` stores rows for good; `progress` is told how many trials have ended."""
        super().__init__()
        self._plan, self._packing, self._store, self._progress = plan, packing, store, progress
        self._running: dict[str, tuple[Trial, float]] = {}
        self._again: list[tuple[Trial, float]] = []
        self._losses: dict[Trial, int] = {}
        self._widened: set[Trial] = set()
        self._ended = 0

    def suggest(self, trial_id: str) -> Any:
        """Give the next trial's config, None while nothing can start, Searcher.FINISHED at the end."""
        if not self._running and not self._again and self._plan.finished:
            return Searcher.FINISHED
        if len(self._running) >= self._packing.slots():
            return None
        if self._again:
            trial, share = self._again.pop()
        else:
            following = self._plan.next()
            if following is None:
                return None
            # What computes on the CPU alone would hold its share of the card for nothing.
            on_gpu = device_of(method(following.method), "cuda") != "cpu"
            trial, share = following, self._packing.share() if on_gpu else 0.0
        self._running[trial_id] = trial, share
        memory = 0.0 if share else self._packing.memory_mb()
        return {TRIAL: to_config(trial), SHARE: share, MEMORY_MB: memory}

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Tell the plan, or give the trial again."""
        trial, share = self._running.pop(trial_id)
        if error or result is None:
            self._losses[trial] = self._losses.get(trial, 0) + 1
            if self._losses[trial] <= WORKER_LOSSES:
                self._again.append((trial, share))
                return
            times = self._losses[trial]
            reason = f"its worker was lost {times} times (killed, out of memory, or its node went away)"
            self._store(failed_rows(trial, reason))
        elif result[OUT_OF_MEMORY]:
            if trial not in self._widened:
                self._widened.add(trial)
                self._again.append((trial, min(1.0, 2 * share)))
                return
            self._store(
                failed_rows(trial, f"the GPU's memory ran out twice, at last with {share:g} of the card")
            )
        else:
            self._packing.measured(result[PEAK_MB], result[DEVICE_MB])
        self._plan.ended(trial)
        self._ended += 1
        self._progress(self._ended)

    def save(self, checkpoint_path: str) -> None:
        """Nothing to keep: the journal says what is done, and the plan follows from the study."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing was kept."""

    def __getstate__(self) -> dict[str, Any]:
        """Tune saves its tuner, and the queue in it; what the queue knows belongs to this process."""
        return {}
