"""The plan of a search: its folds side by side, their trials shared, the controls in between."""

from __future__ import annotations

import collections
import heapq
import itertools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from senca_ray import keys
from senca_ray.config import Setting
from senca_ray.data.shards import read_meta
from senca_ray.errors import SencaError
from senca_ray.keys import DEFAULT
from senca_ray.methods import MODEL
from senca_ray.study.folds import Fold, make_folds, samples_of
from senca_ray.study.grid import control_trials
from senca_ray.study.objective import Scores, direction, sample_scores
from senca_ray.study.search import Search
from senca_ray.study.space import distributions
from senca_ray.study.suggestions import SuggestionLog, open_storage
from senca_ray.study.trial import Trial
from senca_ray.study.tuning import Suggestion, Tuning

Stored = Callable[[Trial], list[dict[str, Any]] | None]
"""Gives the stored result rows of a trial; None, or not all of them, until it has ended."""

Key = tuple[str, str, str]
"""Method, label and sample: what tells the trials of a study apart."""

_SEARCH, _TEST, _FILL = range(3)
"""What starts first: the search waits for its trials, nothing waits for the others."""


class SearchPlan:
    """Gives the trials of all folds; one that several folds want runs once.

    Which trials run, what is suggested and what is chosen follows from the search, the shards and the trials'
    rows alone: not from the order in which trials end, nor from how often the driver was killed in between.
    """

    def __init__(self, search: Search, shards: Mapping[str, str], scores: Stored, storage: Path) -> None:
        """`shards` maps sample ids to addresses; `storage` is the Optuna file, gone on with if there.

        Raises ProblemsError where the shards do not fit the search, SencaError where the storage does not.
        """
        self._search, self._shards, self._stored = search, shards, scores
        if search.ahead is None:
            raise ValueError("`ahead` is left open; set it before the search is run")
        search.most_trials(shards)  # raises where the shards do not fit
        metas = {sample: read_meta(uri) for sample, uri in shards.items()}
        self._spots = {sample: meta["spots"] for sample, meta in metas.items()}
        self._known: dict[Key, Trial] = {}
        self._ready: list[tuple[int, int, int, int, Trial]] = []
        self._order = itertools.count()
        self._running: set[Key] = set()
        self._scores: dict[tuple[str, str], Scores | None] = {}
        self._waiting: dict[Key, list[int]] = {}
        self._drawn: dict[int, set[str]] = collections.defaultdict(set)
        self._folds = make_folds(metas, search.select, search.test)
        self._tunings = self._make_tunings(samples_of(metas), search.ahead, storage)
        self._tested: set[int] = set()
        for number in range(len(self._folds)):
            self._advance(number)
        for sample, uri in shards.items():
            has_image = metas[sample]["modality"] == keys.RNA_IMAGE
            self._add(self._trial(DEFAULT, search.setting, sample), _FILL)
            for trial in control_trials(search, search.setting, DEFAULT, sample, uri, has_image):
                self._add(trial, _FILL)

    def _make_tunings(self, samples: dict[str, tuple[str, ...]], ahead: int, storage: Path) -> list[Tuning]:
        search, space = self._search, distributions(self._search.space)
        # Shuffled, so that no habit of naming decides whom a suggestion meets first; alike in every fold.
        patients = np.random.default_rng(search.sampler_seed).permutation(sorted(samples)).tolist()
        default = {name: getattr(search.setting, name) for name in space}
        directions = [direction(name, search.aggregate) for name in search.objectives]
        file = open_storage(storage)
        tunings = []
        for number, fold in enumerate(self._folds):
            name = f"{search.name} {fold.name}"
            log = SuggestionLog(file, name, directions, space, default, search.sampler_seed)
            racing_order = [samples[p] for p in patients if p not in fold.test_patients]
            tunings.append(Tuning(search, ahead, racing_order, log, self._scores, self._wanted_by(number)))
        return tunings

    # --- What the runner calls --------------------------------------------------------------------------

    @property
    def finished(self) -> bool:
        """True when every fold has made its choice and every trial has ended."""
        return not self._ready and not self._running and len(self._tested) == len(self._folds)

    @property
    def done(self) -> int:
        """Trials that have all their rows."""
        return len(self._known) - len(self._ready) - len(self._running)

    @property
    def left(self) -> int:
        """Trials that are known and have not ended, and all that may still be suggested."""
        left = len(self._ready) + len(self._running)
        tuned = len({sample for fold in self._folds for sample in fold.tuning})
        for number in range(self._search.alike):
            # All folds draw the same: on any section it is one trial, whichever fold asks for it.
            if any(tuning.is_open(number) for tuning in self._tunings):
                left += tuned - len(self._drawn[number])
        for number, (fold, tuning) in enumerate(zip(self._folds, self._tunings, strict=True)):
            left += tuning.to_come(self._search.alike)
            left += 0 if number in self._tested else len(fold.test)
        return left

    def next(self) -> Trial | None:
        """The next trial; None when nothing can start before another one ends."""
        if not self._ready:
            return None
        trial = heapq.heappop(self._ready)[-1]
        self._running.add(_key(trial))
        return trial

    def ended(self, trial: Trial) -> None:
        """Take notice that the rows of `trial` are stored; raises SencaError where they are not."""
        key = _key(trial)
        if not self._take(self._known[key]):
            raise SencaError(f"{' '.join(key)}: ended without all of its result rows")
        self._running.discard(key)
        for number in self._waiting.pop(key, []):
            self._advance(number)

    # --- Trials -----------------------------------------------------------------------------------------

    def _trial(self, label: str, setting: Setting, sample: str) -> Trial:
        search = self._search
        uri = self._shards[sample]
        return Trial(search.name, MODEL, label, setting, sample, uri, search.seeds, search.protocol)

    def _wanted_by(self, number: int) -> Callable[[Suggestion, str], None]:
        def want(suggestion: Suggestion, sample: str) -> None:
            trial = self._trial(suggestion.label, suggestion.setting, sample)
            self._add(trial, _SEARCH, suggestion.number)
            self._drawn[suggestion.number].add(sample)
            if (suggestion.label, sample) not in self._scores:
                waiting = self._waiting.setdefault(_key(trial), [])
                if number not in waiting:
                    waiting.append(number)

        return want

    def _add(self, trial: Trial, kind: int, urgency: int = 0) -> None:
        """Have a trial run, unless it is known already or its rows are there."""
        key = _key(trial)
        if key in self._known:
            if self._known[key].setting != trial.setting:
                raise SencaError(f"two settings share the label {trial.label}; change the sampler's seed")
            return
        self._known[key] = trial
        if not self._take(trial):
            # Of what is as urgent, the longest first: left for last it would keep the other cores idle.
            entry = (kind, urgency, -self._spots[trial.sample], next(self._order), trial)
            heapq.heappush(self._ready, entry)

    def _take(self, trial: Trial) -> bool:
        """Take the scores of a trial that has all its rows; False where it has not."""
        rows = self._stored(trial)
        if rows is None or len(rows) < len(trial.keys()):
            return False
        if trial.method == MODEL:
            self._scores[trial.label, trial.sample] = sample_scores(rows, self._search.objectives)
        return True

    # --- Folds ------------------------------------------------------------------------------------------

    def _advance(self, number: int) -> None:
        tuning = self._tunings[number]
        tuning.advance()
        if tuning.done and number not in self._tested:
            self._tested.add(number)
            if chosen := tuning.best():
                for sample in self._folds[number].test:
                    self._add(self._trial(chosen.label, chosen.setting, sample), _TEST)

    def selection(self) -> dict[str, Any]:
        """What was suggested, how it did and what was chosen, fold by fold: the content of selection.json.

        The values of a suggestion that was stopped are over the patients it was scored on.
        """
        return {
            "objectives": list(self._search.objectives),
            "aggregate": self._search.aggregate,
            "folds": [self._choice(f, t) for f, t in zip(self._folds, self._tunings, strict=True)],
        }

    def _choice(self, fold: Fold, tuning: Tuning) -> dict[str, Any]:
        values = tuning.values()
        chosen = tuning.best() if tuning.done else None
        front = tuning.front() if tuning.done and len(self._search.objectives) > 1 else []
        return {
            "name": fold.name,
            "test_patients": list(fold.test_patients),
            "tuning_samples": list(fold.tuning),
            "test_samples": list(fold.test),
            "suggestions": [_told(s, values.get(s.number, s.values)) for s in tuning.told],
            "chosen": chosen.label if chosen else None,
            "front": list(dict.fromkeys(s.label for s in front)),
        }


def _told(suggestion: Suggestion, values: Scores | None) -> dict[str, Any]:
    return {
        "number": suggestion.number,
        "label": suggestion.label,
        "changes": suggestion.changes,
        "state": suggestion.state,
        "values": None if values is None else list(values),
        "patients": len(suggestion.patients),
    }


def _key(trial: Trial) -> Key:
    return trial.method, trial.label, trial.sample
