"""A search: Optuna over a cohort; what it varies and how a suggestion is judged."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from senca_ray import keys
from senca_ray.config import Setting
from senca_ray.data.shards import read_meta
from senca_ray.errors import Problem, ProblemsError
from senca_ray.keys import DEFAULT
from senca_ray.methods import CONTROLS
from senca_ray.methods.protocol import Protocol
from senca_ray.study.folds import NONE, SELECTS, Metas, block_problems, fold_problems, make_folds
from senca_ray.study.grid import check_stored, control_trials, seed_problems
from senca_ray.study.objective import AGGREGATES, DIRECTIONS, LOSS_FIELDS, MEAN
from senca_ray.study.space import Space, describe, largest, parse_mapping, space_problems
from senca_ray.study.suggestions import RANDOM


@dataclass(frozen=True, kw_only=True)
class Search:
    """What is searched and how it is judged; raises ProblemsError with everything that is wrong with it."""

    name: str
    title: str
    setting: Setting
    """What every suggestion starts from, and the first of them."""
    space: Space
    seeds: tuple[int, ...]
    protocol: Protocol = field(default_factory=Protocol)
    objectives: tuple[str, ...] = (keys.ARI,)
    """One score, or two that are weighed against each other."""
    aggregate: str = MEAN
    """How the scores of the tuning patients become one number: mean, median or rank."""
    suggestions: int = 20
    """How many settings each fold tries, the default among them."""
    select: str = NONE
    """How test sections are kept apart: none, loo-patient or test-patients."""
    test: tuple[str, ...] = ()
    """The test patients, or all their sections."""
    racing: bool = True
    """Stop a suggestion that is already significantly worse than the best one; for one objective."""
    ahead: int | None = None
    """Suggestions of a fold under way at once; None while it is left open to the cluster's size.

    Part of the study, because what is suggested depends on it.
    """
    controls: tuple[str, ...] = CONTROLS
    sampler_seed: int = 0

    def __post_init__(self) -> None:
        problems = [*seed_problems(self.seeds), *space_problems(self.space, self.setting)]
        problems += self._objective_problems()
        problems += _unknown("aggregate", self.aggregate, AGGREGATES)
        problems += _unknown("select", self.select, SELECTS)
        for name, fewest in (("suggestions", 1), ("ahead", 1), ("sampler_seed", 0)):
            value = getattr(self, name)
            if value is not None and value < fewest:
                problems.append(Problem("-", name, f"{value} found; expected {fewest} or more"))
        if problems:
            raise ProblemsError(problems, f"the study {self.name}")

    def _objective_problems(self) -> list[Problem]:
        found = self.objectives
        problems = [p for name in found for p in _unknown("objectives", name, DIRECTIONS)]
        if not 1 <= len(found) <= 2 or len(set(found)) < len(found):
            problems.append(
                Problem("-", "objectives", f"{list(found)} found; expected one, or two different")
            )
        if len(found) > 1 and self.racing:
            message = "on, with two objectives; expected off (--no-racing): a paired test compares one score"
            problems.append(Problem("-", "racing", message))
        if keys.LOSS_LAST in found and (changing := LOSS_FIELDS & set(self.space)):
            message = (
                f"{keys.LOSS_LAST} found while {', '.join(sorted(changing))} varies; expected another score: "
            )
            message += "losses of different formulas or weights cannot be compared"
            problems.append(Problem("-", "objectives", message))
        if keys.STABILITY in found and len(self.seeds) < 2:
            message = f"{keys.STABILITY} compares seeds, {len(self.seeds)} found; expected two or more"
            problems.append(Problem("-", "seeds", message))
        return problems

    def most_trials(self, shards: Mapping[str, str]) -> int:
        """Number of trials that it may run over these shards (sample id to address), at most.

        Raises ProblemsError with everything that keeps it from running over them.
        """
        metas = {sample: read_meta(uri) for sample, uri in shards.items()}
        self._check(metas)
        folds = make_folds(metas, self.select, self.test)
        controls = [
            control
            for sample, uri in shards.items()
            for control in control_trials(
                self, self.setting, DEFAULT, sample, uri, metas[sample]["modality"] == keys.RNA_IMAGE
            )
        ]
        tuned = len({sample for fold in folds for sample in fold.tuning})
        default = len(shards) - tuned
        tuning = self.alike * tuned + (self.suggestions - self.alike) * sum(len(f.tuning) for f in folds)
        return tuning + default + sum(len(fold.test) for fold in folds) + len(controls)

    @property
    def alike(self) -> int:
        """Number of suggestions, the first ones, that are the same in every fold: those drawn at random."""
        return min(self.suggestions, RANDOM + (self.ahead or 1) - 1)

    def _check(self, metas: Metas) -> None:
        problems = block_problems(metas, self.objectives)
        problems += fold_problems(metas, self.select, self.test)
        try:
            most = dataclasses.replace(self.setting, **largest(self.space, self.setting))
            check_stored(metas, [most])
        except ProblemsError as error:
            problems += error.problems
        if problems:
            raise ProblemsError(problems, f"{len(metas)} samples")

    def describe(self) -> dict[str, Any]:
        """What the study's description says about it besides cohort, setting, seeds and protocol."""
        return {
            "kind": "search",
            "space": describe(self.space),
            "objectives": list(self.objectives),
            "aggregate": self.aggregate,
            "suggestions": self.suggestions,
            "select": self.select,
            "test_patients": list(self.test),
            "racing": self.racing,
            "ahead": self.ahead,
            "sampler_seed": self.sampler_seed,
            "default": DEFAULT,
        }

    @classmethod
    def described(cls, description: dict[str, Any], others: dict[str, Any]) -> Search:
        """The search that `describe` described; `others` are the fields that it leaves out."""
        same = ("aggregate", "suggestions", "select", "racing", "ahead", "sampler_seed")
        return cls(
            space=parse_mapping(description["space"]),
            objectives=tuple(description["objectives"]),
            test=tuple(description["test_patients"]),
            **{name: description[name] for name in same},
            **others,
        )


def _unknown(place: str, value: str, known: Collection[str]) -> list[Problem]:
    if value in known:
        return []
    return [Problem("-", place, f"{value!r} is unknown; expected one of {', '.join(known)}")]
