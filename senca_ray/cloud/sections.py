"""The sections that a study would run on, as far as they are known before anything is prepared or paid."""

from __future__ import annotations

import dataclasses
import json
import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from senca_ray import keys
from senca_ray.cohort import Cohort, simulated_cohort
from senca_ray.config import PrepareConfig
from senca_ray.data.location import is_remote
from senca_ray.data.prepare import find_sections
from senca_ray.data.section import SectionFiles
from senca_ray.data.shards import SCHEMA_VERSION, read_meta, shard_name
from senca_ray.data.stages import Recipe, Todo, encode_and_write, fingerprint, read_section
from senca_ray.data.store import open_store
from senca_ray.data.synthetic import simulate_cohort
from senca_ray.errors import Problem, ProblemsError
from senca_ray.files import write_json
from senca_ray.home import shards_home

_ANY_NUMBER = 2**31 - 1
"""Genes of a section that nobody has read: as many as a setting asks for."""


@dataclass(frozen=True)
class Found:
    """The sections of a cohort."""

    sections: tuple[SectionFiles, ...]
    prepared: dict[str, str]
    """Address of the shard of each section that has one."""

    def typical_spots(self) -> int | None:
        """Median number of spots of the prepared ones; None where none is prepared."""
        sizes = [read_meta(uri)["spots"] for uri in self.prepared.values()]
        return statistics.median_low(sizes) if sizes else None


def find(cohort: Cohort, console: Console) -> Found:
    """Find a cohort's sections and the shards that they have already; reads no section, writes no shard.

    The embedded cohort is simulated where it is not there yet. Raises SencaError or ProblemsError.
    """
    data = cohort.data or str(simulated_cohort(console))
    sections = find_sections(data, cohort.format, cohort.samples)
    if not cohort.prepare.read_images:
        sections = [dataclasses.replace(s, image=None) for s in sections]
    store = cohort.shards or shards_home()
    # As `prepare` names them.
    recipe = Recipe(
        cohort.prepare,
        {name: str(file) for name, file in cohort.weights.items()},
        store if is_remote(store) else str(Path(store).resolve()),
    )
    kept = open_store(recipe.store)
    there = kept.names()
    with console.status("looking for prepared sections"):
        names = {s.sample: shard_name(s.sample, fingerprint(s, recipe)) for s in sections}
    prepared = {sample: kept.uri(name) for sample, name in names.items() if name in there}
    return Found(tuple(sections), prepared)


def stand_ins(found: Found, prepare: PrepareConfig, spots: int, folder: Path) -> dict[str, str]:
    """A shard's address for every section: its own, or a description alone, in `folder`, where it has none.

    Such a description says what is known of a section that nobody has read, and `spots` for its size: enough
    to tell which trials a study consists of.
    """
    return {
        section.sample: found.prepared.get(section.sample) or _describe(section, prepare, spots, folder)
        for section in found.sections
    }


def _describe(section: SectionFiles, prepare: PrepareConfig, spots: int, folder: Path) -> str:
    shard = folder / section.sample
    shard.mkdir()
    about: dict[str, Any] = {
        "schema": SCHEMA_VERSION,
        "sample": section.sample,
        "patient": section.patient,
        "label_source": section.label_source,
        "modality": keys.RNA if section.image is None else keys.RNA_IMAGE,
        "role": section.role,
        "spots": spots,
        "genes": _ANY_NUMBER,
        "neighbors": prepare.max_neighbors,
        "config": dataclasses.asdict(prepare),
    }
    write_json(shard / keys.SHARD_FILE, about)
    return str(shard)


def simulated_shard(cohort: Cohort, image: bool, folder: Path, console: Console) -> str:
    """Simulate one section into `folder` and prepare it as the cohort's would be; returns its shard.

    `image` False leaves its image out. Raises ProblemsError where it cannot be prepared so (an encoder that
    cannot be had).
    """
    config = dataclasses.replace(cohort.prepare, read_images=image)
    weights = {name: str(file) for name, file in cohort.weights.items()}
    recipe = Recipe(config, weights, str(folder / "shards"))
    with console.status("simulating and preparing a section to measure on"):
        simulate_cohort(folder / "raw", patients=1, sections_per_patient=1)
        (files,) = find_sections(folder / "raw", None)
        if not image:
            files = dataclasses.replace(files, image=None)
        todo = Todo(files, fingerprint(files, recipe))
        row = read_section({"item": 0}, [todo], recipe)
        problems = json.loads(encode_and_write(row, recipe)["problems"])
    if problems:
        raise ProblemsError([Problem(*p) for p in problems], "the simulated section that is measured on")
    return open_store(recipe.store).uri(shard_name(files.sample, todo.fingerprint))
