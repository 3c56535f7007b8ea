"""Frozen typed configs; every field is documented, every value checked at construction.

They are plain dataclasses, not pydantic models, because `fit`, `model` and `methods` have to import
where pydantic is not installed (a bare GPU machine). Reading one from YAML goes through pydantic, which
understands dataclasses: see `load_config`.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeVar, get_args, get_type_hints

from senca_ray.errors import ConfigError, Problem, ProblemsError, SencaError

Target = Literal["standardised", "literal"]
Softmax = Literal["neighbours", "product"]
Attention = Literal["learned", "uniform"]
Form = Literal["auto", "exact", "large"]


def _check(config: object, conditions: dict[str, tuple[bool, str]]) -> None:
    """Raise every failed condition at once; `conditions` maps a field to (holds, what is expected)."""
    problems = [
        Problem("-", field, f"{getattr(config, field)!r} found; expected {expected}")
        for field, (holds, expected) in conditions.items()
        if not holds
    ]
    if problems:
        raise ConfigError(problems, "the settings")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Setting:
    """What a method is fitted with; the defaults are the paper's (SENCA-st section 4.1.1)."""

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    hvgs: int = 500
    """Number of highly variable genes: a prefix of the shard's gene order."""
    neighbors: int = 4
    """Neighbourhood size K: a prefix of the shard's neighbour order, the spot itself not counted."""
    embedding: int = 128
    """Dimension of the RNA and image embeddings R and H."""
    hidden: int = 256
    """Hidden dimension of the graph transformer's feed-forward network."""
    bottleneck: int = 64
    """Dimension of the shared embedding S."""
    dropout: float = 0.2
    """Share of the input expression masked in training."""
    mse_weight: float = 40.0
    """λ of eq. 1, the weight of the reconstruction term."""
    temperature: float = 0.5
    """Temperature of the NT-Xent terms; the paper does not give one."""
    learning_rate: float = 5e-4
    """Adam's step size."""
    epochs: int = 10
    """Full-graph gradient steps."""
    target: Target = "standardised"
    """Reading of 'MSE between encoder input and decoder output': see docs/model.md."""
    softmax: Softmax = "neighbours"
    """Reading of eqs. 3-4: softmax over the neighbours' weights, or literally over the product."""
    attention: Attention = "learned"
    """Weights of the cross-attention; 'uniform' weighs a neighbourhood's spots alike (Table 4)."""
    contrast: bool = True
    """The NT-Xent terms of eq. 1; False leaves the hierarchical learning out (Table 4)."""
    image: bool = True
    """The image branch; False leaves it out where a section has an image."""
    graph: bool = True
    """The spatial graph; False makes every spot its own whole neighbourhood."""
    encoder: str = ""
    """Which of the shard's encoders the image features are of; left empty: the first."""
    finetune: bool = False
    """Train the image encoder too, as the paper does, on the patches kept in the shard (`senca prepare
    --patches`); False: its stored features."""
    form: Form = "auto"
    """How attention, contrast and clustering are computed: 'exact', 'large' (time and memory grow about
    linearly with the spots), or 'auto', by the number of spots: see docs/scale.md."""

    def __post_init__(self) -> None:
        positive = ("hvgs", "neighbors", "embedding", "hidden", "bottleneck", "epochs")
        conditions = {f: (getattr(self, f) >= 1, "1 or more") for f in positive}
        conditions |= {
            "dropout": (0 <= self.dropout < 1, "a share from 0 to below 1"),
            "mse_weight": (self.mse_weight >= 0, "0 or more"),
            "temperature": (self.temperature > 0, "more than 0"),
            "learning_rate": (self.learning_rate > 0, "more than 0"),
            "target": (self.target in ("standardised", "literal"), "'standardised' or 'literal'"),
            "softmax": (self.softmax in ("neighbours", "product"), "'neighbours' or 'product'"),
            "attention": (self.attention in ("learned", "uniform"), "'learned' or 'uniform'"),
            "form": (self.form in ("auto", "exact", "large"), "'auto', 'exact' or 'large'"),
        }
        _check(self, conditions)

    @property
    def tunes_encoder(self) -> bool:
        """Whether the image encoder is trained where a section has an image."""
        return self.finetune and self.image

    def to_json(self) -> str:
        """Canonical text of this setting: the same setting always gives the same text."""
        return json.dumps(dataclasses.asdict(self), sort_keys=True)


