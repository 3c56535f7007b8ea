"""Text files of 10x sections, compressed or not: whatever is wrong with one becomes one clear message."""

from __future__ import annotations

import csv
import gzip
import io
import json
import zlib
from collections.abc import Sequence
from pathlib import Path

from senca_ray.data.readers.tables import quantity, quote, repeated
from senca_ray.errors import SencaError

MAX_TEXT = 2**29
"""Bytes of text, unpacked, that are read into memory: 20 million barcodes."""

_GZIP = b"\x1f\x8b"


def told(error: Exception) -> str:
    """The message of a library's error on one line, cut where it is long."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 120 else f"{text[:117]}..."


def opened(path: Path) -> tuple[gzip.GzipFile | io.BufferedReader, bool]:
    """Open a file, unpacking what is gzip by its first bytes; returns the stream and whether it is packed.

    Names do not tell: the breast-cancer atlas ships plain text under names that end in .gz. Raises
    SencaError when the file is missing, empty or cannot be read.
    """
    try:
        if path.stat().st_size == 0:
            raise SencaError("the file is empty (0 bytes); copy it again")
        with path.open("rb") as file:
            packed = file.read(2) == _GZIP
        return (gzip.GzipFile(path, "rb") if packed else path.open("rb")), packed
    except OSError as error:
        raise SencaError(
            f"cannot be read ({error.strerror or error}); check that it is there and its permissions"
        ) from None


def read_text(path: Path, max_bytes: int = MAX_TEXT) -> str:
    """Read a UTF-8 text, packed with gzip or not; raises SencaError.

    No more than `max_bytes` are unpacked, whatever the file declares.
    """
    stream, _ = opened(path)
    try:
        with stream:
            content = stream.read(max_bytes + 1)
    except (EOFError, OSError, zlib.error) as error:
        raise SencaError(
            f"not a complete gzip file ({told(error)}); expected gzip-compressed or plain text; copy it again"
        ) from None
    if len(content) > max_bytes:
        raise SencaError(
            f"holds more than {max_bytes:,} bytes of text; expected a list of spots or genes; copy it again"
        )
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise SencaError(
            f"byte {error.start} is not UTF-8 text; expected UTF-8 text; save it as UTF-8"
        ) from None
    if not text.strip():
        raise SencaError("the file holds no text; expected rows; copy it again")
    return text


def read_columns(path: Path) -> list[list[str]]:
    """Read tab-separated rows without a header (features, barcodes); returns the columns.

    Raises SencaError, also when rows differ in number of columns.
    """
    lines = read_text(path).replace("\r\n", "\n").replace("\r", "\n").rstrip("\n").split("\n")
    rows = [line.split("\t") for line in lines]
    _check_ragged(rows, "tabs")
    return [list(column) for column in zip(*rows, strict=True)]


def read_csv(path: Path) -> list[list[str]]:
    """Read the rows of a comma-separated file (tab-separated when its name says .tsv), header included.

    Raises SencaError when it is none, or when its rows differ in number of columns.
    """
    tabs = ".tsv" in path.suffixes
    try:
        text = io.StringIO(read_text(path), newline="")
        rows = [row for row in csv.reader(text, delimiter="\t" if tabs else ",", strict=True) if row]
    except csv.Error as error:
        separator = "tabs" if tabs else "commas"
        raise SencaError(
            f"not a readable table ({told(error)}); expected cells between {separator}; write the file so"
        ) from None
    if not rows:
        raise SencaError("the file holds no rows; expected a header or rows; copy it again")
    if len(rows[0]) == 1:
        separator = "tabs" if tabs else "commas"
        raise SencaError(
            f"line 1 holds one column, {quote(rows[0][0])}; expected columns separated by {separator}; "
            f"write the file with {separator} as separator"
        )
    _check_ragged(rows, "tabs" if tabs else "commas")
    return rows


def column_index(header: Sequence[str], name: str) -> int:
    """Place of a column in a header; raises SencaError when it is missing or there twice."""
    if name not in header:
        shown = ", ".join(quote(column) for column in header[:20])
        raise SencaError(f"column {quote(name)} missing; found {shown}; add it or name another column")
    if name in repeated(header):
        raise SencaError(f"column {quote(name)} found twice; expected once; remove one")
    return header.index(name)


def read_json(path: Path) -> dict[str, object]:
    """Read a JSON object; raises SencaError when the file holds anything else."""
    try:
        content = json.loads(read_text(path, 2**20))
    except (ValueError, RecursionError) as error:
        raise SencaError(f"not JSON ({told(error)}); expected names and numbers; copy it again") from None
    if not isinstance(content, dict):
        raise SencaError(f"holds a {type(content).__name__}; expected a JSON object; copy it again")
    return content


def _check_ragged(rows: Sequence[Sequence[str]], separator: str) -> None:
    columns = len(rows[0])
    ragged = [index for index, row in enumerate(rows) if len(row) != columns]
    if ragged:
        raise SencaError(
            f"{quantity(len(ragged), 'row')} with another number of columns than the first, first row "
            f"{ragged[0] + 1} with {len(rows[ragged[0]])}; expected {columns}, separated by {separator}; the "
            "file may be cut off: copy it again"
        )
