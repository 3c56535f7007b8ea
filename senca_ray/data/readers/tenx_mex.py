"""The Matrix Market folder of 10x sections: matrix, features (or genes) and barcodes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from scipy.sparse import csr_matrix

from senca_ray.data.readers.findings import Findings
from senca_ray.data.readers.tables import quantity, quote
from senca_ray.data.readers.tenx_matrix import (
    COUNTED_TWICE,
    MAX_COUNT,
    Features,
    Matrix,
    check_barcodes,
    name_genes,
    no_counts,
    pick,
)
from senca_ray.data.readers.tenx_text import opened, read_columns, told
from senca_ray.errors import SencaError

_ENTRIES_A_BYTE = 8
"""Entries of a packed file a byte of it: real ones have less than one."""


def mex_files(folder: Path) -> dict[str, Path | None]:
    """The files of a Matrix Market folder by what they are; None for one that is missing."""
    names = {
        "matrix": ("matrix.mtx",),
        "features": ("features.tsv", "genes.tsv"),
        "barcodes": ("barcodes.tsv",),
    }
    return {
        kind: next((p for name in given for p in (folder / f"{name}.gz", folder / name) if p.is_file()), None)
        for kind, given in names.items()
    }


def read_folder(findings: Findings, folder: Path) -> Matrix | None:
    """Read matrix, features and barcodes; None when not even the spots can be told."""
    files = mex_files(folder)
    if missing := [kind for kind, path in files.items() if path is None]:
        names = " and ".join({"matrix": "matrix.mtx.gz"}.get(kind, f"{kind}.tsv.gz") for kind in missing)
        findings.problem(folder, f"no {names}; expected matrix, features and barcodes; copy the folder again")
        return None
    barcodes, features, matrix = (p for k in ("barcodes", "features", "matrix") if (p := files[k]))
    listed: pa.Array | None = None
    genes: tuple[str, ...] = ()
    kept: np.ndarray | None = None
    count = 0
    with findings.collecting(barcodes):
        columns = read_columns(barcodes)
        if len(columns) != 1:
            raise SencaError(f"{len(columns)} columns; expected one barcode a line; remove the others")
        strings = pa.array(columns[0], type=pa.string())
        check_barcodes(findings, barcodes, strings)
        listed = strings
    with findings.collecting(features):
        columns = read_columns(features)
        if "," in columns[0][0] and len(columns) == 1:
            raise SencaError(
                f"line 1 holds one column, {quote(columns[0][0])}; expected id, symbol and type separated by "
                "tabs; write the file with tabs as separator"
            )
        symbols = columns[min(1, len(columns) - 1)]
        ids, types = columns[0] if len(columns) > 1 else None, columns[2] if len(columns) > 2 else None
        genes, kept = name_genes(findings, features, Features(ids, symbols, types))
        count = len(symbols)
    counts = None
    if listed is not None and kept is not None:
        with findings.collecting(matrix):
            counts = pick(_mex_counts(matrix, (count, len(listed))), kept, axis=1)
    return None if listed is None else Matrix(listed, genes, counts)


def _mex_counts(path: Path, shape: tuple[int, int]) -> csr_matrix:
    """Counts by spot of a Matrix Market file of `shape` (genes, spots)."""
    from scipy.io import mmread

    stream, packed = opened(path)
    try:
        with stream:
            entries = _check_header(path, stream, packed, shape)
            stream.seek(0)
            read = mmread(stream)
    except SencaError:
        raise
    except Exception as error:  # noqa: BLE001 - the library raises all kinds of errors on damaged text
        raise SencaError(
            f"cannot be read as Matrix Market ({told(error)}); expected whole rows of gene, spot and count; "
            "copy it again"
        ) from None
    wrong = no_counts(read.data)
    if wrong.any():
        first = int(np.argmax(wrong))
        raise SencaError(
            f"{quantity(int(wrong.sum()), 'value')} that {'is' if wrong.sum() == 1 else 'are'} no count, "
            f"first gene {read.row[first] + 1}, spot {read.col[first] + 1}: {read.data[first]:g}; expected "
            f"whole numbers from 0 to {MAX_COUNT:,}; write raw counts"
        )
    matrix = csr_matrix((read.data.astype(np.int32), (read.col, read.row)), shape=shape[::-1])
    if matrix.nnz != entries:
        raise SencaError(COUNTED_TWICE)
    return matrix


def _check_header(path: Path, stream: Any, packed: bool, shape: tuple[int, int]) -> int:
    """Check what the file declares before memory is taken; returns the number of entries."""
    banner = stream.readline(200).decode("utf-8", "replace").lower().split()
    if banner[:3] != ["%%matrixmarket", "matrix", "coordinate"] or (
        len(banner) != 5 or banner[3] not in ("integer", "real") or banner[4] != "general"
    ):
        found = quote(" ".join(banner))
        raise SencaError(
            f"begins with {found}; expected %%MatrixMarket matrix coordinate integer general; write raw "
            "counts in that format"
        )
    line = b"%"
    while line.startswith(b"%") or (line and not line.strip()):
        line = stream.readline(2**16)
    try:
        rows, columns, entries = (int(cell) for cell in line.split())
    except ValueError:
        raise SencaError(
            f"no sizes in {quote(line.decode('utf-8', 'replace').strip())}; expected numbers of genes, spots "
            "and entries; copy it again"
        ) from None
    if (rows, columns) != shape:
        turned = "; the matrix is turned: write genes as rows" if (columns, rows) == shape else ""
        raise SencaError(
            f"declares {rows:,} x {columns:,}, but {shape[0]:,} features and {shape[1]:,} barcodes are "
            f"listed; expected these to agree{turned or '; copy the three files of one section'}"
        )
    size = path.stat().st_size
    most = size * _ENTRIES_A_BYTE if packed else size // 6 + 1
    if not 0 <= entries <= min(most, rows * columns):
        raise SencaError(
            f"declares {entries:,} entries in a file of {size:,} bytes; expected a row for each; "
            "copy it again"
        )
    return entries