@dataclasses.dataclass(frozen=True, kw_only=True)
class PrepareConfig:
    """How raw sections become shards; every field is part of the shard's fingerprint."""

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    min_gene_count: int = 10
    """Genes with a smaller total count over the section are dropped (paper, section 3.1)."""
    min_gene_spots: int = 0
    """Genes counted in fewer spots of the section are dropped; 0, the paper's, drops none."""
    target_sum: float = 1e4
    """Counts of a spot are scaled to this total before log1p."""
    hvg_flavor: Literal["seurat", "cell_ranger"] = "seurat"
    """Scanpy's flavour of normalised dispersion by which genes are ordered."""
    max_neighbors: int = 16
    """Neighbours stored for each spot; a study may use any prefix."""
    read_images: bool = True
    """False: every section is prepared as if it had no image, so that all of a cohort are alike."""
    encoders: tuple[str, ...] = ("efficientnet-lite0",)
    """Image encoders, whose features are kept side by side: efficientnet-lite0 (packaged weights), any ResNet
    of torchvision, timm:NAME for any model of timm, or random."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """What the encoders compute in; bfloat16 is about twice as fast and a little less exact."""
    patch_radius: float = 1.0
    """Half the side of a patch, in spot distances (the paper: up to 3)."""
    patch_um: float | None = None
    """Side of a patch in micrometres, in place of patch_radius; for sections whose scale is known."""
    patch_pixels: int = 224
    """Side in pixels to which a patch is resized for the encoder."""
    stain: Literal["none", "macenko", "reinhard"] = "none"
    """Stain normalisation of the patches before they are encoded."""
    store_patches: bool = False
    """Keep the patches (uint8) in the shard, for training the encoder end to end."""
    max_image_pixels: int = 20_000_000_000
    """Images that declare more pixels than this are refused before they are decoded."""

    def __post_init__(self) -> None:
        conditions = {
            "min_gene_count": (self.min_gene_count >= 0, "0 or more"),
            "min_gene_spots": (self.min_gene_spots >= 0, "0 or more"),
            "target_sum": (self.target_sum > 0, "more than 0"),
            "hvg_flavor": (self.hvg_flavor in ("seurat", "cell_ranger"), "'seurat' or 'cell_ranger'"),
            "max_neighbors": (self.max_neighbors >= 10, "10 or more (spatial coherence looks at 10)"),
            "patch_radius": (0 < self.patch_radius <= 10, "a number of spot distances up to 10"),
            "patch_um": (self.patch_um is None or 0 < self.patch_um <= 2000, "up to 2000 micrometres"),
            "patch_pixels": (32 <= self.patch_pixels <= 1024, "32 to 1024 pixels"),
            "encoders": (0 < len(self.encoders) == len(set(self.encoders)), "one or more, none twice"),
            "precision": (self.precision in ("float32", "bfloat16"), "'float32' or 'bfloat16'"),
            "stain": (self.stain in ("none", "macenko", "reinhard"), "'none', 'macenko' or 'reinhard'"),
            "max_image_pixels": (self.max_image_pixels >= 1, "1 or more"),
        }
        _check(self, conditions)


@dataclasses.dataclass(frozen=True, kw_only=True)
class QualityLimits:
    """From where on a section's quality is worth a warning; docs/quality.md gives the defaults' reasons.

    Nothing is left out because of them, and no shard depends on them.
    """

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    min_spots: int = 100
    """With fewer, each of six regions has less spots than a neighbourhood of 16."""
    min_median_counts: float = 500.0
    """Below it most spots would fail the usual filter of single cells (500 counts)."""
    min_median_genes: float = 200.0
    """Below it most spots would fail the usual filter of single cells (200 genes)."""
    max_mito_share: float = 0.2
    """Above it most spots would fail the usual filter for dying cells (20 % mitochondrial counts)."""
    min_sharpness: float = 0.1
    """Measured: sharp images have 0.4 and more; at 0.1 nuclei have run together."""
    max_off_tissue: float = 0.1
    """Share of spots that lie on glass; measured: under 0.01 on aligned sections, 0.09 to 0.21 at a shift of
    2 spot distances."""
    max_shift: float = 0.5
    """Spot distances between the spots' place and where they fit the tissue best: farther off, a spot lies
    nearer to its neighbour's tissue than to its own."""
    max_turned_gain: float = 0.05
    """By how much the spots may fit the tissue better mirrored, rotated or with x and y swapped; measured:
    -0.11 and less on aligned sections, 0.11 and more on wrongly turned ones."""
    max_shared_spots: float = 0.1
    """Share of its spots that a section may have in common with another; measured: none, replicates too."""

    def __post_init__(self) -> None:
        least = ("min_spots", "min_median_counts", "min_median_genes", "min_sharpness", "max_shift")
        shares = ("max_mito_share", "max_off_tissue", "max_turned_gain", "max_shared_spots")
        conditions = {f: (0 <= getattr(self, f) < math.inf, "0 or more") for f in least}
        conditions |= {f: (0 <= getattr(self, f) <= 1, "a share from 0 to 1") for f in shares}
        _check(self, conditions)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Configs:
    """What a YAML file in `configs/` may hold; whatever it leaves out keeps its default."""

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    setting: Setting = dataclasses.field(default_factory=Setting)
    """How the model is fitted."""
    prepare: PrepareConfig = dataclasses.field(default_factory=PrepareConfig)
    """How sections become shards."""
    quality: QualityLimits = dataclasses.field(default_factory=QualityLimits)
    """From where on `senca quality` warns."""


