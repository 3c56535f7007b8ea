"""Raw formats: one reader a file, registered here by its name; other packages may add theirs."""

from __future__ import annotations

import functools
from importlib.metadata import entry_points
from pathlib import Path

from senca_ray.data.readers.breast_atlas import BreastAtlasReader
from senca_ray.data.readers.cohort_file import CohortFileReader
from senca_ray.data.readers.h5ad import H5adReader
from senca_ray.data.readers.her2st import Her2stReader
from senca_ray.data.readers.legacy_st import LegacyStReader
from senca_ray.data.readers.spatial_data import SpatialDataReader
from senca_ray.data.readers.visium import VisiumReader
from senca_ray.data.readers.visium_hd import VisiumHdReader
from senca_ray.data.section import Reader
from senca_ray.errors import SencaError

ENTRY_POINTS = "senca_ray.readers"
"""Group of entry points in which another package names its readers."""

_OWN: tuple[Reader, ...] = (
    CohortFileReader(),
    Her2stReader(),
    VisiumHdReader(),
    VisiumReader(),
    BreastAtlasReader(),
    LegacyStReader(),
    H5adReader(),
    SpatialDataReader(),
)
"""In the order in which `detect` tries them."""


@functools.cache
def known() -> dict[str, Reader]:
    """Every raw format by its name, those of other packages last; raises SencaError for a broken one."""
    found: dict[str, Reader] = {reader.name: reader for reader in _OWN}
    for point in sorted(entry_points(group=ENTRY_POINTS), key=lambda p: p.name):
        try:
            given = point.load()
            added: Reader = given() if isinstance(given, type) else given
            name = added.name
        except Exception as error:  # noqa: BLE001 - code of another package may fail in any way
            raise SencaError(
                f"the reader {point.name!r} of another package ({point.value}) cannot be loaded: {error}; "
                "expected an object with name, expects, recognises, find and read; repair or remove it"
            ) from None
        if name in found:
            raise SencaError(
                f"the reader {point.value} of another package is called {name!r}, as one here is; expected a "
                "name of its own; rename it or remove that package"
            )
        found[name] = added
    return found


def reader(name: str) -> Reader:
    """The reader of a format; raises SencaError listing the known formats."""
    if name not in known():
        raise SencaError(f"format {name!r} is unknown; expected one of {', '.join(known())}")
    return known()[name]


def detect(root: Path) -> Reader:
    """The reader whose format `root` looks like; raises SencaError saying what was looked for."""
    if not root.exists():
        raise SencaError(f"{root}: no such folder; name the folder that holds the cohort")
    for candidate in known().values():
        if candidate.recognises(root):
            return candidate
    looked_for = "\n".join(f"  {r.name}: {r.expects}" for r in known().values())
    raise SencaError(
        f"{root}: not a known format; name the cohort's folder, or a cohort file. Looked for\n{looked_for}"
    )
