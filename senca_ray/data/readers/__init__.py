"""Raw formats: one reader a file, registered here by its name."""

from __future__ import annotations

from pathlib import Path

from senca_ray.data.readers.her2st import Her2stReader
from senca_ray.data.section import Reader
from senca_ray.errors import SencaError

_ALL: tuple[Reader, ...] = (Her2stReader(),)
READERS: dict[str, Reader] = {reader.name: reader for reader in _ALL}
"""Every raw format by its name, in the order in which `detect` tries them."""


def reader(name: str) -> Reader:
    """The reader of a format; raises SencaError listing the known formats."""
    if name not in READERS:
        raise SencaError(f"format {name!r} is unknown; expected one of {', '.join(READERS)}")
    return READERS[name]


def detect(root: Path) -> Reader:
    """The reader whose format the folder `root` looks like; raises SencaError saying what was looked for."""
    if not root.is_dir():
        raise SencaError(f"{root}: no such folder; name the folder that holds the cohort")
    for candidate in READERS.values():
        if candidate.recognises(root):
            return candidate
    looked_for = "; ".join(f"{r.name}: {r.expects}" for r in READERS.values())
    raise SencaError(f"{root}: not a known format; looked for {looked_for}; name the cohort's folder")