ConfigT = TypeVar("ConfigT")


def from_mapping(kind: type[ConfigT], values: dict[str, Any]) -> ConfigT:
    """Build a config from untrusted values, reporting every wrong or unknown field at once."""
    from pydantic import TypeAdapter, ValidationError

    try:
        return TypeAdapter(kind).validate_python(values)
    except ValidationError as error:
        problems = [problem for found in error.errors() for problem in _problems(kind, found)]
        raise ProblemsError(problems, "the settings") from None


def _problems(kind: type, found: Any) -> Iterator[Problem]:
    """One error of pydantic's in our words; a nested config's own problems keep its place."""
    place = [str(part) for part in found["loc"]]
    cause = found.get("ctx", {}).get("error")
    if isinstance(cause, ConfigError):
        for problem in cause.problems:
            yield Problem(problem.sample, ".".join([*place, problem.place]), problem.message)
        return
    match found["type"]:
        case "missing":
            message = "missing; expected a value"
        case "unexpected_keyword_argument" | "extra_forbidden":
            message = f"unknown; expected one of {', '.join(_fields(kind, place[:-1]))}"
        case _:
            message = f"{_shown(found['input'])} found; {found['msg']}"
    yield Problem("-", ".".join(place) or kind.__name__, message)


def _fields(kind: type, place: Sequence[str]) -> list[str]:
    """Names of the fields of the config at `place` inside the config `kind`."""
    for name in place:
        hint = get_type_hints(kind).get(name)
        nested = (k for k in (hint, *get_args(hint)) if isinstance(k, type) and dataclasses.is_dataclass(k))
        kind = next(nested, kind)
    return [field.name for field in dataclasses.fields(kind)]


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML mapping; raises SencaError when the file is missing or is something else."""
    import yaml

    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise SencaError(f"{path}: cannot be read as YAML: {error}") from None
    if not isinstance(content, dict):
        raise SencaError(f"{path}: expected a mapping of names to values, found {type(content).__name__}")
    return content
