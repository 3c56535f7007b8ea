"""study.json: what a study is, written once when it starts.

Schema 2 has two kinds of study: `grid` (variants of one setting) and `search`. Schema 1 knew only the sweep
of one field and is read as the grid that it was.
"""

from __future__ import annotations

import datetime
import json
from pathlib import Path
from typing import Any

from senca_ray import keys
from senca_ray.data.location import address_of
from senca_ray.errors import SencaError
from senca_ray.files import write_json

SIMULATED = "Simulated cohort: shows the mechanics; its scores say nothing about tissue."
"""To be said wherever scores of a simulated cohort are shown."""

SCHEMA_VERSION = 2
_EARLIER = {"undetermined": keys.UNSCORED, "refined": False}
"""What descriptions written before these were a choice lack and meant."""


def read_description(folder: Path) -> dict[str, Any]:
    """Read a study's description; raises SencaError when there is none or it is of another version."""
    path = folder / keys.STUDY_FILE
    if address := address_of(folder):
        raise SencaError(
            f"{address}: an address found, a folder expected: `senca pull {address}` brings it here"
        )
    try:
        description = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SencaError(
            f"{folder}: not a study: {keys.STUDY_FILE} cannot be read ({error}); give the folder that was "
            "an experiment's --out"
        ) from None
    version = description.get("schema") if isinstance(description, dict) else None
    if version == 1:
        return _EARLIER | _from_schema_1(description)
    if version != SCHEMA_VERSION:
        raise SencaError(
            f"{path}: schema {version} found; expected 1 or {SCHEMA_VERSION}: use the version "
            "of senca-ray that wrote it, or run the experiment again with another --out"
        )
    return _EARLIER | description


def _from_schema_1(old: dict[str, Any]) -> dict[str, Any]:
    """The description of a sweep of the first schema, as this one would write it."""
    vary = old["vary"]
    kept = {name: value for name, value in old.items() if name not in ("values", "default", "schema")}
    return kept | {
        "schema": SCHEMA_VERSION,
        "kind": "grid",
        "variants": {f"{vary}={value}": {vary: value} for value in old["values"]},
        "default": f"{vary}={old['default']}",
    }


def check_vacant(folder: Path) -> None:
    """Make the folder of a study to come; raises SencaError where it cannot be one."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        occupied = (
            any(p.name != keys.LOCK_FILE for p in folder.iterdir())
            and not (folder / keys.STUDY_FILE).exists()
        )
    except OSError as error:
        raise SencaError(f"{folder}: cannot be written ({error.strerror}); choose another --out") from None
    if occupied:
        raise SencaError(f"{folder}: not empty and not a study; choose another --out")


def open_study(folder: Path, description: dict[str, Any], versions: dict[str, str]) -> None:
    """Make the study's folder, or check that it holds this very study.

    Raises SencaError where it holds another study or something else, or cannot be written.
    """
    if (folder / keys.STUDY_FILE).exists():
        known = read_description(folder)
        changed = [name for name, value in description.items() if known.get(name) != value]
        if changed:
            raise SencaError(
                f"{folder}: holds another study (it differs in {', '.join(changed)}); choose another --out, "
                "or repeat the command with its settings to go on with it"
            )
        return
    check_vacant(folder)
    created = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    content = {"schema": SCHEMA_VERSION, **description, "versions": versions, "created": created}
    write_json(folder / keys.STUDY_FILE, content)
