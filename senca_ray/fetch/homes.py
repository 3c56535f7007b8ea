"""What the homes publish about their files: sizes and checksums, asked at the time of the download."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from senca_ray.fetch.catalogue import Cohort
from senca_ray.fetch.checksums import GIT, Checksum
from senca_ray.fetch.client import Client, DownloadError
from senca_ray.fetch.download import Remote

_PLAIN_FILES = ("100644", "100755")
"""Modes of files in a git tree; others are links and folders."""


def archives(client: Client, cohort: Cohort) -> dict[str, Remote]:
    """Every archive of a cohort by its name, with size and md5 where its home publishes them.

    Raises DownloadError.
    """
    if cohort.zenodo is None:
        return {archive.name: Remote(archive.address) for archive in cohort.archives}
    listed: dict[str, Any] = {}
    answer = client.json(cohort.zenodo)
    for entry in _list(answer, "files", cohort.zenodo):
        if isinstance(entry, dict):
            listed[str(entry.get("key"))] = entry
    found = {}
    for archive in cohort.archives:
        entry = listed.get(archive.name, {})
        size, checksum = entry.get("size"), Checksum.parse(entry.get("checksum"))
        if not _size(size) or checksum is None:
            raise DownloadError(
                f"{cohort.zenodo}: no size and checksum of {archive.name}; expected the record to list them"
            )
        found[archive.name] = Remote(archive.address, size, checksum)
    return found


@dataclass(frozen=True)
class Listing:
    """What a repository holds of a cohort."""

    files: dict[str, Remote]
    """By path in the cohort's folder."""
    left_out: list[str]
    """What lies beside them and is not taken."""
    state: Checksum
    """What git calls this state of the repository."""


def files(client: Client, cohort: Cohort) -> Listing:
    """The files of a cohort in a GitHub repository; raises DownloadError."""
    assert cohort.tree is not None
    answer = client.json(cohort.tree)
    entries = {}
    for entry in _list(answer, "tree", cohort.tree):
        if isinstance(entry, dict) and entry.get("mode") in _PLAIN_FILES:
            entries[str(entry.get("path"))] = entry
    if answer.get("truncated"):
        raise DownloadError(f"{cohort.tree}: the list of files is cut short; expected all of them")
    found = {}
    chosen = cohort.choose(entries)
    for name, path in chosen.items():
        size, checksum = entries[name].get("size"), Checksum.parse(f"{GIT}:{entries[name].get('sha')}")
        if not _size(size) or checksum is None:
            raise DownloadError(f"{cohort.tree}: no size and checksum of {name}; expected both")
        found[path] = Remote(cohort.raw + quote(name), size, checksum)
    state = Checksum.parse(f"{GIT}:{answer.get('sha')}")
    if not found or state is None:
        raise DownloadError(f"{cohort.tree}: lists none of the cohort's files, or not their state")
    kinds = {re.sub(r"/[^/]*$", "", name) for name in chosen}
    left_out = sorted(n for n in entries.keys() - chosen.keys() if n.rpartition("/")[0] in kinds)
    return Listing(found, left_out, state)


def _list(answer: Any, key: str, address: str) -> list[Any]:
    entries = answer.get(key) if isinstance(answer, dict) else None
    if not isinstance(entries, list):
        raise DownloadError(f"{address}: no list {key!r} in the answer; expected one entry a file")
    return entries


def _size(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0
