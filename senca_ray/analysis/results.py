"""The results store: an append-only journal while a study runs, two Parquet tables when it is done."""

from __future__ import annotations

import json
import mmap
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from senca_ray import keys
from senca_ray.analysis.rows import IDENTITY, SCHEMA, Row, RowKey, check_rows, row_key
from senca_ray.errors import SencaError
from senca_ray.files import write_whole

if TYPE_CHECKING:
    import pandas as pd

BULKY = (keys.REGIONS, keys.LOSSES)
"""Columns of a row that take most of its place, kept in a table of their own."""
_SCORES = pa.schema([field for field in SCHEMA if field.name not in BULKY])
_REGIONS = pa.schema([*IDENTITY, *(SCHEMA.field(name) for name in BULKY)])
_STATUS = _SCORES.get_field_index(keys.STATUS)

EARLIER = {keys.PROTOCOL: keys.UNSCORED}
"""What rows of an earlier version lack and meant."""

# Lists of a whole study in one array would overflow its 32-bit offsets.
_ROWS_PER_GROUP = 256


class Journal:
    """The append-only file of a running study: one JSON line a result row, idempotent on keys.ROW_KEY.

    Holds all but regions and losses in memory, about 1 kB a row. One process, the aggregator, appends.
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
        self._rows: dict[RowKey, tuple[Any, ...]] = {}
        self._texts: dict[str, str] = {}
        for row in _read_lines(self._path, without=BULKY):
            self._remember(row)

    def append(self, rows: Sequence[Mapping[str, Any]]) -> int:
        """Store rows for good (on disk when this returns) and return how many were new.

        A key that is already there is ignored, unless the stored row failed and the new one did not.
        Raises ProblemsError for rows with wrong columns or values and SencaError when the disk refuses;
        in both cases none of the rows is stored.
        """
        accepted: dict[RowKey, Row] = {}
        for row in check_rows(rows):
            key = row_key(row)
            if _supersedes(row, accepted[key][keys.STATUS] if key in accepted else self._status(key)):
                accepted[key] = row
        if accepted:
            self._write("".join(json.dumps(row) + "\n" for row in accepted.values()).encode())
            for row in accepted.values():
                self._remember(row)
        return len(accepted)

    def keys(self, failed: bool = True) -> list[RowKey]:
        """The keys stored (values in the order of keys.ROW_KEY), with or without those of failed rows."""
        return [key for key, values in self._rows.items() if failed or values[_STATUS] == keys.OK]

    def rows(self, wanted: Sequence[RowKey]) -> list[Row]:
        """The rows under these keys, in order, without regions and losses; keys without rows are left out."""
        stored = (self._rows.get(tuple(key)) for key in wanted)
        return [dict(zip(_SCORES.names, values, strict=True)) for values in stored if values is not None]

    def counts(self) -> dict[str, int]:
        """Number of rows by status."""
        found = Counter(values[_STATUS] for values in self._rows.values())
        return {status: found[status] for status in (keys.OK, keys.FAILED)}

    def _status(self, key: RowKey) -> str | None:
        stored = self._rows.get(key)
        return stored[_STATUS] if stored else None

    def _remember(self, row: Row) -> None:
        # Most texts are those of many rows (settings, versions, fingerprints): each is kept once.
        values = tuple(
            self._texts.setdefault(value, value) if isinstance(value, str) else value
            for value in map(row.get, _SCORES.names)
        )
        # The columns of the key come first in SCHEMA.
        self._rows[values[: len(keys.ROW_KEY)]] = values

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


def _read_lines(path: Path, without: Sequence[str] = ()) -> Iterator[Row]:
    """The rows of a journal in the order of appending; an unfinished last line is passed over.

    A row written before a column existed lacks it; bulky columns in `without` are null.
    """
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.endswith(b"\n"):
                return
            yield read_line(line, path, number, without)


def read_line(line: bytes, path: Path, number: int, without: Sequence[str] = BULKY) -> Row:
    """The row in line `number` of the journal at `path`, bulky columns in `without` left null.

    They are most of a line: passing over them unread is several times as fast. Raises SencaError.
    """
    for name in without:
        # In a text these quotes would be escaped, so this is the column.
        begin = line.find(f'"{name}": ['.encode())
        end = line.find(b"]", begin)
        if begin >= 0 and end >= 0:
            line = line[:begin] + f'"{name}": null'.encode() + line[end + 1 :]
    try:
        row = EARLIER | json.loads(line)
        row_key(row)
    except (ValueError, KeyError, TypeError):
        raise SencaError(
            f"{path}: line {number} is not a result row; remove this line and resume the study"
        ) from None
    return row


def write_tables(study_dir: Path) -> None:
    """Write results.parquet and regions.parquet from the journal, rows sorted by key.

    The same rows give the same tables, in whatever order they were appended. Both files appear whole or not
    at all. Raises SencaError when there is no journal or the disk refuses.
    """
    journal = Path(study_dir) / keys.JOURNAL_FILE
    if not journal.exists():
        raise SencaError(f"{journal}: no such file; expected the journal of a study; run the study first")
    rows = _last_words(journal)
    _write_parquet(Path(study_dir) / keys.RESULTS_FILE, _SCORES, rows)
    _write_parquet(Path(study_dir) / keys.REGIONS_FILE, _REGIONS, _with_regions(rows))


def tables_current(study_dir: Path) -> bool:
    """Whether both tables are there and hold all that the journal does."""
    folder = Path(study_dir)
    return all(_is_current(folder / name) for name in (keys.RESULTS_FILE, keys.REGIONS_FILE))


def _is_current(table: Path) -> bool:
    journal = table.with_name(keys.JOURNAL_FILE)
    try:
        # A copy may have lost these times: then the journal is read, which holds the same.
        return table.stat().st_mtime >= journal.stat().st_mtime
    except FileNotFoundError:
        return table.exists()


def _last_words(journal: Path, without: Sequence[str] = ()) -> list[Row]:
    """The rows of a journal that count, sorted by key, what is bulky in them as arrays."""
    kept: dict[RowKey, Row] = {}
    for row in _read_lines(journal, without):
        stored = kept.get(row_key(row))
        if _supersedes(row, stored[keys.STATUS] if stored else None):
            for name, kind in ((keys.REGIONS, np.int16), (keys.LOSSES, np.float32)):
                row[name] = None if row.get(name) is None else np.array(row[name], kind)
            kept[row_key(row)] = row
    return [kept[key] for key in sorted(kept)]


def _with_regions(rows: Sequence[Row]) -> list[Row]:
    return [row for row in rows if row[keys.REGIONS] is not None]


def _write_parquet(path: Path, schema: pa.Schema, rows: Sequence[Row]) -> None:
    def write(temporary: Path) -> None:
        with pq.ParquetWriter(temporary, schema) as writer:
            for table in _tables(schema, rows):
                writer.write_table(table)

    write_whole(path, write)


def _tables(schema: pa.Schema, rows: Sequence[Row]) -> Iterator[pa.Table]:
    for start in range(0, len(rows), _ROWS_PER_GROUP):
        group = rows[start : start + _ROWS_PER_GROUP]
        columns = [pa.array([row.get(field.name) for row in group], field.type) for field in schema]
        yield pa.table(columns, schema=schema)


def read_results(study_dir: Path) -> pd.DataFrame:
    """The results of a study, one row a result row; raises SencaError where there are none.

    Those of its table, or of its journal as far as that goes, while the study has no table or an older one.
    A column that did not exist when they were written is null.
    """
    return _read(Path(study_dir) / keys.RESULTS_FILE, _SCORES)


def read_fits(study_dir: Path) -> pd.DataFrame:
    """`read_results` with the `regions` and `losses` of every row that has any; raises SencaError."""
    return read_results(study_dir).merge(read_regions(study_dir), how="left", on=list(keys.ROW_KEY))


def read_regions(study_dir: Path) -> pd.DataFrame:
    """What the fits of a study left, under their key columns; where from and raises as `read_results`.

    `regions`, (N,) int16 a row, and `losses`, (E,) float32, which only a trained method has.
    """
    return _read(Path(study_dir) / keys.REGIONS_FILE, _REGIONS)


def _read(path: Path, schema: pa.Schema) -> pd.DataFrame:
    journal = path.with_name(keys.JOURNAL_FILE)
    if _is_current(path) or not journal.exists():
        table = _with_columns(_read_parquet(path), schema)
    else:
        bulky = schema == _REGIONS
        rows = _last_words(journal, () if bulky else BULKY)
        if not rows:
            raise SencaError(
                f"{path.parent}: no results yet: no trial has ended; wait while the study runs, or go on "
                f"with `senca resume {path.parent}`"
            )
        rows = _with_regions(rows) if bulky else rows
        table = pa.concat_tables([schema.empty_table(), *_tables(schema, rows)])
    return table.to_pandas().fillna(EARLIER)


def _with_columns(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """The table with every column of the schema; those it was written without are null."""
    for field in schema:
        if field.name not in table.column_names:
            table = table.append_column(field, pa.nulls(len(table), field.type))
    return table


def _read_parquet(path: Path) -> pa.Table:
    try:
        return pq.read_table(path)
    except FileNotFoundError:
        raise SencaError(
            f"{path}: no such file; expected the folder of a study; "
            f"finish an interrupted one with `senca resume {path.parent}`"
        ) from None
    except (OSError, pa.ArrowException) as error:
        fix = "restore it from a copy of the study"
        if path.with_name(keys.JOURNAL_FILE).exists():
            fix = f"`senca resume {path.parent}` makes it again and runs nothing that has ended"
        raise SencaError(f"{path}: cannot be read as a table ({_words(error)}); {fix}") from None


def _words(error: Exception) -> str:
    return " ".join(str(error).split())
