"""What a result row is: its columns, its key, and the check that every row passes before it is stored."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from senca_ray import keys
from senca_ray.errors import Problem, ProblemsError

Row = dict[str, Any]
RowKey = tuple[Any, ...]

IDENTITY = [(name, pa.int64() if name == keys.SEED else pa.string()) for name in keys.ROW_KEY]
"""Name and type of the columns of a row's key."""

_TEXT = (keys.REASON, keys.PATIENT, keys.MODALITY, keys.LABEL_SOURCE)
_COUNTS = (keys.K, keys.N_SPOTS, keys.N_SCORED)
_LABEL_FREE = (keys.SILHOUETTE, keys.CHAOS, keys.PAS)
_PROVENANCE = (keys.DEVICE, keys.ENCODER, keys.FINGERPRINT, keys.VERSIONS, keys.CONFIG)

SCHEMA = pa.schema(
    [
        *IDENTITY,
        (keys.STATUS, pa.string()),
        *((name, pa.string()) for name in _TEXT),
        *((name, pa.int32()) for name in _COUNTS),
        *((name, pa.float64()) for name in (keys.ARI, keys.NMI, *_LABEL_FREE)),
        (keys.LABEL_F1, pa.string()),  # JSON: label -> F1
        (keys.PAIR, pa.string()),  # JSON: the two labels
        *((name, pa.float64()) for name in (keys.PAIR_AMI, keys.LOSS_FIRST, keys.LOSS_LAST)),
        (keys.STABILITY, pa.float64()),  # of consensus rows only, like the number of seeds
        (keys.N_SEEDS, pa.int32()),
        *((name, pa.float64()) for name in (keys.SECONDS, keys.PEAK_MEMORY_MB)),
        *((name, pa.string()) for name in _PROVENANCE),  # versions and config are JSON
        (keys.FORM, pa.string()),
        (keys.TYPICAL, pa.bool_()),  # of the trial's own reading only
        (keys.REGIONS, pa.list_(pa.int16())),
        (keys.LOSSES, pa.list_(pa.float32())),  # one an epoch
    ]
)
"""Every column of a result row; null stands for 'not known' or 'does not apply', NaN is stored as null."""

_BLOCK = (keys.PATIENT, keys.MODALITY, keys.LABEL_SOURCE)
_REQUIRED = {
    keys.OK: (*_BLOCK, *_COUNTS, keys.SECONDS, *_PROVENANCE, keys.REGIONS),
    keys.FAILED: (keys.REASON,),
}
"""Columns that no row of this status may leave empty, besides its key and status."""
_ALLOWED = {
    keys.STATUS: (keys.OK, keys.FAILED),
    keys.MODALITY: (keys.RNA, keys.RNA_IMAGE),
    keys.LABEL_SOURCE: keys.LABEL_SOURCES,
    keys.FORM: (keys.EXACT, keys.LARGE),
}


def row_key(row: Mapping[str, Any]) -> RowKey:
    """The values of keys.ROW_KEY in a row."""
    return tuple(row[name] for name in keys.ROW_KEY)


def check_rows(rows: Sequence[Mapping[str, Any]]) -> list[Row]:
    """Rows as plain Python values with every column of SCHEMA; a column left out is null.

    Raises ProblemsError naming every column that is unknown, empty but required, or of a wrong type.
    """
    problems: list[Problem] = []
    checked = [_plain_row(row, problems) for row in rows]
    if not problems:
        problems = [problem for row in checked for problem in _check_values(row)]
    if problems:
        raise ProblemsError(problems, f"{len(rows)} result row{'s' if len(rows) != 1 else ''}")
    return checked


def _plain_row(row: Mapping[str, Any], problems: list[Problem]) -> Row:
    sample = str(row.get(keys.SAMPLE, "-"))
    for name in row.keys() - set(SCHEMA.names):
        problems.append(Problem(sample, str(name), "unknown column; expected those that SCHEMA names"))
    plain: Row = dict.fromkeys(SCHEMA.names)
    for field in SCHEMA:
        try:
            plain[field.name] = _plain(row.get(field.name), field.type)
        except ValueError:
            found = f"{row[field.name]!r} found; expected {field.type} or None"
            problems.append(Problem(sample, field.name, found))
    return plain


def _plain(value: Any, kind: pa.DataType) -> Any:
    """A value as JSON holds it, NaN as None; ValueError where it is of another type, never a silent cast."""
    if value is None or (isinstance(value, float | np.floating) and math.isnan(value)):
        return None
    if kind == pa.string() and isinstance(value, str):
        return value
    if kind == pa.float64() and isinstance(value, int | float | np.integer | np.floating):
        return float(value)
    if pa.types.is_integer(kind) and isinstance(value, int | np.integer):
        return int(value)
    if kind == pa.bool_() and isinstance(value, bool):
        return value
    if kind == pa.list_(pa.int16()):
        regions = np.asarray(value)
        whole = regions.ndim == 1 and regions.dtype.kind == "i"
        if whole and np.array_equal(regions, regions.astype(np.int16)):
            return regions.tolist()
    if kind == pa.list_(pa.float32()):
        numbers = np.asarray(value)
        if numbers.ndim == 1 and numbers.dtype.kind == "f":
            return numbers.tolist()
    raise ValueError


def _check_values(row: Row) -> Iterator[Problem]:
    status, sample = row[keys.STATUS], str(row[keys.SAMPLE])
    for name in (*keys.ROW_KEY, keys.STATUS, *_REQUIRED.get(status, ())):
        if row[name] is None:
            yield Problem(sample, name, f"missing in a row with status {status}; expected a value")
    if status == keys.OK and row[keys.CLUSTERING] == keys.CONSENSUS and row[keys.N_SEEDS] is None:
        yield Problem(sample, keys.N_SEEDS, "missing in a consensus row; expected how many seeds it combines")
    for name, allowed in _ALLOWED.items():
        if row[name] is not None and row[name] not in allowed:
            yield Problem(sample, name, f"{row[name]!r} found; expected one of {', '.join(allowed)}")
