"""The results store: an append-only journal while a study runs, two Parquet tables when it is done."""

from __future__ import annotations

import json
import math
import mmap
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from senca_ray import keys
from senca_ray.errors import Problem, ProblemsError, SencaError
from senca_ray.files import write_whole

Row = dict[str, Any]
RowKey = tuple[Any, ...]

_IDENTITY = [(name, pa.int64() if name == keys.SEED else pa.string()) for name in keys.ROW_KEY]
_TEXT = (keys.REASON, keys.PATIENT, keys.MODALITY, keys.LABEL_SOURCE)
_COUNTS = (keys.K, keys.N_SPOTS, keys.N_SCORED)
_LABEL_FREE = (keys.SILHOUETTE, keys.CHAOS, keys.PAS)
_PROVENANCE = (keys.DEVICE, keys.ENCODER, keys.FINGERPRINT, keys.VERSIONS, keys.CONFIG)

SCHEMA = pa.schema(
    [
        *_IDENTITY,
        (keys.STATUS, pa.string()),
        *((name, pa.string()) for name in _TEXT),
        *((name, pa.int32()) for name in _COUNTS),
        *((name, pa.float64()) for name in (keys.ARI, keys.NMI, *_LABEL_FREE)),
        (keys.LABEL_F1, pa.string()),  # JSON: label -> F1
        (keys.PAIR, pa.string()),  # JSON: the two labels
        *((name, pa.float64()) for name in (keys.PAIR_AMI, keys.LOSS_FIRST, keys.LOSS_LAST)),
        *((name, pa.float64()) for name in (keys.SECONDS, keys.PEAK_MEMORY_MB)),
        *((name, pa.string()) for name in _PROVENANCE),  # versions and config are JSON
        (keys.REGIONS, pa.list_(pa.int16())),
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
}

# Lists of a whole study in one array would overflow its 32-bit offsets.
_ROWS_PER_GROUP = 256


class Journal:
    """The append-only file of a running study: one JSON line a result row, idempotent on keys.ROW_KEY.

    Holds only keys in memory. One process appends at a time (the aggregator).
    """

    def __init__(self, study_dir: Path) -> None:
        """Open or create `study_dir/journal.jsonl`; a last line torn by a crash is cut off."""
        self._path = Path(study_dir) / keys.JOURNAL_FILE
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._path.touch()
            _cut_torn_line(self._path)
        except OSError as error:
            raise SencaError(
                f"{self._path}: cannot be written ({error.strerror}); choose another --out"
            ) from None
        self._status = {row_key(row): str(row[keys.STATUS]) for row in _read_lines(self._path)}

    def append(self, rows: Sequence[Mapping[str, Any]]) -> int:
        """Store rows for good (on disk when this returns) and return how many were new.

        A key that is already there is ignored, unless the stored row failed and the new one did not.
        Raises ProblemsError for rows with wrong columns or values and SencaError when the disk refuses;
        in both cases none of the rows is stored.
        """
        accepted: dict[RowKey, Row] = {}
        for row in check_rows(rows):
            key = row_key(row)
            if _supersedes(row, accepted[key][keys.STATUS] if key in accepted else self._status.get(key)):
                accepted[key] = row
        if accepted:
            self._write("".join(json.dumps(row) + "\n" for row in accepted.values()).encode())
            self._status |= {key: row[keys.STATUS] for key, row in accepted.items()}
        return len(accepted)

    def keys(self) -> list[RowKey]:
        """The keys stored (values in the order of keys.ROW_KEY), of failed rows too."""
        return list(self._status)

    def counts(self) -> dict[str, int]:
        """Number of rows by status."""
        values = list(self._status.values())
        return {status: values.count(status) for status in (keys.OK, keys.FAILED)}

    def _write(self, payload: bytes) -> None:
        size = self._path.stat().st_size
        try:
            with self._path.open("ab") as file:
                file.write(payload)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            # Half a batch on disk would glue itself to the next one.
            os.truncate(self._path, size)
            raise SencaError(
                f"{self._path}: {len(payload)} bytes cannot be appended ({error.strerror}); "
                "free space there and resume the study"
            ) from None


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
    if pa.types.is_list(kind):
        regions = np.asarray(value)
        whole = regions.ndim == 1 and regions.dtype.kind == "i"
        if whole and np.array_equal(regions, regions.astype(np.int16)):
            return regions.tolist()
    raise ValueError


def _check_values(row: Row) -> Iterator[Problem]:
    status, sample = row[keys.STATUS], str(row[keys.SAMPLE])
    for name in (*keys.ROW_KEY, keys.STATUS, *_REQUIRED.get(status, ())):
        if row[name] is None:
            yield Problem(sample, name, f"missing in a row with status {status}; expected a value")
    for name, allowed in _ALLOWED.items():
        if row[name] is not None and row[name] not in allowed:
            yield Problem(sample, name, f"{row[name]!r} found; expected one of {', '.join(allowed)}")


def _supersedes(row: Row, stored_status: str | None) -> bool:
    return stored_status is None or (stored_status == keys.FAILED and row[keys.STATUS] == keys.OK)


def _cut_torn_line(path: Path) -> None:
    """Drop what follows the last newline: a line that a crash left unfinished, so never acknowledged."""
    if path.stat().st_size == 0:
        return
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        whole, size = content.rfind(b"\n") + 1, len(content)
    if whole < size:
        os.truncate(path, whole)


def _read_lines(path: Path) -> Iterator[Row]:
    """The rows of a journal in the order of appending; an unfinished last line is passed over."""
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.endswith(b"\n"):
                return
            try:
                row = json.loads(line)
                row_key(row)
            except (ValueError, KeyError, TypeError):
                raise SencaError(
                    f"{path}: line {number} is not a result row; remove this line and resume the study"
                ) from None
            yield row


def write_tables(study_dir: Path) -> None:
    """Write results.parquet and regions.parquet from the journal, rows sorted by key.

    The same rows give the same tables, in whatever order they were appended. Both files appear whole or not
    at all. Raises SencaError when there is no journal or the disk refuses.
    """
    journal = Path(study_dir) / keys.JOURNAL_FILE
    if not journal.exists():
        raise SencaError(f"{journal}: no such file; expected the journal of a study; run the study first")
    kept: dict[RowKey, Row] = {}
    for row in _read_lines(journal):
        stored = kept.get(row_key(row))
        if _supersedes(row, stored[keys.STATUS] if stored else None):
            row[keys.REGIONS] = None if row[keys.REGIONS] is None else np.array(row[keys.REGIONS], np.int16)
            kept[row_key(row)] = row
    rows = [kept[key] for key in sorted(kept)]
    scores = pa.schema([field for field in SCHEMA if field.name != keys.REGIONS])
    regions = pa.schema([*_IDENTITY, SCHEMA.field(keys.REGIONS)])
    _write_parquet(Path(study_dir) / keys.RESULTS_FILE, scores, rows)
    with_regions = [row for row in rows if row[keys.REGIONS] is not None]
    _write_parquet(Path(study_dir) / keys.REGIONS_FILE, regions, with_regions)


def _write_parquet(path: Path, schema: pa.Schema, rows: Sequence[Row]) -> None:
    def write(temporary: Path) -> None:
        with pq.ParquetWriter(temporary, schema) as writer:
            for start in range(0, len(rows), _ROWS_PER_GROUP):
                group = rows[start : start + _ROWS_PER_GROUP]
                columns = [pa.array([row[field.name] for row in group], field.type) for field in schema]
                writer.write_table(pa.table(columns, schema=schema))

    write_whole(path, write)


def read_results(study_dir: Path) -> pd.DataFrame:
    """The results table of a finished study, one row a result row; raises SencaError."""
    return _read_parquet(Path(study_dir) / keys.RESULTS_FILE)


def read_regions(study_dir: Path) -> pd.DataFrame:
    """The regions of a finished study: key columns and `regions`, (N,) int16 a row; raises SencaError."""
    return _read_parquet(Path(study_dir) / keys.REGIONS_FILE)


def _read_parquet(path: Path) -> pd.DataFrame:
    try:
        return pq.read_table(path).to_pandas()
    except FileNotFoundError:
        raise SencaError(
            f"{path}: no such file; expected the folder of a finished study; "
            f"finish an interrupted one with `senca resume {path.parent}`"
        ) from None
    except (OSError, pa.ArrowException) as error:
        raise SencaError(f"{path}: cannot be read as a table: {error}") from None
