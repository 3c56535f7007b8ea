"""A study in words: what a recipe's options or a YAML file say, and the study that they make.

    name: sweep-neighbors
    title: Effect of the neighbour count
    sweep: {vary: neighbors, values: [4, 8, 16]}
    cohort: {data: her2st/data, format: her2st}
    seeds: 15

Exactly one of `sweep`, `ablation`, `search`, `benchmark` and `markers` says what kind of study it is.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from senca_ray import keys
from senca_ray.config import PrepareConfig, Setting, from_mapping, read_yaml
from senca_ray.errors import ConfigError, Problem, ProblemsError
from senca_ray.home import study_home
from senca_ray.model.encoders.files import weights_by_encoder

if TYPE_CHECKING:
    from senca_ray.cohort import Cohort
    from senca_ray.experiment import Study

SIMULATED_SEEDS, REAL_SEEDS = 5, 15
"""Seeds by default: enough to see the mechanics, and what a claim about sections needs."""

_KINDS = ("sweep", "ablation", "search", "benchmark", "markers")
_STRICT: dict[str, str] = {"extra": "forbid"}


@dataclass(frozen=True, kw_only=True)
class SweepPart:
    """One setting varied over a grid of values."""

    __pydantic_config__: ClassVar[dict[str, str]] = _STRICT

    vary: str
    """Field of Setting."""
    values: tuple[Any, ...]
    """The study's own value has to be among them: the others are tested against it."""


@dataclass(frozen=True, kw_only=True)
class AblationPart:
    """Parts of the model left out, one at a time."""

    __pydantic_config__: ClassVar[dict[str, str]] = _STRICT

    variants: dict[str, dict[str, Any]] | None = None
    """Name of each variant to the fields of Setting that it changes; left out: Table 4 and more."""
    default: str = "full"
    """The variant that the others are tested against."""


@dataclass(frozen=True, kw_only=True)
class SearchPart:
    """Optuna over the cohort."""

    __pydantic_config__: ClassVar[dict[str, str]] = _STRICT

    space: dict[str, Any]
    """Field of Setting to {low, high, log, step} or to a list of choices."""
    objectives: tuple[str, ...] = ("ari",)
    """One or two scores; those that need no labels: silhouette, chaos, pas, stability, loss_last."""
    aggregate: Literal["mean", "median", "rank"] = "mean"
    """How the scores of the patients become the one number that Optuna sees."""
    suggestions: int = 20
    """Settings tried in every fold; the first is the study's own."""
    select: Literal["none", "loo-patient", "test-patients"] = "loo-patient"
    """On whom a choice is tested: nobody, every patient in turn, or those of `test`."""
    test: tuple[str, ...] = ()
    """Patients, or all sections of them, that take no part in the choice."""
    racing: bool | None = None
    """Stop a suggestion early that is significantly worse than the best; left out: yes, for one objective."""
    ahead: int | None = None
    """Suggestions under way at once; left out: as many as the cluster has room for trials."""
    sampler_seed: int = 0
    """Another seed, other suggestions."""


@dataclass(frozen=True, kw_only=True)
class BenchmarkPart:
    """Methods against each other."""

    __pydantic_config__: ClassVar[dict[str, str]] = _STRICT

    methods: tuple[str, ...] = keys.METHOD_KINDS
    """NAME, NAME:CLUSTERING, or all methods of a kind: model, null, simple, published."""
    reference: str = "senca"
    """The method, or METHOD:CLUSTERING, that every other is tested against."""
    unit: str = "patient"
    """What counts as one independent observation; sections of one patient are none."""
    slow_seeds: int = 3
    """Seeds of methods whose fits take minutes."""
    sensitivity: bool = True
    """Read every fit under other protocols too, to see what the ranking owes to the protocol."""


@dataclass(frozen=True, kw_only=True)
class MarkersPart:
    """Marker genes of the model's regions."""

    __pydantic_config__: ClassVar[dict[str, str]] = _STRICT

    genes: tuple[str, ...] | None = None
    """Genes to report beside each region's strongest; left out: those of the paper's Table 3."""


