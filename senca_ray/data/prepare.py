"""`prepare`: raw sections to shards, once, with Ray Data.

    sections ──read, check, order genes (tasks)──> ──crop, encode, write (actors on GPUs)──> shards

A section that is already prepared from the same files in the same way is not touched. A section with
problems leaves no shard and does not stop the others; all problems are raised together at the end.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import logging
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from senca_ray import cluster, keys
from senca_ray.config import PrepareConfig
from senca_ray.data import readers, shards
from senca_ray.data.section import SectionFiles
from senca_ray.data.stages import GpuStage, Recipe, encode_and_write, fingerprint, read_section
from senca_ray.errors import Problem, ProblemsError, SencaError
from senca_ray.files import write_text

Progress = Callable[[str, int, int], None]
"""Called with (sample just finished or '', sections done, sections in all)."""


@dataclass(frozen=True)
class Prepared:
    """A prepared cohort."""

    shards: dict[str, str]
    """Shard folder of each sample, in order of sample id."""
    new: tuple[str, ...]
    """Samples that this call prepared; the others were there already."""


def find_sections(data: Path, format: str | None, samples: Iterable[str] = ()) -> list[SectionFiles]:
    """Return the sections of a raw folder or of a cohort file; raises SencaError or ProblemsError.

    `format` None: detected. `samples`: only these, all by default.
    """
    reader = readers.reader(format) if format else readers.detect(data)
    sections = reader.find(data)
    wanted = list(samples)
    known = [s.sample for s in sections]
    unknown = [s for s in wanted if s not in known]
    if unknown:
        raise SencaError(f"{data}: no sample {', '.join(unknown)}; found {', '.join(known)}")
    return [s for s in sections if not wanted or s.sample in wanted]


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
    sections = find_sections(data, format, samples)
    if not config.read_images:
        sections = [dataclasses.replace(s, image=None) for s in sections]
    if weights is not None and not weights.is_file():
        raise SencaError(
            f"{weights}: no such file; --encoder-weights is a state dict of a torchvision ResNet"
        )
    recipe = Recipe(config, str(weights.resolve()) if weights else None, str(store.resolve()))
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

    load_encoder(recipe.config.encoders[0], Path(recipe.weights) if recipe.weights else None)


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
    read = rows.map(functools.partial(read_section, todo=todo, recipe=recipe))
    if gpus:
        results = read.map(
            GpuStage,  # type: ignore[arg-type]  # Ray makes the actor from the class
            fn_constructor_kwargs={"recipe": recipe},
            compute=ActorPoolStrategy(size=min(gpus, len(todo))),
            num_gpus=1,
        )
    else:
        results = read.map(functools.partial(encode_and_write, recipe=recipe))
    problems: list[Problem] = []
    for done, result in enumerate(results.iter_rows(), start=1):
        problems += [Problem(*p) for p in json.loads(result["problems"])]
        progress(result["sample"], done)
    return problems


def _write_manifest(store: Path, folders: Iterable[Path]) -> None:
    """Add these shards and the checksums of their descriptions to the store's manifest."""
    path = store / keys.MANIFEST_FILE
    known = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    current = known | {f.name: shards.sha256(f / keys.SHARD_FILE) for f in folders}
    if current != known:
        write_text(path, json.dumps(current, indent=2, sort_keys=True))
