"""A grid: variants of one setting, every one on every section with every seed, beside the controls."""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from typing import Any

from senca_ray import keys
from senca_ray.config import Setting
from senca_ray.data.shards import read_meta
from senca_ray.errors import Problem, ProblemsError
from senca_ray.methods import CONTROLS, MODEL, method
from senca_ray.methods.protocol import Protocol
from senca_ray.study.trial import Trial

Changes = dict[str, Any]
"""Fields of Setting with the values that differ from the study's own."""


@dataclass(frozen=True, kw_only=True)
class Grid:
    """What is compared and how it is judged; the cohort comes separately."""

    name: str
    title: str
    setting: Setting
    """What every variant starts from."""
    variants: dict[str, Changes]
    """Label of a variant, as result rows name it, to what it changes; in the order of tables and figures."""
    default: str
    """Label of the variant that the others are tested against."""
    vary: str | None = None
    """The one field of Setting that all variants change; None where they are of different kinds."""
    seeds: tuple[int, ...]
    protocol: Protocol = field(default_factory=Protocol)
    controls: tuple[str, ...] = CONTROLS
    markers: tuple[str, ...] | None = None
    """Genes to report in the regions of the default, beside each region's strongest; None: no markers."""

    def __post_init__(self) -> None:
        problems = list(seed_problems(self.seeds))
        if self.default not in self.variants:
            message = (
                f"{self.default!r} is not among {', '.join(self.variants) or 'the variants (there are none)'}"
            )
            problems.append(Problem("-", "default", f"{message}; add it, the others are tested against it"))
        for label, changes in self.variants.items():
            try:
                changed(self.setting, changes)
            except ProblemsError as error:
                problems += [Problem("-", f"{label}: {p.place}", p.message) for p in error.problems]
        if problems:
            raise ProblemsError(problems, f"the study {self.name}")

    def describe(self) -> dict[str, Any]:
        """What the study's description says about it besides cohort, setting, seeds and protocol."""
        own = {"kind": "grid", "variants": self.variants, "vary": self.vary, "default": self.default}
        return own if self.markers is None else own | {"markers": list(self.markers)}

    def most_trials(self, shards: dict[str, str]) -> int:
        """Number of its trials."""
        return len(self.trials(shards))

    def trials(self, shards: dict[str, str]) -> list[Trial]:
        """Every trial over these shards (sample id to address), those that take longest first.

        A variant that gives a section the same network as the default does (no image branch on a section
        without image) is left out there. Raises ProblemsError where a shard stores too little.
        """
        metas = {sample: read_meta(uri) for sample, uri in shards.items()}
        settings = {label: changed(self.setting, changes) for label, changes in self.variants.items()}
        check_stored(metas, settings.values())
        default = settings[self.default]
        trials = []
        for sample, uri in shards.items():
            has_image = metas[sample]["modality"] == keys.RNA_IMAGE
            for label, setting in settings.items():
                if label == self.default or _network(setting, has_image) != _network(default, has_image):
                    trials.append(
                        Trial(self.name, MODEL, label, setting, sample, uri, self.seeds, self.protocol)
                    )
            trials += control_trials(self, default, self.default, sample, uri, has_image)
        # The workers start them in this order; a long one left for last would keep the other cores idle.
        return sorted(trials, key=lambda t: _order(t, metas[t.sample]["spots"]))


def _order(trial: Trial, spots: int) -> tuple[bool, bool, int]:
    """Smallest for what takes longest; the first trial also tells how much memory one needs."""
    return trial.method != MODEL, not trial.setting.tunes_encoder, -spots


def sweep(*, vary: str, values: Iterable[Any], setting: Setting, **others: Any) -> Grid:
    """Return the grid that varies one field; the setting's own value is the default. Raises ProblemsError."""
    given = tuple(values)
    problems = []
    if vary not in {f.name for f in dataclasses.fields(Setting)}:
        known = ", ".join(f.name for f in dataclasses.fields(Setting))
        problems.append(Problem("-", "vary", f"{vary!r} is unknown; expected one of {known}"))
    elif not given or len(set(given)) != len(given):
        problems.append(Problem("-", "values", f"{list(given)} found; expected at least one, none twice"))
    elif getattr(setting, vary) not in given:
        message = (
            f"{getattr(setting, vary)!r} is not among {list(given)}; add it, the others are tested against it"
        )
        problems.append(Problem("-", vary, message))
    problems += seed_problems(others["seeds"])
    if problems:
        raise ProblemsError(problems, f"the study {others['name']}")
    variants = {_value_label(vary, value): {vary: value} for value in given}
    default = _value_label(vary, getattr(setting, vary))
    return Grid(setting=setting, variants=variants, default=default, vary=vary, **others)


