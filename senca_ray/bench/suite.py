"""Which figures there are, and measuring some of them one after another."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable, Iterable

from senca_ray.bench.figure import Figure
from senca_ray.errors import SencaError

NAMES = ("startup", "prepare", "fit", "aggregator", "racing", "cohort", "images", "overhead", "scale", "gpu")
"""In the order measured: the long ones last."""

LONGER = ("overhead", "scale")
"""Figures of which there is more to measure: trials of 20 s, a section of 500,000 spots."""

ON_REQUEST = ("scale", "gpu")
"""Figures that are measured only when named: a quarter of an hour for one run, and what needs a GPU."""

Say = Callable[[str], None]
"""Called with what is being measured."""


def chosen(names: Iterable[str]) -> tuple[str, ...]:
    """The figures named, in the order measured; left out, all but ON_REQUEST. Raises SencaError."""
    wanted = set(names)
    if unknown := sorted(wanted - set(NAMES)):
        raise SencaError(f"--only {', '.join(unknown)}: unknown; expected some of {', '.join(NAMES)}")
    wanted = wanted or set(NAMES) - set(ON_REQUEST)
    return tuple(name for name in NAMES if name in wanted)


def measure(name: str, repeat: int, say: Say, *, long: bool = False) -> list[Figure]:
    """Measure one of NAMES in `repeat` runs; `long` adds to those of LONGER what takes long."""
    measurement = importlib.import_module(f"senca_ray.bench.{name}").measure
    if name in LONGER:
        measurement = functools.partial(measurement, long=long)
    figures: list[Figure] = measurement(repeat, say)
    return figures
