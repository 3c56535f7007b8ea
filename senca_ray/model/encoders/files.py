"""Files of encoder weights: which encoder each is for, and their digests. Imports no torch."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

from senca_ray.errors import Problem, ProblemsError
from senca_ray.files import sha256

CONFIG_FILE = "config.json"
"""Lies beside a checkpoint of timm's, and says how its network is built."""


def weights_by_encoder(
    given: Path | Mapping[str, Path] | Sequence[str] | None, encoders: Sequence[str], place: str
) -> dict[str, Path]:
    """The file of weights of each encoder that has one, however they were given.

    `given` is a single file, a mapping from encoder to file, or the words of a command line: FILE or
    NAME=FILE. `place` is the option or field as messages name it. Raises ProblemsError with every name that
    is none of `encoders`, every file that is not there, and a file alone where there are several encoders.
    """
    if isinstance(given, Mapping):
        pairs = [(name, Path(file)) for name, file in given.items()]
    else:
        words = [] if given is None else [str(given)] if isinstance(given, Path) else list(given)
        pairs = [_pair(word, encoders) for word in words]
    found: dict[str, Path] = {}
    problems: list[str] = []
    for name, file in pairs:
        if not name:
            problems.append(f"{str(file)!r} found, for one of {', '.join(encoders)}; expected NAME=FILE")
        elif name not in encoders:
            problems.append(f"{name!r} found; expected one of the encoders asked for: {', '.join(encoders)}")
        elif name in found:
            problems.append(f"two files for {name}: {found[name]} and {file}; expected one")
        elif not file.is_file():
            problems.append(
                f"{file}: no such file; expected the weights of {name}, as .pth, .bin or .safetensors"
            )
        else:
            found[name] = file.resolve()
    if problems:
        raise ProblemsError([Problem("-", place, text) for text in problems], "the encoder weights")
    return found


def _pair(word: str, encoders: Sequence[str]) -> tuple[str, Path]:
    """Encoder and file of one word; without encoder where the word does not tell which."""
    name, sign, file = word.partition("=")
    if sign and (name in encoders or not Path(word).exists()):
        return name, Path(file)
    return (encoders[0] if len(encoders) == 1 else ""), Path(word)


def weights_digest(file: Path) -> str:
    """Hex digest of a file of weights and, where there is one, of the config.json beside it."""
    config = file.parent / CONFIG_FILE
    found = file.stat()
    own = _known_digest(file, found.st_size, found.st_mtime_ns)
    if not config.is_file():
        return own
    return hashlib.sha256(f"{own} {sha256(config)}".encode()).hexdigest()


@functools.lru_cache(maxsize=32)
def _known_digest(file: Path, size: int, changed: int) -> str:
    """Gigabytes, and asked for with every section."""
    return sha256(file)
