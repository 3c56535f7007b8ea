"""Checksums as the cohorts' homes publish them, and our own."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

_CHUNK = 1 << 20

MD5, GIT, SHA256 = "md5", "git-sha1", "sha256"
"""What Zenodo publishes; what git calls a file by (sha1 of 'blob', its size and its bytes); our own."""
_DIGITS = {MD5: 32, GIT: 40, SHA256: 64}


@dataclass(frozen=True)
class Checksum:
    """Kind and value of a checksum."""

    kind: str
    value: str

    def __str__(self) -> str:
        return f"{self.kind}:{self.value}"

    @staticmethod
    def parse(text: object) -> Checksum | None:
        """Read 'kind:value'; None for anything else."""
        kind, _, value = str(text).partition(":")
        known = kind in _DIGITS and re.fullmatch(f"[0-9a-f]{{{_DIGITS[kind]}}}", value)
        return Checksum(kind, value) if known else None


def checksum(path: Path, kind: str) -> Checksum:
    """The checksum of a file's bytes."""
    if kind == SHA256:
        digest = hashlib.sha256()
    else:
        # Against damage, as the homes publish them; not against somebody who forges a file.
        digest = hashlib.new("md5" if kind == MD5 else "sha1", usedforsecurity=False)
    if kind == GIT:
        digest.update(b"blob %d\0" % path.stat().st_size)
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return Checksum(kind, digest.hexdigest())
