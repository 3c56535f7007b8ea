"""What was fetched, in fetch.json beside the data: where from, how large, which checksum, when."""

from __future__ import annotations

import datetime
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from senca_ray.errors import SencaError
from senca_ray.fetch.catalogue import Cohort
from senca_ray.fetch.checksums import Checksum, checksum
from senca_ray.files import write_json

NAME = "fetch.json"
_SCHEMA = 1


@dataclass
class Entry:
    """A file that was downloaded, or unpacked from one."""

    address: str
    size: int
    checksum: Checksum
    date: str
    published: bool
    """Whether its home publishes the checksum; else it is that of the first download."""
    part: str
    """What the file came with: an archive, or the list of a repository."""


@dataclass
class Record:
    """fetch.json of one cohort's folder."""

    cohort: Cohort
    path: Path
    files: dict[str, Entry] = field(default_factory=dict)
    """By path in the folder."""
    parts: dict[str, Entry] = field(default_factory=dict)
    """Archives that are unpacked, and the list of a repository all of whose files are there."""
    unfinished: dict[str, str] = field(default_factory=dict)
    """What tells the file that a .part is the beginning of, by the path of the whole file."""

    def intact(self, part: str) -> bool:
        """Whether all of a part is there and its bytes are what they were."""
        return part in self.parts and not self.damaged(part)

    def damaged(self, part: str) -> list[str]:
        """Files of a part that are missing or changed, sorted."""
        entries = {name: entry for name, entry in self.files.items() if entry.part == part}
        return sorted(name for name, entry in entries.items() if not self.holds(name, entry))

    def holds(self, name: str, entry: Entry) -> bool:
        """Whether the file `name` is there with the bytes that `entry` is about."""
        path = self.path.parent / name
        if path.is_symlink() or not path.is_file() or path.stat().st_size != entry.size:
            return False
        return checksum(path, entry.checksum.kind) == entry.checksum

    def save(self) -> None:
        """Write fetch.json; raises SencaError when the disk refuses."""
        write_json(
            self.path,
            {
                "schema": _SCHEMA,
                "cohort": self.cohort.name,
                "page": self.cohort.page,
                "citation": self.cohort.citation,
                "licence": self.cohort.licence,
                "parts": {name: _as_json(entry) for name, entry in sorted(self.parts.items())},
                "files": {name: _as_json(entry) for name, entry in sorted(self.files.items())},
                "unfinished": self.unfinished,
            },
        )


def today() -> str:
    """The date in UTC."""
    return datetime.datetime.now(datetime.UTC).date().isoformat()


def load(cohort: Cohort, folder: Path) -> Record:
    """The record of a folder, empty where there is none; raises SencaError for another cohort's."""
    path = folder / NAME
    record = Record(cohort, path)
    if not path.exists():
        return record
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        other = content["cohort"]
        record.parts = {name: _from_json(entry) for name, entry in content["parts"].items()}
        record.files = {name: _from_json(entry) for name, entry in content["files"].items()}
        record.unfinished = {str(k): str(v) for k, v in content["unfinished"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise SencaError(
            f"{path}: cannot be read; expected what senca fetch wrote; remove it, and files are checked anew"
        ) from None
    if other != cohort.name:
        raise SencaError(f"{folder}: holds the cohort {other!r:.80}; name another folder for {cohort.name}")
    return record


def _as_json(entry: Entry) -> dict[str, Any]:
    return vars(entry) | {"checksum": str(entry.checksum)}


def _from_json(content: dict[str, Any]) -> Entry:
    found = Checksum.parse(content["checksum"])
    if found is None:
        raise ValueError(content["checksum"])
    return Entry(
        str(content["address"]),
        int(content["size"]),
        found,
        str(content["date"]),
        bool(content["published"]),
        str(content["part"]),
    )
