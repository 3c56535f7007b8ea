"""A benchmark: methods against each other, every one on every section with its seeds."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any

from senca_ray import keys
from senca_ray.config import Setting
from senca_ray.data.shards import read_meta
from senca_ray.errors import Problem, ProblemsError
from senca_ray.fit.choices import CLUSTERINGS
from senca_ray.methods import MODEL, Method, RegionMethod, all_methods
from senca_ray.methods.protocol import Protocol
from senca_ray.study.grid import check_stored, seed_problems
from senca_ray.study.trial import Trial

Entry = tuple[str, tuple[str, ...]]
"""A method and the clusterings it is read with, the first of them its main one."""


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """What is compared and how it is judged; the cohort comes separately.

    Raises ProblemsError naming everything that is wrong with it.
    """

    name: str
    title: str
    setting: Setting
    """Of the methods that follow a study's setting; all others bring their own."""
    methods: tuple[str, ...] = keys.METHOD_KINDS
    """NAME, NAME:CLUSTERING, or all methods of a kind: model, null, simple, published."""
    reference: str = MODEL
    """The method, or METHOD:CLUSTERING, that every other is tested against."""
    unit: str = keys.PATIENT
    """'patient': sections of a patient are averaged before a test; 'section': each counts by itself."""
    seeds: tuple[int, ...]
    slow_seeds: int = 3
    """Seeds of methods whose fits take minutes: the first so many."""
    sensitivity: bool = True
    """Read every fit under other protocols too, to see what the ranking owes to the protocol."""
    protocol: Protocol = field(default_factory=Protocol)

    def __post_init__(self) -> None:
        problems = list(seed_problems(self.seeds))
        for place, given in (("methods", self.methods), ("reference", (self.reference,))):
            problems += [Problem("-", place, message) for text in given if (message := _wrong(text))]
        if self.reference in keys.METHOD_KINDS:
            problems.append(Problem("-", "reference", f"{self.reference!r} found; expected one method"))
        if not self.methods:
            problems.append(Problem("-", "methods", "none found; expected at least one"))
        if self.unit not in keys.UNITS:
            message = f"{self.unit!r} found; expected one of {', '.join(keys.UNITS)}"
            problems.append(Problem("-", "unit", message))
        if self.slow_seeds < 1:
            problems.append(Problem("-", "slow_seeds", f"{self.slow_seeds} found; expected 1 or more"))
        if problems:
            raise ProblemsError(problems, f"the study {self.name}")

    @property
    def controls(self) -> tuple[str, ...]:
        """Those of its methods that are nobody's proposal: nulls and simple ones."""
        known = all_methods()
        return tuple(name for name, _ in self.entries() if known[name].kind in (keys.NULL, keys.SIMPLE))

    def entries(self) -> list[Entry]:
        """Its methods, the reference first, each with its clusterings."""
        known = all_methods()
        found: dict[str, dict[str, None]] = {}
        for text in (self.reference, *self.methods):
            name, _, clustering = text.partition(":")
            names = [n for n, m in known.items() if m.kind == name] if name in keys.METHOD_KINDS else [name]
            for each in names:
                every = known[each].clusterings or (self.protocol.clustering,)
                found.setdefault(each, {}).update(dict.fromkeys((clustering,) if clustering else every))
        return [(name, tuple(clusterings)) for name, clusterings in found.items()]

    def describe(self) -> dict[str, Any]:
        """What the study's description says about it besides cohort, setting, seeds and protocol."""
        return {
            "kind": "benchmark",
            # By name: what a kind holds may be more when the study is gone on with.
            "methods": [f"{name}:{clustering}" for name, all_ in self.entries() for clustering in all_],
            "reference": self.reference,
            "unit": self.unit,
            "slow_seeds": self.slow_seeds,
            "sensitivity": self.sensitivity,
            "variants": {keys.DEFAULT: {}},
            "default": keys.DEFAULT,
            "vary": None,
        }

    def most_trials(self, shards: dict[str, str]) -> int:
        """Number of its trials."""
        return len(self.trials(shards))

    def trials(self, shards: dict[str, str]) -> list[Trial]:
        """Every trial over these shards (sample id to address), those that take longest first.

        Raises ProblemsError where a shard stores too little.
        """
        metas = {sample: read_meta(uri) for sample, uri in shards.items()}
        known = all_methods()
        if any(known[name].follows_setting for name, _ in self.entries()):
            check_stored(metas, [self.setting])
        trials = [
            self._trial(known[name], clusterings, sample, uri, metas[sample]["label_source"])
            for sample, uri in shards.items()
            for name, clusterings in self.entries()
            if not known[name].needs_image or metas[sample]["modality"] == keys.RNA_IMAGE
        ]
        # A long one left for last would keep the other cores idle.
        return sorted(trials, key=lambda t: (not known[t.method].slow, -metas[t.sample]["spots"]))

    def _trial(
        self, used: Method, clusterings: tuple[str, ...], sample: str, uri: str, label_source: str
    ) -> Trial:
        seeds = self.seeds[: self.slow_seeds] if used.slow else self.seeds
        main, *others = (
            dataclasses.replace(self.protocol, clustering=clustering, own=False) for clustering in clusterings
        )
        readings = main.variations() if self.sensitivity else []
        if isinstance(used, RegionMethod):
            # Another k would be another fit.
            readings = [r for r in readings if r.k_policy == main.k_policy]
        if label_source == keys.UNLABELLED:
            same = main.undetermined
            readings = [r for r in readings if r.k_policy != "labels" and r.undetermined == same]
        return Trial(
            study=self.name,
            method=used.name,
            label=keys.DEFAULT if used.follows_setting else keys.FIXED,
            setting=self.setting,
            sample=sample,
            shard=uri,
            seeds=seeds if used.seeded else seeds[:1],
            protocol=main,
            also=(*others, *readings),
        )


def _wrong(text: str) -> str:
    """What is wrong with the name of a method, a method's clustering or a kind; empty when nothing is."""
    name, colon, clustering = text.partition(":")
    known = all_methods()
    if name in keys.METHOD_KINDS and not colon:
        return ""
    if name not in known:
        kinds, names = ", ".join(keys.METHOD_KINDS), ", ".join(known)
        return f"{name!r} is unknown; expected a kind ({kinds}) or one of {names}; `senca methods` tells more"
    own = (keys.OWN,) if keys.OWN in known[name].clusterings else ()
    expected = (*CLUSTERINGS, *own)
    if colon and clustering not in expected:
        return f"{text!r}: clustering {clustering!r} found; expected one of {', '.join(expected)}"
    return ""
