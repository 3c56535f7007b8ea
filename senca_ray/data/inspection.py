"""What a raw folder or prepared shards hold, as tables, and every problem in them."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from rich import box
from rich.table import Table

from senca_ray import keys
from senca_ray.config import PrepareConfig
from senca_ray.data import readers, shards
from senca_ray.data.images import open_picture
from senca_ray.data.location import is_remote
from senca_ray.data.near import near
from senca_ray.data.prepare import find_sections
from senca_ray.data.readers.tables import quantity
from senca_ray.data.remote import bring, far_files
from senca_ray.data.section import RawSection
from senca_ray.data.store import open_store
from senca_ray.errors import Problem, ProblemsError

_Findings = tuple[Table, list[str], list[Problem]]


def inspect(location: str | Path, format: str | None = None) -> _Findings:
    """Look at raw sections, a shard or a folder of shards; returns (table, notes, problems).

    `location` is a folder, a file or an address (s3://, gs://). Raises SencaError or ProblemsError when
    nothing can be read at all.
    """
    if isinstance(location, str) and is_remote(location):
        store = open_store(location)
        if names := sorted(store.names()):
            return _inspect_shards([store.uri(name) for name in names])
        return _inspect_raw(location, format)
    path = Path(location)
    if (path / keys.SHARD_FILE).is_file():
        return _inspect_shards([str(path)])
    folders = sorted(str(p.parent) for p in path.glob(f"[!.]*/{keys.SHARD_FILE}"))
    return _inspect_shards(folders) if folders else _inspect_raw(path, format)


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for column in columns:
        words = column in ("sample", "patient", "labels", "format", "encoder")
        # In a narrow terminal words are broken, numbers never.
        table.add_column(
            column,
            justify="left" if words else "right",
            no_wrap=not words,
            overflow="fold",
            min_width=len(column),
        )
    return table


def _inspect_raw(location: str | Path, format: str | None) -> _Findings:
    sections = find_sections(location, format)
    formats = sorted({s.format for s in sections})
    mixed = ["format"] if len(formats) > 1 else []
    table = _table(
        f"{location}: {', '.join(formats)}, {quantity(len(sections), 'section')}",
        *("sample", "patient", *mixed, "spots", "genes", "counts", "k", "undet.", "labels", "image"),
    )
    table.caption = "counts: median of a spot; k: labels without undetermined; undet.: spots with no label"
    tests = [files.sample for files in sections if files.role == keys.TEST]
    notes = [f"kept for tests by the cohort file: {', '.join(tests)}"] if tests else []
    problems: list[Problem] = []
    for files in sections:
        try:
            with bring(files, far_files(files)) as here:
                section = readers.reader(here.format).read(here, PrepareConfig.max_image_pixels)
                first, *others = _raw_row(section)
        except ProblemsError as error:
            problems += error.problems
            continue
        table.add_row(first, others[0], *([files.format] if mixed else []), *others[1:])
        notes += [f"{files.sample}: {note}" for note in section.notes]
    return table, notes, problems


def _raw_row(section: RawSection) -> tuple[str, ...]:
    files = section.files
    totals = np.asarray(section.counts.sum(axis=1)).ravel()
    labels = Counter(section.labels or ())
    undetermined = labels.pop(keys.UNDETERMINED, 0)
    image = "none"
    if files.image is not None:
        with open_picture(files.image, PrepareConfig.max_image_pixels) as picture:
            image = f"{picture.size[0]} x {picture.size[1]}"
    counts = (f"{len(section.spots):,}", f"{len(section.genes):,}", f"{np.median(totals):,.0f}")
    marks = (str(len(labels)), str(undetermined)) if section.labels else ("-", "-")
    return (files.sample, files.patient, *counts, *marks, files.label_source, image)


def _inspect_shards(uris: list[str]) -> _Findings:
    table = _table(
        quantity(len(uris), "shard"),
        *("sample", "patient", "spots", "genes", "K", "labels", "encoder", "MB"),
    )
    notes: list[str] = []
    problems: list[Problem] = []
    for uri in uris:
        with near(uri) as here:
            folder = Path(here)
            meta: dict[str, Any] = shards.read_meta(here)
            size = sum(p.stat().st_size for p in folder.iterdir()) / 1e6
            damaged = [*shards.damaged_files(folder), *_changed(folder)]
        cells = ("sample", "patient", "spots", "genes", "neighbors", "label_source")
        # The architectures; where their weights come from stands in the shard's own description.
        held = [one["name"] for one in meta.get("encoders", [])] or [meta["encoder"]]
        encoders = ", ".join(name.split(" (")[0] for name in held)
        table.add_row(*(str(meta[c]) for c in cells), encoders, f"{size:.1f}")
        notes += [f"{meta['sample']}: {note}" for note in meta["notes"]]
        for name in damaged:
            message = (
                "missing or changed since it was written; delete the shard and run `senca prepare` again"
            )
            problems.append(Problem(meta["sample"], f"{uri.rpartition('/')[2]}/{name}", message))
    return table, notes, problems


def _changed(folder: Path) -> list[str]:
    """The shard's description, where it is not the one that the store's manifest knows."""
    manifest = folder.parent / keys.MANIFEST_FILE
    known = json.loads(manifest.read_text(encoding="utf-8")) if manifest.is_file() else {}
    path = folder / keys.SHARD_FILE
    return [path.name] if known.get(folder.name, shards.sha256(path)) != shards.sha256(path) else []
