"""Files that appear whole or not at all."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from senca_ray.errors import SencaError


def cache() -> Path:
    """Folder for what can be made again: SENCA_CACHE, else the user's cache folder."""
    given = os.environ.get("SENCA_CACHE")
    base = os.environ.get("XDG_CACHE_HOME")
    return Path(given) if given else (Path(base) if base else Path.home() / ".cache") / "senca_ray"


def sha256(path: Path) -> str:
    """Hex digest of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_whole(path: Path, write: Callable[[Path], None]) -> None:
    """Let `write` fill a temporary file and rename it to `path`; raises SencaError when the disk refuses."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        write(temporary)
        temporary.replace(path)
    except OSError as error:
        raise SencaError(
            f"{path}: cannot be written ({error}); free space or allow writing there, then run it again"
        ) from None
    finally:
        temporary.unlink(missing_ok=True)


def write_content(path: Path, content: bytes) -> None:
    """Write bytes with `write_whole`."""

    def write(temporary: Path) -> None:
        temporary.write_bytes(content)

    write_whole(path, write)


def write_text(path: Path, text: str) -> None:
    """Write text (UTF-8) with `write_whole`."""

    def write(temporary: Path) -> None:
        temporary.write_text(text, encoding="utf-8")

    write_whole(path, write)


def write_json(path: Path, content: Any) -> None:
    """Write `content` as JSON with `write_whole`."""
    write_text(path, json.dumps(content, indent=2))
