"""The trials that a study will run, and how long its fits take by those that were measured."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from senca_ray import keys
from senca_ray.config import Setting
from senca_ray.data.shards import read_meta
from senca_ray.fit.form import form_of
from senca_ray.methods import MODEL, TrainedMethod, method
from senca_ray.methods.base import followed
from senca_ray.study.folds import make_folds
from senca_ray.study.grid import control_trials
from senca_ray.study.search import Search
from senca_ray.study.space import Choice, Range
from senca_ray.study.trial import Trial

if TYPE_CHECKING:
    from senca_ray.experiment import Study

SUGGESTIONS = "suggestions"
"""How the trials of a search are named, whose settings nobody knows yet."""


@dataclass(frozen=True)
class Planned:
    """A trial to come."""

    trial: Trial
    spots: int
    modality: str

    @property
    def suggested(self) -> bool:
        """Whether its setting shows only while the study runs."""
        return self.trial.label == SUGGESTIONS

    @property
    def form(self) -> str:
        """The form of its fits: keys.EXACT or keys.LARGE."""
        return form_of(self.trial.setting, self.spots)

    @property
    def trains(self) -> bool:
        """Whether it runs on a GPU where there is one."""
        return isinstance(method(self.trial.method), TrainedMethod)


def planned_trials(study: Study, shards: dict[str, str]) -> list[Planned]:
    """Every trial of a study over these shards (sample id to address); of a search the most that it may run.

    Raises ProblemsError with everything that keeps the study from running over them.
    """
    metas = {sample: read_meta(uri) for sample, uri in shards.items()}
    trials = _searched(study, shards, metas) if isinstance(study, Search) else study.trials(shards)
    return [Planned(t, metas[t.sample]["spots"], metas[t.sample]["modality"]) for t in trials]


def _searched(study: Search, shards: dict[str, str], metas: dict[str, dict[str, Any]]) -> list[Trial]:
    """As many as `Search.most_trials` counts, one fold's suggestions like the other's."""
    study.most_trials(shards)  # checks the study against the sections
    folds = make_folds(metas, study.select, study.test)
    trials = []
    for sample, uri in shards.items():
        tunes = sum(sample in fold.tuning for fold in folds)
        tests = sum(sample in fold.test for fold in folds)
        count = (study.alike if tunes else 1) + (study.suggestions - study.alike) * tunes + tests
        suggested = Trial(
            study.name, MODEL, SUGGESTIONS, study.setting, sample, uri, study.seeds, study.protocol
        )
        trials += [suggested] * count
        has_image = metas[sample]["modality"] == keys.RNA_IMAGE
        trials += control_trials(study, study.setting, keys.DEFAULT, sample, uri, has_image)
    return trials


def config_of(name: str, setting: Setting) -> str:
    """The settings that a method is fitted with, as result rows keep them."""
    used = method(name)
    if used.follows_setting:
        return followed(used, setting).to_json()
    return json.dumps(dict(used.settings), sort_keys=True)


def to_measure(study: Study, planned: list[Planned]) -> list[Planned]:
    """Trials that tell how long the study's fits take: one seed of each method and setting on two sections.

    These are one of median size and the largest, of each modality and form. Of a search the model is fitted
    with its default and with both ends of the space. Methods whose fits take minutes are left out.
    """
    groups: dict[tuple[Any, ...], list[Planned]] = {}
    for one in planned:
        if not method(one.trial.method).slow:
            for setting in _settings(study, one):
                changed = dataclasses.replace(one.trial, setting=setting, seeds=one.trial.seeds[:1])
                key = (changed.method, config_of(changed.method, setting), one.modality, one.form)
                groups.setdefault(key, []).append(dataclasses.replace(one, trial=changed))
    chosen = []
    for group in groups.values():
        by_size = {one.spots: one for one in sorted(group, key=lambda one: one.spots)}
        sizes = list(by_size)
        chosen += [by_size[size] for size in dict.fromkeys((sizes[(len(sizes) - 1) // 2], sizes[-1]))]
    return chosen


def _settings(study: Study, one: Planned) -> Iterator[Setting]:
    yield one.trial.setting
    if one.suggested and isinstance(study, Search):
        for end in (min, max):
            changes = {field: end(given.ends()) for field, given in study.space.items() if _ordered(given)}
            yield dataclasses.replace(study.setting, **changes)


def _ordered(given: Range | Choice) -> bool:
    return all(isinstance(value, int | float) and not isinstance(value, bool) for value in given.ends())


def counts_by_method(planned: list[Planned]) -> Mapping[tuple[str, str], list[Planned]]:
    """The trials by method and setting, in the order of the study."""
    found: dict[tuple[str, str], list[Planned]] = {}
    for one in planned:
        found.setdefault((one.trial.method, one.trial.label), []).append(one)
    return found