@dataclass(frozen=True, kw_only=True)
class CohortPart:
    """Where the sections come from; all left out: the embedded simulated cohort."""

    __pydantic_config__: ClassVar[dict[str, str]] = _STRICT

    data: str | None = None
    """Folder with raw sections, cohort file, or their address (s3://, gs://)."""
    format: str | None = None
    """Format of that folder; left out: detected."""
    samples: tuple[str, ...] = ()
    """Only these sections."""
    shards: str | None = None
    """Folder or address where prepared sections are kept; left out: your cache folder."""
    encoder_weights: Path | dict[str, Path] | None = None
    """File with the weights of the encoder; of several encoders a mapping from name to file."""


@dataclass(frozen=True, kw_only=True)
class StudyFile:
    """Everything that a study is, in words."""

    __pydantic_config__: ClassVar[dict[str, str]] = _STRICT

    name: str
    """Short name: part of the folder's name and of every result row."""
    title: str = ""
    """One line for tables and the page; left out: the name."""
    sweep: SweepPart | None = None
    ablation: AblationPart | None = None
    search: SearchPart | None = None
    benchmark: BenchmarkPart | None = None
    markers: MarkersPart | None = None
    cohort: CohortPart = field(default_factory=CohortPart)
    seeds: int | None = None
    """Fits are repeated with seeds 0 to this number less one; left out: 5, on your own sections 15."""
    k: str = "labels"
    """Number of regions: 'labels' (an oracle), 'fixed:N' or 'auto'."""
    clustering: str = "ward"
    """ward, average, complete, kmeans, gmm-tied or leiden."""
    pair: tuple[str, str] | None = None
    """Two labels whose separation is scored."""
    undetermined: str = keys.UNSCORED
    """Spots labelled undetermined: 'unscored' (clustered), 'dropped' (not clustered either) or 'scored'."""
    refined: bool = False
    """Give a spot the region that most of its neighbours have."""
    setting: Setting = field(default_factory=Setting)
    """How the model is fitted."""
    prepare: PrepareConfig = field(default_factory=PrepareConfig)
    """How sections become shards."""

    def __post_init__(self) -> None:
        problems = []
        found = [part for part in _KINDS if getattr(self, part) is not None]
        if len(found) != 1:
            message = f"{' and '.join(found) or 'none'} found; expected exactly one of {', '.join(_KINDS)}"
            problems.append(Problem("-", "kind", message))
        if not self.name or not set(self.name) <= _NAME:
            message = f"{self.name!r} found; expected letters, digits, '-', '_': it names a folder"
            problems.append(Problem("-", "name", message))
        if self.seeds is not None and self.seeds < 1:
            problems.append(Problem("-", "seeds", f"{self.seeds} found; expected 1 or more"))
        checks = (self._weights, self.study) if len(found) == 1 else (self._weights,)
        for check in checks:
            try:
                check()
            except ProblemsError as error:
                problems += [p for p in error.problems if p not in problems]
        if problems:
            raise ConfigError(problems, "the study")

    def out(self) -> str:
        """Where the study lives unless told otherwise: studies/NAME-COHORT, below SENCA_STORAGE if set."""
        return study_home(f"{self.name}-{self.sections().name}")

    def sections(self) -> Cohort:
        """The cohort that it names."""
        from senca_ray.cohort import Cohort

        given = self.cohort
        return Cohort(
            data=given.data,
            format=given.format,
            samples=given.samples,
            shards=given.shards,
            prepare=self.prepare,
            weights=self._weights(),
        )

    def _weights(self) -> dict[str, Path]:
        return weights_by_encoder(
            self.cohort.encoder_weights, self.prepare.encoders, "cohort.encoder_weights"
        )

    def study(self) -> Study:
        """The study that it describes; raises ProblemsError with everything that is wrong in it."""
        from senca_ray.methods.protocol import Protocol

        count = self.seeds or (REAL_SEEDS if self.cohort.data else SIMULATED_SEEDS)
        problems: list[Problem] = []
        protocol = Protocol()
        try:
            protocol = Protocol(self.k, self.clustering, self.pair, self.undetermined, self.refined)
        except ProblemsError as error:
            problems += error.problems
        shared: dict[str, Any] = {
            "name": self.name,
            "title": self.title or self.name,
            "setting": self.setting,
            "seeds": tuple(range(count)),
            "protocol": protocol,
        }
        made: Study | None = None
        try:
            made = self._made(shared)
            problems += self._encoder_problems(made) + self._finetune_problems(made)
        except ProblemsError as error:
            problems += error.problems
        if problems or made is None:
            raise ProblemsError(problems, "the study")
        return made

    def _encoder_problems(self, study: Study) -> list[Problem]:
        """Encoders that the study fits with and its sections are not prepared with."""
        unknown = sorted(_asked(study, "encoder") - {"", *self.prepare.encoders})
        expected = f"expected one of prepare.encoders: {', '.join(self.prepare.encoders)}; or add it there"
        return [Problem("-", "encoder", f"{name!r} found; {expected}") for name in unknown]

    def _finetune_problems(self, study: Study) -> list[Problem]:
        """What fine-tuning needs and the sections are not prepared with."""
        with_images = self.prepare.read_images and True in _asked(study, "image")
        if True not in _asked(study, "finetune") or not with_images:
            return []
        problems = []
        if not self.prepare.store_patches:
            message = "true found, and sections prepared without the patches that it reads; add prepare."
            message += "store_patches: true to the file, --set store_patches=true to a command"
            problems.append(Problem("-", "finetune", message))
        first = self.prepare.encoders[0]
        from_files = {name or first for name in _asked(study, "encoder")} & set(self._weights())
        for name in sorted(from_files):
            message = f"true found, and a file with the weights of {name}; expected an encoder without one: "
            message += "a worker, which has no such file, would start from other weights"
            problems.append(Problem("-", "finetune", message))
        return problems

    def _made(self, shared: dict[str, Any]) -> Study:
        from senca_ray.analysis.markers import paper_markers
        from senca_ray.study import grid
        from senca_ray.study.benchmark import Benchmark
        from senca_ray.study.search import Search
        from senca_ray.study.space import parse_mapping

        if self.sweep:
            return grid.sweep(vary=self.sweep.vary, values=self.sweep.values, **shared)
        if self.ablation:
            variants = grid.ABLATIONS if self.ablation.variants is None else self.ablation.variants
            return grid.Grid(variants=variants, default=self.ablation.default, **shared)
        if self.benchmark:
            return Benchmark(**shared, **dataclasses.asdict(self.benchmark))
        if self.markers:
            genes = self.markers.genes
            genes = tuple(dict.fromkeys(paper_markers()["gene"])) if genes is None else genes
            return grid.Grid(variants={keys.DEFAULT: {}}, default=keys.DEFAULT, markers=genes, **shared)
        assert self.search is not None
        given = {f.name: getattr(self.search, f.name) for f in dataclasses.fields(SearchPart)}
        if self.search.racing is None:
            given["racing"] = len(self.search.objectives) == 1
        try:
            return Search(**shared | given | {"space": parse_mapping(self.search.space)})
        except ProblemsError as error:
            problems = list(error.problems)
        # What cannot be read keeps nobody from hearing what else is wrong.
        try:
            Search(**shared | given | {"space": {}})
        except ProblemsError as error:
            problems += [p for p in error.problems if p not in problems and p.place != "space"]
        raise ProblemsError(problems, "the search")


def _asked(study: Study, field: str) -> set[Any]:
    """Every value of a field of Setting that the study may fit with."""
    given = getattr(study.setting, field)
    asked = {given}
    for changes in getattr(study, "variants", {}).values():
        asked.add(changes.get(field, given))
    if choice := getattr(study, "space", {}).get(field):
        asked |= set(choice.ends())
    return asked


_NAME = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_")


def read_study_file(path: Path) -> StudyFile:
    """Read a study from YAML; raises ProblemsError with every wrong or unknown entry at once."""
    try:
        return from_mapping(StudyFile, read_yaml(path))
    except ProblemsError as error:
        raise ProblemsError(error.problems, str(path)) from None
