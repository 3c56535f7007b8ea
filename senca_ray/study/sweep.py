"""A sweep: one setting varied over a cohort, every value on every section with every seed."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from senca_ray import keys
from senca_ray.config import Setting
from senca_ray.data.shards import read_meta
from senca_ray.errors import Problem, ProblemsError
from senca_ray.methods import CONTROLS, MODEL, method
from senca_ray.methods.run import Protocol
from senca_ray.study.trial import Trial

FIXED = "fixed"
"""Setting of controls that ignore what is varied."""


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """What is varied and how it is judged; the cohort comes separately."""

    name: str
    title: str
    vary: str
    """Field of Setting that is varied."""
    values: tuple[Any, ...]
    setting: Setting
    """Everything else, and the default value that the others are tested against."""
    seeds: tuple[int, ...]
    protocol: Protocol
    controls: tuple[str, ...] = CONTROLS

    def __post_init__(self) -> None:
        problems = []
        if self.default not in self.values:
            message = (
                f"{self.default!r} is not among {list(self.values)}; add it, the others are tested against it"
            )
            problems.append(Problem("-", self.vary, message))
        for name, given in (("values", self.values), ("seeds", self.seeds)):
            if not given or len(set(given)) != len(given):
                problems.append(Problem("-", name, f"{list(given)} found; expected at least one, none twice"))
        if problems:
            raise ProblemsError(problems, f"the study {self.name}")

    @property
    def default(self) -> Any:
        """The value that the others are tested against."""
        return getattr(self.setting, self.vary)

    def label(self, value: Any) -> str:
        """How result rows name a value."""
        return f"{self.vary}={value}"

    def trials(self, shards: dict[str, str]) -> list[Trial]:
        """Every trial of the sweep over these shards (sample id to address), the longest first.

        Raises ProblemsError where a shard stores fewer genes or neighbours than a value asks for.
        """
        metas = {sample: read_meta(uri) for sample, uri in shards.items()}
        self._check(metas)
        trials = []
        for sample, uri in shards.items():
            has_image = metas[sample]["modality"] == keys.RNA_IMAGE
            for value in self.values:
                setting = dataclasses.replace(self.setting, **{self.vary: value})
                trials.append(self._trial(MODEL, self.label(value), setting, sample, uri))
            for name in self.controls:
                control = method(name)
                if has_image or not control.needs_image:
                    label = self.label(self.default) if control.follows_setting else FIXED
                    trials.append(self._trial(name, label, self.setting, sample, uri))
        # Tune starts them in this order; a long one left for last would keep the other cores idle.
        return sorted(trials, key=lambda t: (t.method != MODEL, -metas[t.sample]["spots"]))

    def _trial(self, name: str, label: str, setting: Setting, sample: str, shard: str) -> Trial:
        seeds = self.seeds if method(name).seeded else self.seeds[:1]
        return Trial(self.name, name, label, setting, sample, shard, seeds, self.protocol)

    def _check(self, metas: dict[str, dict[str, Any]]) -> None:
        stored = {"neighbors": "neighbors", "hvgs": "genes"}
        fix = {"neighbors": "prepare with --set max_neighbors={}", "hvgs": "leave the section out"}
        problems = []
        for field, held in stored.items():
            asked = max(self.values) if field == self.vary else getattr(self.setting, field)
            for sample, meta in metas.items():
                if asked > meta[held]:
                    message = f"{asked} asked for, the shard holds {meta[held]}; ask for fewer or "
                    message += fix[field].format(asked)
                    problems.append(Problem(sample, field, message))
        if problems:
            raise ProblemsError(problems, f"{len(metas)} samples")
