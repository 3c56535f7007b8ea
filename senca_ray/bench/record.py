"""The JSON file of a measurement: written whole, read with suspicion, compared as ratios."""

from __future__ import annotations

import datetime
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from senca_ray.bench.figure import Figure
from senca_ray.bench.machine import describe
from senca_ray.errors import SencaError
from senca_ray.files import write_text

_SCHEMA = "senca bench 1"


@dataclass(frozen=True)
class Record:
    """Figures with the machine and the day they were measured on."""

    machine: dict[str, Any]
    date: str
    figures: tuple[Figure, ...]
    missing: dict[str, str]
    """Figures that were asked for and could not be measured, with the reason."""


@dataclass(frozen=True)
class Change:
    """A figure of two records."""

    title: str
    unit: str
    first: float | None
    second: float | None
    """Medians; None where a record does not have the figure."""
    verdict: str
    """'better' or 'worse' for the second; 'runs overlap' where its runs are not all on one side."""

    @property
    def ratio(self) -> float | None:
        """Second divided by first; None where one is missing or the first is 0."""
        return self.second / self.first if self.first and self.second is not None else None


def new_record(figures: Iterable[Figure], missing: dict[str, str]) -> Record:
    """The record of what was measured here and now."""
    date = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    return Record(describe(), date, tuple(figures), missing)


def write_record(path: Path, record: Record) -> None:
    """Write a record; raises SencaError when the disk refuses."""
    content = {
        "schema": _SCHEMA,
        "date": record.date,
        "machine": record.machine,
        "figures": {figure.name: figure.to_dict() for figure in record.figures},
        "missing": record.missing,
    }
    write_text(path, json.dumps(content, indent=2) + "\n")


def read_record(path: Path) -> Record:
    """Read a record; raises SencaError naming the file when it is damaged or something else."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(content, dict) or content.get("schema") != _SCHEMA:
            raise ValueError(f"expected a JSON object with schema {_SCHEMA!r}")
        figures, machine, missing = content["figures"], content["machine"], content["missing"]
        if not all(isinstance(part, dict) for part in (figures, machine, missing)):
            raise ValueError("figures, machine and missing have to be objects")
        read = tuple(Figure.from_dict(name, values) for name, values in figures.items())
        return Record(machine, str(content["date"]), read, missing)
    except KeyError as error:
        finding = f"{error} is missing"
    except (OSError, ValueError, RecursionError) as error:
        finding = str(error)
    raise SencaError(
        f"{path}: cannot be read as a result of `senca bench` ({finding}); give a file that "
        "`senca bench --out FILE.json` wrote, or measure again"
    ) from None


def compare(first: Record, second: Record) -> list[Change]:
    """Every figure of either record, those of the first in its order, then what only the second has."""
    a, b = ({figure.name: figure for figure in record.figures} for record in (first, second))
    return [_change(a.get(name), b.get(name)) for name in (a | b)]


def differences(first: Record, second: Record) -> list[str]:
    """What differs between the two machines: ratios then measure this as well."""
    a, b = (_flat(record.machine) for record in (first, second))
    return [f"{name}: {a.get(name)} and {b.get(name)}" for name in (a | b) if a.get(name) != b.get(name)]


def _change(a: Figure | None, b: Figure | None) -> Change:
    known = a or b
    if known is None:
        raise ValueError("a figure of neither record")
    medians = (a.median if a else None, b.median if b else None)
    return Change(known.title.strip(), known.unit, *medians, _verdict(a, b) if a and b else "")


def _verdict(a: Figure, b: Figure) -> str:
    lower, higher = max(b.runs) < min(a.runs), min(b.runs) > max(a.runs)
    if a.runs == b.runs:
        return "equal"
    if not lower and not higher:
        return "runs overlap"
    return "better" if lower == (b.better == "lower") else "worse"


def _flat(machine: dict[str, Any]) -> dict[str, Any]:
    packages = machine.get("packages")
    rest = {name: value for name, value in machine.items() if name != "packages"}
    return rest | (packages if isinstance(packages, dict) else {})
