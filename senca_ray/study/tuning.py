"""Tuning: one fold of a search, from its first suggestion to the setting it chooses."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from senca_ray.config import Setting
from senca_ray.keys import COMPLETE, DEFAULT, FAILED, RACED
from senca_ray.study.objective import (
    DIRECTIONS,
    MAXIMISE,
    RANK,
    Scores,
    aggregated,
    direction,
    patient_scores,
    standings,
)
from senca_ray.study.racing import FIRST_LOOK, hopeless
from senca_ray.study.search import Search
from senca_ray.study.space import changes, label
from senca_ray.study.suggestions import SuggestionLog

Ended = Mapping[tuple[str, str], Scores | None]
"""Scores of every trial of the model that has ended, by label and sample; None for one that failed."""


@dataclass
class Suggestion:
    """A setting on its way through a fold's patients."""

    number: int
    label: str
    setting: Setting
    changes: dict[str, Any]
    incumbent: Suggestion | None
    """The best complete one told when this was asked for; None where it is not raced against any."""
    started: int = 0
    """Patients whose trials may run, in the fold's order."""
    patients: list[Scores] = field(default_factory=list)
    """Scores of the patients that have ended and have some, in that order."""
    state: str | None = None
    """How it ended; None before."""
    values: Scores | None = None
    """Over `patients`; set when it is told."""


class Tuning:
    """Asks for suggestions, decides about them and tells them, in an order that no timing can change.

    Suggestion i is asked for when just those up to i - ahead have been told, and they are told in the order
    of their numbers. A decision looks at the scores of a prefix of the patients, all of which have ended.
    """

    def __init__(
        self,
        search: Search,
        ahead: int,
        patients: Sequence[Sequence[str]],
        log: SuggestionLog,
        ended: Ended,
        want: Callable[[Suggestion, str], None],
    ) -> None:
        """`patients` are the sample ids of each, in the order raced; `want` asks for a trial on a sample."""
        self._search, self._ahead = search, ahead
        self._patients, self._log = patients, log
        self._ended, self._want = ended, want
        self._suggestions: list[Suggestion] = []
        self._told = 0

    @property
    def done(self) -> bool:
        """True when every suggestion has been told."""
        return self._told == self._search.suggestions

    @property
    def told(self) -> list[Suggestion]:
        """The suggestions that have been told, in the order of their numbers."""
        return self._suggestions[: self._told]

    def is_open(self, number: int) -> bool:
        """Whether suggestion `number` may still want trials."""
        return number >= len(self._suggestions) or self._suggestions[number].state is None

    def to_come(self, first: int) -> int:
        """Trials that suggestions from number `first` on may want and have not started."""
        not_asked = self._search.suggestions - max(first, len(self._suggestions))
        open_ones = [s for s in self._suggestions[max(first, self._told) :] if s.state is None]
        waiting = sum(len(samples) for s in open_ones for samples in self._patients[s.started :])
        return not_asked * sum(map(len, self._patients)) + waiting

    def advance(self) -> None:
        """Ask, start, decide and tell all that the trials ended so far allow."""
        while True:
            while len(self._suggestions) < min(self._search.suggestions, self._told + self._ahead):
                self._ask()
            for suggestion in self._suggestions[self._told :]:
                self._decide(suggestion)
            if self._told == len(self._suggestions) or self._suggestions[self._told].state is None:
                return
            # One at a time: the next is asked for before another is told.
            self._tell(self._suggestions[self._told])

    def _ask(self) -> None:
        number = len(self._suggestions)
        parameters = self._log.ask(number, self._label)
        differing = changes(parameters, self._search.setting)
        setting = dataclasses.replace(self._search.setting, **differing)
        incumbent = self.best() if self._search.racing else None
        suggestion = Suggestion(number, self._label(parameters), setting, differing, incumbent)
        self._suggestions.append(suggestion)
        self._start(suggestion, len(self._patients) if incumbent is None else FIRST_LOOK)

    def _label(self, parameters: dict[str, Any]) -> str:
        differing = changes(parameters, self._search.setting)
        return label(dataclasses.replace(self._search.setting, **differing)) if differing else DEFAULT

    def _start(self, suggestion: Suggestion, patients: int) -> None:
        following = self._patients[suggestion.started : patients]
        suggestion.started += len(following)
        for samples in following:
            for sample in samples:
                self._want(suggestion, sample)

    def _decide(self, suggestion: Suggestion) -> None:
        while suggestion.state is None:
            name, seen = suggestion.label, len(suggestion.patients)
            following = self._patients[seen : suggestion.started]
            if any((name, sample) not in self._ended for samples in following for sample in samples):
                return
            scores = [patient_scores([self._ended[name, s] for s in samples]) for samples in following]
            suggestion.patients += [score for score in scores if score is not None]
            if None in scores:
                suggestion.state = FAILED
            elif suggestion.started == len(self._patients):
                suggestion.state = COMPLETE
            elif self._is_hopeless(suggestion):
                suggestion.state = RACED
            else:
                self._start(suggestion, suggestion.started + 1)

    def _is_hopeless(self, suggestion: Suggestion) -> bool:
        if suggestion.incumbent is None:
            return False
        pairs = zip(suggestion.patients, suggestion.incumbent.patients, strict=False)
        values, incumbent = zip(*((a[0], b[0]) for a, b in pairs), strict=True)
        # Of the scores themselves, whatever number is made of them.
        return hopeless(values, incumbent, DIRECTIONS[self._search.objectives[0]] == MAXIMISE)

    def _tell(self, suggestion: Suggestion) -> None:
        if suggestion.state != FAILED:
            suggestion.values = aggregated(
                suggestion.patients,
                [s.patients for s in self._complete],
                self._search.objectives,
                self._search.aggregate,
            )
        state = str(suggestion.state)
        self._log.tell(suggestion.number, state, suggestion.values, len(suggestion.patients))
        self._told += 1

    # --- The choice -----------------------------------------------------------------------------------

    @property
    def _complete(self) -> list[Suggestion]:
        return [s for s in self.told if s.state == COMPLETE]

    def values(self) -> dict[int, Scores]:
        """The numbers by which the complete suggestions told so far are compared, by suggestion number.

        Those told to Optuna, except for ranks: a suggestion was told when only earlier ones were there to
        beat, so now all of them are ranked against each other.
        """
        complete = self._complete
        if self._search.aggregate == RANK:
            values = standings([s.patients for s in complete], self._search.objectives)
        else:
            values = [s.values or () for s in complete]
        return {s.number: v for s, v in zip(complete, values, strict=True)}

    def best(self) -> Suggestion | None:
        """The best of those by the first objective, then by the second, then the earliest; None without any.

        No other is better in one objective and as good in the other.
        """
        signed = self._signed()
        return self._suggestions[max(signed, key=lambda n: signed[n])] if signed else None

    def front(self) -> list[Suggestion]:
        """The Pareto front: those that no other is better than in one objective and as good in the others."""
        signed = self._signed()
        return [self._suggestions[n] for n, v in signed.items() if not _dominated(v, signed.values())]

    def _signed(self) -> dict[int, Scores]:
        """Values, turned so that more is better."""
        aggregate = self._search.aggregate
        signs = [1 if direction(o, aggregate) == MAXIMISE else -1 for o in self._search.objectives]
        return {
            number: tuple(sign * value for sign, value in zip(signs, values, strict=True))
            for number, values in self.values().items()
        }


def _dominated(values: Scores, others: Iterable[Scores]) -> bool:
    return any(
        other != values and all(o >= v for o, v in zip(other, values, strict=True)) for other in others
    )
