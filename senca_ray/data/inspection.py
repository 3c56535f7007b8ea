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
from senca_ray.data.images import open_image
from senca_ray.data.prepare import find_sections
from senca_ray.data.section import RawSection
from senca_ray.errors import Problem, ProblemsError

_Findings = tuple[Table, list[str], list[Problem]]


def inspect(path: Path, format: str | None = None) -> tuple[Table, list[str], list[Problem]]:
    """Look at a raw folder, a shard or a folder of shards; returns (table, notes, problems).

    Raises SencaError or ProblemsError when nothing can be read at all.
    """
    if (path / keys.SHARD_FILE).is_file():
        return _inspect_shards([path])
    folders = sorted(p.parent for p in path.glob(f"[!.]*/{keys.SHARD_FILE}"))
    return _inspect_shards(folders) if folders else _inspect_raw(path, format)


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for column in columns:
        words = column in ("sample", "patient", "labels", "modality", "encoder")
        table.add_column(column, justify="left" if words else "right", no_wrap=True)
    return table


def _inspect_raw(path: Path, format: str | None) -> _Findings:
    sections = find_sections(path, format)
    table = _table(
        f"{path}: {', '.join(sorted({s.format for s in sections}))}, {len(sections)} sections",
        *(
            "sample",
            "patient",
            "spots",
            "genes",
            "counts",
            "k",
            "undet.",
            "labels",
            "image",
        ),
    )
    table.caption = "counts: median of a spot; k: labels without undetermined; undet.: spots with no label"
    notes: list[str] = []
    problems: list[Problem] = []
    for files in sections:
        try:
            section = readers.reader(files.format).read(files, PrepareConfig.max_image_pixels)
        except ProblemsError as error:
            problems += error.problems
            continue
        table.add_row(*_raw_row(section))
        notes += [f"{files.sample}: {note}" for note in section.notes]
    return table, notes, problems


def _raw_row(section: RawSection) -> tuple[str, ...]:
    files = section.files
    totals = np.asarray(section.counts.sum(axis=1)).ravel()
    labels = Counter(section.labels or ())
    undetermined = labels.pop(keys.UNDETERMINED, 0)
    image = "none"
    if files.image is not None:
        with open_image(files.image, PrepareConfig.max_image_pixels) as opened:
            image = f"{opened.width} x {opened.height}"
    counts = (f"{len(section.spots):,}", f"{len(section.genes):,}", f"{np.median(totals):,.0f}")
    marks = (str(len(labels)), str(undetermined)) if section.labels else ("-", "-")
    return (files.sample, files.patient, *counts, *marks, files.label_source, image)


def _inspect_shards(folders: list[Path]) -> _Findings:
    table = _table(
        f"{len(folders)} shards",
        *("sample", "patient", "spots", "genes", "K", "labels", "encoder", "MB"),
    )
    notes: list[str] = []
    problems: list[Problem] = []
    for folder in folders:
        meta: dict[str, Any] = shards.read_meta(str(folder))
        size = sum(p.stat().st_size for p in folder.iterdir()) / 1e6
        cells = ("sample", "patient", "spots", "genes", "neighbors", "label_source")
        # The architecture; where its weights come from stands in the shard's own description.
        encoder = meta["encoder"].split(" (")[0]
        table.add_row(*(str(meta[c]) for c in cells), encoder, f"{size:.1f}")
        notes += [f"{meta['sample']}: {note}" for note in meta["notes"]]
        for name in [*shards.damaged_files(folder), *_changed(folder)]:
            message = (
                "missing or changed since it was written; delete the shard and run `senca prepare` again"
            )
            problems.append(Problem(meta["sample"], f"{folder.name}/{name}", message))
    return table, notes, problems


def _changed(folder: Path) -> list[str]:
    """The shard's description, where it is not the one that the store's manifest knows."""
    manifest = folder.parent / keys.MANIFEST_FILE
    known = json.loads(manifest.read_text(encoding="utf-8")) if manifest.is_file() else {}
    path = folder / keys.SHARD_FILE
    return [path.name] if known.get(folder.name, shards.sha256(path)) != shards.sha256(path) else []
