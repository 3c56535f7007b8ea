"""`prepare`: raw sections to shards, once, with Ray Data.

    sections ──read, check, order genes (tasks)──> ──crop, encode, write (actors on GPUs)──> shards

A section that is already prepared from the same files in the same way is not touched. A section with
problems leaves no shard and does not stop the others; all problems are raised together at the end.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import logging
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from senca_ray import cluster, keys
from senca_ray.config import PrepareConfig
from senca_ray.data import readers, shards
from senca_ray.data.section import RawSection, SectionFiles
from senca_ray.errors import Problem, ProblemsError, SencaError

if TYPE_CHECKING:
    from senca_ray.model.image_encoder import Encoder

_PATCHES_AT_ONCE = 256
"""Patches in memory together: 40 MB at 224 pixels."""

Progress = Callable[[str, int, int], None]
"""Called with (sample just finished or '', sections done, sections in all)."""


@dataclass(frozen=True)
class Prepared:
    """A prepared cohort."""

    shards: dict[str, str]
    """Shard folder of each sample, in order of sample id."""
    new: tuple[str, ...]
    """Samples that this call prepared; the others were there already."""


@dataclass(frozen=True)
class Recipe:
    """What turns a section into a shard, the same for every section of a call."""

    format: str
    config: PrepareConfig
    weights: str | None
    """File of encoder weights, for a ResNet."""
    store: str


def find_sections(
    data: Path, format: str | None, samples: Iterable[str] = ()
) -> tuple[str, list[SectionFiles]]:
    """Return the format and the sections of a raw folder; raises SencaError or ProblemsError.

    `format` None: detected. `samples`: only these, all by default.
    """
    reader = readers.reader(format) if format else readers.detect(data)
    sections = reader.find(data)
    wanted = list(samples)
    known = [s.sample for s in sections]
    unknown = [s for s in wanted if s not in known]
    if unknown:
        raise SencaError(f"{data}: no sample {', '.join(unknown)}; found {', '.join(known)}")
    return reader.name, [s for s in sections if not wanted or s.sample in wanted]


def prepare(
    data: Path,
    store: Path,
    *,
    format: str | None = None,
    config: PrepareConfig | None = None,
    weights: Path | None = None,
    samples: Iterable[str] = (),
    address: str | None = None,
    progress: Progress = lambda sample, done, total: None,
) -> Prepared:
    """Prepare a raw cohort into `store`; returns where its shards are.

    Raises ProblemsError with every problem of every section (sections without problems are prepared all
    the same), SencaError when the encoder cannot be had or the store cannot be written.
    """
    config = config or PrepareConfig()
    name, sections = find_sections(data, format, samples)
    if weights is not None and not weights.is_file():
        raise SencaError(
            f"{weights}: no such file; --encoder-weights is a state dict of a torchvision ResNet"
        )
    recipe = Recipe(name, config, str(weights.resolve()) if weights else None, str(store.resolve()))
    prints = {s.sample: fingerprint(s, recipe) for s in sections}
    folders = {s: store / shards.shard_name(s, print_) for s, print_ in prints.items()}
    missing = [s for s in sections if not folders[s.sample].exists()]
    progress("", len(sections) - len(missing), len(sections))
    problems: list[Problem] = []
    if missing:
        _check_store(store)
        if any(s.image for s in missing):
            _check_encoder(recipe)
        with cluster.connected(address):
            todo = [(s, prints[s.sample]) for s in missing]
            problems = _run(
                todo, recipe, lambda s, n: progress(s, len(sections) - len(missing) + n, len(sections))
            )
    _write_manifest(store, [f for f in folders.values() if f.exists()])
    if problems:
        good = sum(f.exists() for f in folders.values())
        scope = f"{len(sections)} sections ({good} without problems are prepared and kept)"
        raise ProblemsError(sorted(problems, key=lambda p: (p.sample, p.place)), scope)
    return Prepared({s: str(f.resolve()) for s, f in folders.items()}, tuple(s.sample for s in missing))


def fingerprint(files: SectionFiles, recipe: Recipe) -> str:
    """Hex digest of the raw files, the recipe and the shard schema: the same input, the same shard."""
    content = {
        "schema": shards.SCHEMA_VERSION,
        "format": recipe.format,
        "sample": files.sample,
        "patient": files.patient,
        "label_source": files.label_source,
        "config": dataclasses.asdict(recipe.config),
        "weights": shards.sha256(Path(recipe.weights)) if recipe.weights else None,
        "files": {files.place(p): shards.sha256(p) for p in files.paths()},
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _check_store(store: Path) -> None:
    try:
        store.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SencaError(f"{store}: cannot be created ({error.strerror}); choose another folder") from None
    if not os.access(store, os.W_OK):
        raise SencaError(f"{store}: not writable; choose another folder or change its permissions")


def _check_encoder(recipe: Recipe) -> None:
    """Load the encoder once here, so that a missing network or file is told before anything starts."""
    from senca_ray.model.image_encoder import load_encoder

    load_encoder(recipe.config.encoder, Path(recipe.weights) if recipe.weights else None)


def _run(
    todo: list[tuple[SectionFiles, str]], recipe: Recipe, progress: Callable[[str, int], None]
) -> list[Problem]:
    """Prepare sections, each with its fingerprint, on the connected cluster; returns their problems."""
    import ray
    from ray.data import ActorPoolStrategy, DataContext

    context = DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    gpus = cluster.gpus()
    rows = ray.data.from_items(list(range(len(todo))), override_num_blocks=len(todo))
    read = rows.map(functools.partial(_read, todo=todo, recipe=recipe))
    if gpus:
        results = read.map(
            _GpuStage,  # type: ignore[arg-type]  # Ray makes the actor from the class
            fn_constructor_kwargs={"recipe": recipe},
            compute=ActorPoolStrategy(size=min(gpus, len(todo))),
            num_gpus=1,
        )
    else:
        results = read.map(functools.partial(_encode_and_write, recipe=recipe))
    problems: list[Problem] = []
    for done, result in enumerate(results.iter_rows(), start=1):
        problems += [Problem(*p) for p in json.loads(result["problems"])]
        progress(result["sample"], done)
    return problems


def _read(row: dict[str, Any], todo: list[tuple[SectionFiles, str]], recipe: Recipe) -> dict[str, Any]:
    """Stage 1: read and check a section, order its genes and neighbours."""
    files, print_ = todo[row["item"]]
    try:
        section = readers.reader(recipe.format).read(files, recipe.config.max_image_pixels)
        content: shards.ShardContent | None = expression_content(section, recipe, print_)
        problems: list[Problem] = []
    except ProblemsError as error:
        content, problems = None, list(error.problems)
    return {"files": files, "content": content, "problems": _to_json(problems)}


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
        "format": recipe.format,
        "config": dataclasses.asdict(config),
        "raw_genes": len(section.genes),
        "notes": list(section.notes),
    }
    return shards.ShardContent(
        meta=meta,
        spots=section.spots,
        xy=section.xy,
        pixel_xy=section.pixel_xy,
        labels=section.labels,
        neighbors=nearest_neighbors(section.xy, config.max_neighbors),
        genes=expression.genes,
        counts=expression.counts,
        dispersion=expression.dispersion,
        image_features=None,
        patches=None,
        thumbnail=None,
    )


class _GpuStage:
    """Stage 2 as an actor: Ray ends the process of a GPU task, an actor keeps its encoder loaded."""

    def __init__(self, recipe: Recipe) -> None:
        self._recipe = recipe

    def __call__(self, row: dict[str, Any]) -> dict[str, str]:
        return _encode_and_write(row, self._recipe)


def _encode_and_write(row: dict[str, Any], recipe: Recipe) -> dict[str, str]:
    """Stage 2: add what comes from the image and write the shard; problems come back as text."""
    files: SectionFiles = row["files"]
    content: shards.ShardContent | None = row["content"]
    problems = row["problems"]
    if content is not None:
        try:
            if files.image is not None:
                content = with_image(content, files.image, recipe)
            shards.write_shard(Path(recipe.store), content)
        except SencaError as error:
            problems = _to_json([Problem(files.sample, files.place(files.image or files.counts), str(error))])
    return {"sample": files.sample, "problems": problems}


def with_image(content: shards.ShardContent, path: Path, recipe: Recipe) -> shards.ShardContent:
    """Add the image's features, thumbnail and, where asked for, patches; raises SencaError."""
    from senca_ray.data.images import open_image, thumbnail
    from senca_ray.data.patches import crop_patches, spot_distance_pixels

    config, pixels = recipe.config, content.pixel_xy
    if pixels is None:
        raise SencaError("an image without pixel positions of the spots; the reader has to give both")
    encoder = _encoder(config.encoder, recipe.weights)
    distance = spot_distance_pixels(pixels)
    features, kept = [], []
    with open_image(path, config.max_image_pixels) as image:
        small, scale = thumbnail(image)
        for start in range(0, len(pixels), _PATCHES_AT_ONCE):
            some = pixels[start : start + _PATCHES_AT_ONCE]
            patches = crop_patches(image, some, config.patch_radius * distance, config.patch_pixels)
            features.append(encoder.features(patches))
            if config.store_patches:
                kept.append(patches)
    added = {"encoder": encoder.name, "spot_distance_pixels": distance, "thumbnail_scale": scale}
    return dataclasses.replace(
        content,
        meta=content.meta | added,
        image_features=np.concatenate(features),
        patches=np.concatenate(kept) if kept else None,
        thumbnail=small,
    )


@functools.cache
def _encoder(name: str, weights: str | None) -> Encoder:
    """The encoder on this worker's device, loaded once a process."""
    import torch

    from senca_ray.model.image_encoder import load_encoder

    device = "cuda" if torch.cuda.is_available() else "cpu"
    return load_encoder(name, Path(weights) if weights else None, device)


def _to_json(problems: list[Problem]) -> str:
    return json.dumps([dataclasses.astuple(p) for p in problems])


def _write_manifest(store: Path, folders: Iterable[Path]) -> None:
    """Add these shards and the checksums of their descriptions to the store's manifest."""
    path = store / keys.MANIFEST_FILE
    known = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    current = known | {f.name: shards.sha256(f / keys.SHARD_FILE) for f in folders}
    if current == known:
        return
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    partial.write_text(json.dumps(current, indent=2, sort_keys=True), encoding="utf-8")
    partial.replace(path)