def _value_label(vary: str, value: Any) -> str:
    return f"{vary}={value:g}" if isinstance(value, float) else f"{vary}={value}"


FULL = "full"
ABLATIONS: dict[str, Changes] = {
    FULL: {},
    "no attention weights": {"attention": "uniform"},
    "no hierarchical learning": {"contrast": False},
    "no image": {"image": False},
    "no graph": {"graph": False},
}
"""The paper's Table 4 (its first two ablations), and two more that a reviewer would ask for."""


class GridPlan:
    """The plan of a fixed list of trials."""

    def __init__(self, trials: list[Trial], done: Callable[[Trial], bool]) -> None:
        """`done` tells the trials that need not run because all their rows are there."""
        self._waiting = deque(t for t in trials if not done(t))
        self._running = 0
        self._all = len(trials)

    @property
    def done(self) -> int:
        """Trials that have ended, or need not run."""
        return self._all - self.left

    @property
    def left(self) -> int:
        """Trials that have not ended."""
        return len(self._waiting) + self._running

    @property
    def finished(self) -> bool:
        """True when every trial has ended."""
        return not self._waiting and not self._running

    def next(self) -> Trial | None:
        """The next trial in the order given; None when all have started."""
        if not self._waiting:
            return None
        self._running += 1
        return self._waiting.popleft()

    def ended(self, trial: Trial) -> None:
        """Count it."""
        self._running -= 1


def changed(setting: Setting, changes: Changes) -> Setting:
    """The setting with some fields replaced; raises ProblemsError for unknown fields and wrong values."""
    from senca_ray.config import from_mapping

    return from_mapping(Setting, dataclasses.asdict(setting) | changes)


def control_trials(
    study: Any, setting: Setting, label: str, sample: str, uri: str, has_image: bool
) -> list[Trial]:
    """The trials of a study's controls on one section; `label` names the default setting."""
    trials = []
    for name in study.controls:
        control = method(name)
        if has_image or not control.needs_image:
            seeds = study.seeds if control.seeded else study.seeds[:1]
            named = label if control.follows_setting else keys.FIXED
            trials.append(Trial(study.name, name, named, setting, sample, uri, seeds, study.protocol))
    return trials


def seed_problems(seeds: tuple[int, ...]) -> list[Problem]:
    """What is wrong with a study's seeds."""
    if seeds and len(set(seeds)) == len(seeds) and min(seeds) >= 0:
        return []
    return [Problem("-", "seeds", f"{list(seeds)} found; expected at least one, 0 or more, none twice")]


def check_stored(metas: dict[str, dict[str, Any]], settings: Collection[Setting]) -> None:
    """Raise ProblemsError naming every shard that holds less than a setting asks for.

    That is genes, neighbours, and the patches of a section with image that fine-tuning reads.
    """
    stored = {"neighbors": "neighbors", "hvgs": "genes"}
    fix = {"neighbors": "prepare with --set max_neighbors={}", "hvgs": "leave the section out"}
    problems = []
    for name, held in stored.items():
        asked = max(getattr(setting, name) for setting in settings)
        for sample, meta in metas.items():
            if asked > meta[held]:
                message = f"{asked} asked for, the shard holds {meta[held]}; ask for fewer or "
                problems.append(Problem(sample, name, message + fix[name].format(asked)))
    if any(setting.tunes_encoder for setting in settings):
        for sample, meta in metas.items():
            if meta["modality"] == keys.RNA_IMAGE and not meta.get("config", {}).get("store_patches"):
                message = "true found, the shard holds no patches; prepare with --set store_patches=true "
                problems.append(Problem(sample, "finetune", f"{message}(`senca prepare DATA --patches`)"))
    if problems:
        raise ProblemsError(problems, f"{len(metas)} samples")


def _network(setting: Setting, has_image: bool) -> Setting:
    """The setting as a section sees it: without an image no image branch, nothing to contrast or to tune."""
    if has_image and setting.image:
        return setting
    return dataclasses.replace(setting, image=False, contrast=False, finetune=False)
