"""`prepare`: raw sections to shards, once, with Ray Data.

    sections ──read, check, order genes (tasks)──> ──crop, encode, write (actors on GPUs)──> shards

A section that is already prepared from the same files in the same way is not touched. A section with
problems leaves no shard and, unless told so, does not stop the others; all problems are raised together at
the end. Sections stream: the process that calls holds their names, never their content.
"""

from __future__ import annotations

import dataclasses
import fcntl
import functools
import json
import logging
import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from senca_ray import cluster, keys
from senca_ray.config import PrepareConfig
from senca_ray.data import copies, readers, shards
from senca_ray.data.location import is_remote
from senca_ray.data.remote import far_files, local_view
from senca_ray.data.section import SectionFiles
from senca_ray.data.stages import GpuStage, Recipe, Todo, encode_and_write, fingerprint, read_section
from senca_ray.data.store import open_store
from senca_ray.errors import Problem, ProblemsError, SencaError
from senca_ray.model.encoders.files import weights_by_encoder

Progress = Callable[[str, int, int], None]
"""Called with (sample just finished or '', sections done, sections in all)."""


_RETRIES = 2
"""How often a section whose worker was lost is tried again."""
_AT_ONCE = 64
"""Sections handed to Ray together, at least."""


@dataclass(frozen=True)
class Prepared:
    """A prepared cohort."""

    shards: dict[str, str]
    """Shard folder of each sample, in order of sample id."""
    new: tuple[str, ...]
    """Samples that this call prepared; the others were there already."""


def find_sections(data: str | Path, format: str | None, samples: Iterable[str] = ()) -> list[SectionFiles]:
    """Return the sections of a raw folder or of a cohort file; raises SencaError or ProblemsError.

    `data`: on disk, or an address (s3://, gs://), whose sections are those of a local view of it. `format`
    None: detected. `samples`: only these, all by default.
    """
    root = local_view(data) if isinstance(data, str) and is_remote(data) else Path(data)
    reader = readers.reader(format) if format else readers.detect(root)
    sections = reader.find(root)
    wanted = list(samples)
    known = [s.sample for s in sections]
    unknown = [s for s in wanted if s not in known]
    if unknown:
        raise SencaError(f"{data}: no sample {', '.join(unknown)}; found {', '.join(known)}")
    return [s for s in sections if not wanted or s.sample in wanted]


def prepare(
    data: str | Path,
    store: str | Path,
    *,
    format: str | None = None,
    config: PrepareConfig | None = None,
    weights: Mapping[str, Path] | None = None,
    samples: Iterable[str] = (),
    strict: bool = False,
    address: str | None = None,
    progress: Progress = lambda sample, done, total: None,
) -> Prepared:
    """Prepare a raw cohort into `store`, both on disk or in S3 or GCS; returns where its shards are.

    Raises ProblemsError with every problem of every section; sections without problems are prepared all the
    same, unless `strict`: then the first one with problems ends it. Raises SencaError when the encoder cannot
    be had or the store cannot be written.
    """
    config = config or PrepareConfig()
    sections = find_sections(data, format, samples)
    if not config.read_images:
        sections = [dataclasses.replace(s, image=None) for s in sections]
    given = weights_by_encoder(weights, config.encoders, "--encoder-weights")
    # As every worker understands it, whatever folder it works in.
    location = store if isinstance(store, str) and is_remote(store) else str(Path(store).resolve())
    kept = open_store(location)
    recipe = Recipe(config, {name: str(file) for name, file in given.items()}, location)
    prints = _fingerprints(sections, recipe)
    names = {sample: shards.shard_name(sample, print_) for sample, print_ in prints.items()}
    missing: list[SectionFiles] = []
    problems: list[Problem] = []
    wanted = set(names.values())
    there = kept.names()
    progress("", len(wanted & there), len(sections))
    if not wanted <= there:
        kept.check_writable()
        with _alone(location):
            there = kept.names()  # another process may have prepared some meanwhile
            missing = [s for s in sections if names[s.sample] not in there]
            if any(s.image for s in missing):
                _check_encoder(recipe)
            if missing:
                before = len(sections) - len(missing)
                with cluster.connected(address):
                    todo = [Todo(s, prints[s.sample], far_files(s)) for s in missing]
                    problems = _run(todo, recipe, strict, lambda s, n: progress(s, before + n, len(sections)))
        there = kept.names()
    good = {sample: name for sample, name in names.items() if name in there}
    kept.add_to_manifest(good.values())
    if problems:
        scope = f"{len(sections)} sections ({len(good)} without problems are prepared and kept)"
        raise ProblemsError(sorted(problems, key=lambda p: (p.sample, p.place)), scope)
    uris = {sample: kept.uri(name) for sample, name in good.items()}
    return Prepared(uris, tuple(s.sample for s in missing))


