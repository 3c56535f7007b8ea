"""Tab-separated text files, read strictly: whatever is wrong with one becomes one clear message."""

from __future__ import annotations

import gzip
import math
import re
import zlib
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from senca_ray.errors import SencaError

MISSING = ("", "NA", "NaN", "nan")
"""Cells that stand for 'no value'."""

_SMALL, _MOST_TIMES = 256_000_000, 200
"""Bytes that any gzip file may unpack to, or so many times its size: counts, mostly 0, pack 60 times."""

_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")


def quantity(count: int, noun: str) -> str:
    """'1 row', '2 rows'."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def quote(text: str) -> str:
    """`text` in quotes, cut where it is long, with unprintable characters escaped."""
    return repr(text if len(text) <= 40 else f"{text[:37]}...")


def quote_some(items: Sequence[str]) -> str:
    """The first three items in quotes and how many more there are."""
    shown = ", ".join(quote(item) for item in items[:3])
    return f"{shown} and {len(items) - 3:,} more" if len(items) > 3 else shown


def repeated(items: Iterable[str]) -> list[str]:
    """The items that occur more than once, in order of first occurrence."""
    return [item for item, times in Counter(items).items() if times > 1]


def number(cell: str) -> float:
    """The number written in a cell, NaN where there is none."""
    cell = cell.strip()
    return float(cell) if _NUMBER.fullmatch(cell) else math.nan


def read_lines(path: Path) -> list[str]:
    """Lines of a tab-separated UTF-8 file (gzip when it ends in .gz): a header and one row or more.

    Raises SencaError when the file cannot be read or its lines differ in number of columns.
    """
    text = _read_text(path)
    lines = text.replace("\r\n", "\n").replace("\r", "\n").rstrip("\n").split("\n")
    tabs = lines[0].count("\t")
    if tabs == 0:
        raise SencaError(
            f"line 1 holds one column, {quote(lines[0])}; expected columns separated by tabs; "
            "write the file with tabs as separator"
        )
    ragged = [index for index, line in enumerate(lines) if line.count("\t") != tabs]
    if ragged:
        raise SencaError(
            f"{quantity(len(ragged), 'line')} with another number of columns than the header, first line "
            f"{ragged[0] + 1} with {lines[ragged[0]].count(chr(9)) + 1}; expected {tabs + 1}; "
            "the file may be cut off: copy it again"
        )
    if len(lines) == 1:
        raise SencaError("only a header found; expected one row or more; copy the file again or remove it")
    return lines


def read_table(path: Path, required: Sequence[str]) -> pd.DataFrame:
    """Read a small table as text cells; raises SencaError, also when a required column is missing."""
    header, *rows = (line.split("\t") for line in read_lines(path))
    missing = [column for column in required if column not in header]
    if missing:
        raise SencaError(
            f"column {', '.join(map(repr, missing))} missing; found {', '.join(map(quote, header))}; "
            f"expected {', '.join(required)}; add the column"
        )
    twice = [column for column in repeated(header) if column in required]
    if twice:
        raise SencaError(f"column {', '.join(map(repr, twice))} found twice; expected once; remove one")
    return pd.DataFrame(rows, columns=header, dtype=object)[list(required)]


def read_numbers(table: pd.DataFrame, columns: Sequence[str], *, missing: bool = False) -> np.ndarray:
    """Read columns of text cells as numbers; returns (rows, columns) float64.

    `missing`: empty and NA cells are allowed and become NaN. Raises SencaError for any other cell that is
    no finite number.
    """
    cells = table[list(columns)].to_numpy(dtype=object)
    values = np.array([[number(cell) for cell in row] for row in cells], dtype=np.float64)
    wrong = ~np.isfinite(values)
    if missing:
        wrong &= ~np.array([[cell.strip() in MISSING for cell in row] for row in cells])
    if wrong.any():
        row, column = np.argwhere(wrong)[0]
        raise SencaError(
            f"{quantity(int(wrong.sum()), 'cell')} without a number, first line {row + 2}, column "
            f"{columns[column]!r}: {quote(cells[row, column])}; expected finite numbers; correct the cells"
        )
    return values


def read_matrix(lines: Sequence[str]) -> np.ndarray:
    """Read the cells after the first column of `lines` (header left out) as numbers.

    Returns (rows, columns) float64, NaN for a cell that is no number.
    """
    columns = lines[0].count("\t")
    try:
        return np.loadtxt(lines, delimiter="\t", comments=None, usecols=range(1, columns + 1), ndmin=2)
    except ValueError:
        # Some cell is no number: go cell by cell, so that all of them can be told.
        return np.array([[number(cell) for cell in line.split("\t")[1:]] for line in lines])


def _unpacked(path: Path) -> bytes:
    """The content of a gzip file; raises SencaError for one that unpacks to far more than any table would."""
    most = max(_SMALL, _MOST_TIMES * path.stat().st_size)
    with gzip.open(path) as file:
        content = file.read(most + 1)
    if len(content) > most:
        raise SencaError(
            f"unpacks to more than {_MOST_TIMES} times its {path.stat().st_size:,} bytes; expected a table, "
            "which packs less well; do not trust the file, or pack it without padding"
        )
    return content


def _read_text(path: Path) -> str:
    try:
        if path.stat().st_size == 0:
            raise SencaError("the file is empty (0 bytes); copy it again")
        content = _unpacked(path) if path.suffix == ".gz" else path.read_bytes()
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise SencaError(
            f"not a complete gzip file ({error}); expected gzip-compressed text; copy the file again"
        ) from None
    except OSError as error:
        raise SencaError(
            f"cannot be read ({error.strerror or error}); check the file's permissions"
        ) from None
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise SencaError(
            f"byte {error.start} is not UTF-8 text; expected a tab-separated UTF-8 file; save it as UTF-8"
        ) from None
    if not text.strip():
        raise SencaError("the file holds no text; expected a header and rows; copy it again")
    return text
