"""The two stages of `prepare` that run in Ray Data's tasks and actors, one section a row.

`read_section` reads, checks and orders what expression and positions give; `encode_and_write` adds what comes
from the image and writes the shard. No Ray in here.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from senca_ray import keys
from senca_ray.config import PrepareConfig
from senca_ray.data import readers, shards
from senca_ray.data.features import image_content
from senca_ray.data.quality import expression_quality
from senca_ray.data.remote import FarFiles, bring, fingerprint_of
from senca_ray.data.section import RawSection, SectionFiles
from senca_ray.data.store import open_store
from senca_ray.errors import Problem, ProblemsError, SencaError
from senca_ray.model.encoders.files import weights_digest


@dataclass(frozen=True)
class Recipe:
    """What turns a section into a shard, the same for every section of a call."""

    config: PrepareConfig
    weights: Mapping[str, str] | None
    """File of weights of each encoder that was given one, by the encoder's name."""
    store: str


@dataclass(frozen=True)
class Todo:
    """One section to prepare."""

    files: SectionFiles
    fingerprint: str
    far: FarFiles | None = None
    """Where its files are to be brought from; None for files on disk."""


def fingerprint(files: SectionFiles, recipe: Recipe) -> str:
    """Hex digest of the raw files, the recipe and the shard schema: the same input, the same shard."""
    content = {
        "schema": shards.SCHEMA_VERSION,
        "format": files.format,
        "sample": files.sample,
        "patient": files.patient,
        "label_source": files.label_source,
        "label_column": files.label_column,
        "part": files.part,
        "role": files.role,
        "config": dataclasses.asdict(recipe.config),
        "weights": {name: weights_digest(Path(file)) for name, file in (recipe.weights or {}).items()},
        "files": {files.place(p): fingerprint_of(p) or digest(p) for p in files.paths()},
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def digest(path: Path) -> str:
    """Hex digest of a file, or of all files in a folder with their names."""
    if not path.is_dir():
        return shards.sha256(path)
    inside = sorted(p for p in path.rglob("*") if p.is_file())
    listed = "".join(f"{p.relative_to(path).as_posix()}\n{shards.sha256(p)}\n" for p in inside)
    return hashlib.sha256(listed.encode()).hexdigest()


def read_section(row: dict[str, Any], todo: list[Todo], recipe: Recipe) -> dict[str, Any]:
    """Stage 1: read and check a section, order its genes and neighbours."""
    one = todo[row["item"]]
    content: shards.ShardContent | None = None
    kept = None
    with _failures(one.files) as problems, bring(one.files, one.far) as here:
        section = readers.reader(here.format).read(here, recipe.config.max_image_pixels)
        if not recipe.config.read_images:  # one inside another file is found by reading that
            section = dataclasses.replace(
                section, files=dataclasses.replace(section.files, image=None), pixel_xy=None
            )
        content = expression_content(section, recipe, one.fingerprint)
        if one.files.image is None:
            kept = section.files.image  # from inside another file, as a file of its own on this machine
    return {"todo": one, "kept": kept, "content": content, "problems": problems}


@contextmanager
def _failures(files: SectionFiles) -> Iterator[list[Problem]]:
    """Collects what goes wrong with one section in the block, so that the others go on."""
    problems: list[Problem] = []
    try:
        yield problems
    except ProblemsError as error:
        problems += error.problems
    except SencaError as error:
        problems.append(Problem(files.sample, files.place(files.image or files.counts), str(error)))
    except Exception as error:  # noqa: BLE001 - one section must not take a thousand others with it
        message = f"failed with {type(error).__name__}: {error}; expected a section that can be prepared"
        problems.append(Problem(files.sample, files.place(files.counts), message))


def expression_content(section: RawSection, recipe: Recipe, fingerprint: str) -> shards.ShardContent:
    """Everything of a shard but what comes from the image; raises ProblemsError."""
    from senca_ray.data.graph import nearest_neighbors
    from senca_ray.data.preprocess import order_genes

    config, files = recipe.config, section.files
    expression = order_genes(section, config)
    if len(section.spots) < config.max_neighbors + 1:
        message = (
            f"{len(section.spots)} spots found; {config.max_neighbors} neighbours need at least "
            f"{config.max_neighbors + 1}; leave the section out or lower max_neighbors"
        )
        raise ProblemsError([Problem(files.sample, files.place(files.counts), message)], "1 section")
    meta = {
        "sample": files.sample,
        "patient": files.patient,
        "label_source": files.label_source,
        "modality": section.modality,
        "encoder": "none",
        "fingerprint": fingerprint,
        "format": files.format,
        "role": files.role,
        "spot_distance_um": section.spot_distance_um,
        "config": dataclasses.asdict(config),
        "raw_genes": len(section.genes),
        "notes": list(section.notes),
        "quality": expression_quality(section),
    }
    if files.simulated:
        meta["simulated"] = True
    return shards.ShardContent(
        meta=meta,
        spots=section.spots,
        xy=section.xy,
        pixel_xy=section.pixel_xy,
        labels=section.labels,
        annotations=section.annotations,
        neighbors=nearest_neighbors(section.xy, config.max_neighbors),
        genes=expression.genes,
        counts=expression.counts,
        dispersion=expression.dispersion,
        image_features=None,
        patches=None,
        thumbnail=None,
    )


class GpuStage:
    """Stage 2 as an actor: Ray ends the process of a GPU task, an actor keeps its encoder loaded."""

    def __init__(self, recipe: Recipe) -> None:
        self._recipe = recipe

    def __call__(self, row: dict[str, Any]) -> dict[str, str]:
        return encode_and_write(row, self._recipe)


def encode_and_write(row: dict[str, Any], recipe: Recipe) -> dict[str, str]:
    """Stage 2: add what comes from the image and write the shard; problems come back as text."""
    one: Todo = row["todo"]
    files = one.files
    content: shards.ShardContent | None = row["content"]
    problems: list[Problem] = row["problems"]
    if content is not None:
        with _failures(files) as problems:
            if content.meta["modality"] == keys.RNA_IMAGE:
                with _with_image(one, row["kept"], recipe) as here:
                    content = image_content(content, here, content.meta["spot_distance_um"], recipe)
            open_store(recipe.store).write(content)
    return {"sample": files.sample, "problems": json.dumps([dataclasses.astuple(p) for p in problems])}


@contextmanager
def _with_image(one: Todo, kept: Path | None, recipe: Recipe) -> Iterator[SectionFiles]:
    """The section's files with its image on this machine, which need not be the one that read the section."""
    if one.files.image is not None:
        with bring(one.files, one.far, only=one.files.image_paths()) as here:
            yield here
    elif kept is not None and kept.exists():
        yield dataclasses.replace(one.files, image=kept)
    else:
        with bring(one.files, one.far) as here:
            yield readers.reader(here.format).read(here, recipe.config.max_image_pixels).files
