"""The folder of a study, as little of it as counts: for tests of what looks at studies from outside."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from senca_ray import keys
from senca_ray.config import Setting

SEEDS = (0, 1, 2)


def trial_rows(sample: str, setting: str = "neighbors=4", **changes: Any) -> list[dict[str, Any]]:
    """The rows of a trial of the model: one a seed, then their consensus."""
    row = {
        keys.STUDY: "tiny",
        keys.METHOD: "senca",
        keys.SETTING: setting,
        keys.SAMPLE: sample,
        keys.CLUSTERING: "ward",
        keys.K_POLICY: "labels",
        keys.PROTOCOL: keys.UNSCORED,
        keys.STATUS: keys.OK,
        keys.REASON: None,
        keys.SECONDS: 1.0,
        keys.REGIONS: [0, 1, 2],
    } | changes
    rows = [row | {keys.SEED: seed} for seed in SEEDS]
    return [*rows, row | {keys.SEED: keys.ALL_SEEDS, keys.CLUSTERING: keys.CONSENSUS}]


def control_rows(sample: str) -> list[dict[str, Any]]:
    """The one row of a control that depends on no seed."""
    return trial_rows(sample, "fixed", **{keys.METHOD: "smoothed-image"})[:1]


def failed(reason: str) -> dict[str, Any]:
    """What is different in rows that failed."""
    return {keys.STATUS: keys.FAILED, keys.REASON: reason, keys.REGIONS: None, keys.SECONDS: None}


def write_study(
    folder: Path,
    rows: Iterable[Mapping[str, Any]] = (),
    *,
    finished: bool = False,
    shards: Mapping[str, str] | None = None,
    **changes: Any,
) -> Path:
    """Write a study of four trials (two values, two samples) into `folder`; `changes` are of study.json."""
    folder.mkdir(parents=True)
    description = {
        "schema": 2,
        "kind": "grid",
        "name": "tiny",
        "title": "A tiny study",
        "variants": {"neighbors=4": {"neighbors": 4}, "neighbors=8": {"neighbors": 8}},
        "vary": "neighbors",
        "default": "neighbors=4",
        "trials": 4,
        "setting": dataclasses.asdict(Setting()),
        "seeds": list(SEEDS),
        "k_policy": "labels",
        "clustering": "ward",
        "pair": None,
        "controls": [],
        "data": "made-up cohort",
        "simulated": True,
        "shards": dict(shards or {"A1": "/nowhere/A1-0", "B1": "/nowhere/B1-0"}),
        "prepare": {},
        "versions": {},
        "created": "2026-11-21T10:00:00+00:00",
    } | changes
    (folder / keys.STUDY_FILE).write_text(json.dumps(description))
    append(folder, rows)
    if finished:
        (folder / keys.RESULTS_FILE).write_bytes(b"table")
    return folder


def append(folder: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Append rows to a study's journal."""
    with (folder / keys.JOURNAL_FILE).open("a") as journal:
        journal.writelines(json.dumps(row) + "\n" for row in rows)