@contextmanager
def _alone(location: str) -> Iterator[None]:
    """One process prepares into a folder at a time: another would only do the same work beside it."""
    if is_remote(location):
        yield
        return
    path = Path(location) / keys.LOCK_FILE
    with copies.locked(path, fcntl.LOCK_EX):
        try:
            yield
        finally:
            path.unlink(missing_ok=True)  # whoever waits for it makes it anew


def _fingerprints(sections: list[SectionFiles], recipe: Recipe) -> dict[str, str]:
    """Fingerprint of every section by its name; files are read side by side, in small pieces."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        prints = pool.map(functools.partial(fingerprint, recipe=recipe), sections)
        return dict(zip((s.sample for s in sections), prints, strict=True))


def _check_encoder(recipe: Recipe) -> None:
    """Load every encoder once here, so that a missing network or file is told before anything starts."""
    from senca_ray.model.image_encoder import load_encoder

    files = recipe.weights or {}
    for name in recipe.config.encoders:
        load_encoder(name, Path(files[name]) if name in files else None)


def _run(
    todo: list[Todo],
    recipe: Recipe,
    strict: bool,
    progress: Callable[[str, int], None],
) -> list[Problem]:
    """Prepare sections, each with its fingerprint, on the connected cluster; returns their problems."""
    import ray
    from ray.data import ActorPoolStrategy, DataContext, TaskPoolStrategy
    from ray.util.annotations import RayDeprecationWarning

    context = DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.max_errored_blocks = -1  # the section of a lost worker is told below, the others go on
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    gpus = cluster.gpus()
    # Its reservation leaves half of the processors idle (measured: one of two); it is there to hold back
    # stages that hand much to the next one, and without GPUs there is one stage, which hands on names.
    context.op_resource_reservation_enabled = bool(gpus)
    rows = ray.data.from_items(list(range(len(todo))), override_num_blocks=len(todo))
    with warnings.catch_warnings():
        # No other parameter says how often a task is tried again; Ray Data's own answer is for ever.
        warnings.simplefilter("ignore", RayDeprecationWarning)
        tasks: dict[str, Any] = {
            # Enough for every core, and for a cluster that grows; all at once would fill the driver.
            "compute": TaskPoolStrategy(size=min(len(todo), max(_AT_ONCE, 4 * cluster.cpus()))),
            "max_retries": _RETRIES,
        }
        read = rows.map(functools.partial(read_section, todo=todo, recipe=recipe), **tasks)
        if gpus:
            results = read.map(
                GpuStage,  # type: ignore[arg-type]  # Ray makes the actor from the class
                fn_constructor_kwargs={"recipe": recipe},
                compute=ActorPoolStrategy(size=min(gpus, len(todo))),
                num_gpus=1,
            )
        else:
            results = read.map(functools.partial(encode_and_write, recipe=recipe), **tasks)
    problems: list[Problem] = []
    left = {one.files.sample: one.files for one in todo}
    for done, result in enumerate(results.iter_rows(), start=1):
        problems += [Problem(*p) for p in json.loads(result["problems"])]
        del left[result["sample"]]
        progress(result["sample"], done)
        if strict and problems:
            return problems
    for sample, files in left.items():
        message = "its worker was lost, probably for want of memory; prepare it on a machine with more"
        problems.append(Problem(sample, files.place(files.counts), message))
    return problems
