"""Spot positions of 10x sections: tissue_positions as CSV with or without a header, or as Parquet."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

from senca_ray.data.readers.findings import Findings
from senca_ray.data.readers.tables import quantity, quote, quote_some
from senca_ray.data.readers.tenx_matrix import repeated_strings
from senca_ray.data.readers.tenx_text import column_index, read_csv, told
from senca_ray.errors import SencaError

COLUMNS = ("barcode", "in_tissue", "array_row", "array_col", "pxl_row_in_fullres", "pxl_col_in_fullres")
"""In the order of files without a header: rows come before columns, so y before x."""

_MOST = 1e7
"""No array or image is larger; numbers above are damage."""


@dataclass(frozen=True)
class Positions:
    """P spots of the array, with counts or without."""

    barcodes: pa.Array
    """(P,) unique strings."""
    in_tissue: np.ndarray
    """(P,) bool."""
    array: np.ndarray
    """(P, 2) float64 whole array column and row: x to the right, y down."""
    pixel: np.ndarray
    """(P, 2) float64 x and y in the pixels of the full-resolution image."""


def read_positions(findings: Findings) -> Positions | None:
    """Read the section's positions; None with problems."""
    path = findings.files.spots
    if path is None:
        return None
    with findings.collecting(path):
        parquet = path.suffix == ".parquet"
        barcodes, values, first = _from_parquet(path) if parquet else _from_csv(path)
        _check(values, first, "row" if parquet else "line")
        if twice := repeated_strings(barcodes):
            raise SencaError(
                f"duplicated barcode {quote_some(twice)}; expected every spot once; remove the rows"
            )
        return Positions(barcodes, values[:, 0] == 1, values[:, [2, 1]], values[:, [4, 3]])
    return None


def _from_csv(path: Path) -> tuple[pa.Array, np.ndarray, int]:
    """Barcodes, the numbers of the other columns, and the line of the first row."""
    rows = read_csv(path)
    header = rows[0] if rows[0][0].strip().lower() == COLUMNS[0] else None
    if header is None and len(rows[0]) != len(COLUMNS):
        raise SencaError(
            f"{len(rows[0])} columns and no header; expected {', '.join(COLUMNS)}; copy the file again"
        )
    if header is not None and len(rows) == 1:
        raise SencaError("only a header found; expected a row a spot; copy the file again")
    places = range(len(COLUMNS)) if header is None else [column_index(header, name) for name in COLUMNS]
    columns = list(zip(*rows[header is not None :], strict=True))
    first = 1 if header is None else 2
    values = np.empty((len(columns[0]), len(COLUMNS) - 1))
    for index, place in enumerate(list(places)[1:]):
        numbers = pd.to_numeric(pd.Series(columns[place], dtype=object), errors="coerce")
        values[:, index] = numbers.to_numpy(dtype=np.float64)
        if (wrong := np.flatnonzero(~np.isfinite(values[:, index]))).size:
            raise SencaError(
                f"{quantity(wrong.size, 'cell')} without a number, first line {wrong[0] + first}, column "
                f"{COLUMNS[index + 1]!r}: {quote(columns[place][wrong[0]])}; expected finite numbers; "
                "correct the cells"
            )
    return pa.array(columns[places[0]], type=pa.string()), values, first


def _from_parquet(path: Path) -> tuple[pa.Array, np.ndarray, int]:
    """As `_from_csv`."""
    import pyarrow.parquet as pq

    try:
        if path.stat().st_size == 0:
            raise SencaError("the file is empty (0 bytes); copy it again")
        with pq.ParquetFile(path) as file:
            for name in COLUMNS:
                column_index(file.schema_arrow.names, name)
            # Every row has a barcode of its own and two fractions: less than a byte a row is no such table.
            if file.metadata.num_rows > path.stat().st_size:
                raise SencaError(
                    f"declares {file.metadata.num_rows:,} rows in {path.stat().st_size:,} bytes; expected a "
                    "whole file; copy it again"
                )
            table = file.read(columns=list(COLUMNS)).combine_chunks()
        if table.num_rows == 0:
            raise SencaError("no rows; expected one a bin; copy the file again")
        if empty := [name for name in COLUMNS if table[name].null_count]:
            raise SencaError(f"empty cells in {', '.join(empty)}; expected a value in every row")
        barcodes = table[COLUMNS[0]].cast(pa.string()).combine_chunks()
        values = np.empty((len(table), len(COLUMNS) - 1))
        for index, name in enumerate(COLUMNS[1:]):
            column = table[name]
            whole = column.cast(pa.int8()) if pa.types.is_boolean(column.type) else column
            values[:, index] = whole.cast(pa.float64()).to_numpy()
    except SencaError:
        raise
    except Exception as error:  # noqa: BLE001 - the library raises all kinds of errors on damaged bytes
        raise SencaError(
            f"cannot be read as Parquet ({told(error)}); expected {', '.join(COLUMNS)}; copy the file again"
        ) from None
    return barcodes, values, 1


def _check(values: np.ndarray, first: int, place: str) -> None:
    """Raise SencaError for numbers that are no positions; `first` is the number of the first row."""
    wrong = np.flatnonzero(~(np.abs(values) <= _MOST).all(axis=1))
    if wrong.size:
        raise SencaError(
            f"{quantity(wrong.size, 'row')} with numbers that are no positions, first {place} "
            f"{wrong[0] + first}; expected finite numbers up to {_MOST:,.0f}; copy the file again"
        )
    tissue = np.flatnonzero(~np.isin(values[:, 0], (0, 1)))
    if tissue.size:
        raise SencaError(
            f"{place} {tissue[0] + first}: in_tissue is {values[tissue[0], 0]:g}; expected 0 or 1; correct it"
        )
    array = values[:, 1:3]
    wrong = np.flatnonzero(((array != np.floor(array)) | (array < 0)).any(axis=1))
    if wrong.size:
        row, column = array[wrong[0]]
        raise SencaError(
            f"{quantity(wrong.size, 'row')} with array coordinates that are no whole numbers from 0, first "
            f"{place} {wrong[0] + first}: {row:g}, {column:g}; expected array_row and array_col of the slide"
        )
