"""The HDF5 matrix of 10x sections, read within what is really stored."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from scipy.sparse import csr_matrix

from senca_ray.data.readers.findings import Findings
from senca_ray.data.readers.tables import quote
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
from senca_ray.data.readers.tenx_text import told
from senca_ray.errors import SencaError

_AT_ONCE = 2**24
"""Values of a dataset that are converted together."""
_MAX_RATIO, _SLACK = 200, 2**26
"""How much larger than what is stored a dataset may be in memory: more is a file that only declares it."""


def read_hdf5(findings: Findings, path: Path) -> Matrix | None:
    """Read a feature-barcode matrix; None when not even its spots can be told."""
    import h5py

    with findings.collecting(path):
        try:
            if path.stat().st_size == 0:
                raise SencaError("the file is empty (0 bytes); copy it again")
            with h5py.File(path, "r") as file:
                return _hdf5_matrix(findings, path, file)
        except SencaError:
            raise
        except Exception as error:  # noqa: BLE001 - the library raises all kinds of errors on damaged bytes
            raise SencaError(
                f"cannot be read as HDF5 ({told(error)}); expected a feature-barcode matrix; copy it again"
            ) from None
    return None


def _hdf5_matrix(findings: Findings, path: Path, file: Any) -> Matrix:
    group = _member(file, "matrix", "Group")
    listed = _member(group, "features", "Group")
    barcodes = _strings(_member(group, "barcodes"))
    check_barcodes(findings, path, barcodes)
    genes: tuple[str, ...] = ()
    counts = None
    with findings.collecting(path):
        ids = _strings(_member(listed, "id")).to_pylist()
        symbols = _strings(_member(listed, "name")).to_pylist()
        types = _strings(_member(listed, "feature_type")).to_pylist()
        if not len(ids) == len(symbols) == len(types):
            raise SencaError(
                f"{len(ids)} feature ids, {len(symbols)} names, {len(types)} types; expected as many of each"
            )
        genes, kept = name_genes(findings, path, Features(ids, symbols, types))
        counts = pick(_hdf5_counts(group, (len(barcodes), len(ids))), kept, axis=1)
    return Matrix(barcodes, genes, counts)


def _hdf5_counts(group: Any, shape: tuple[int, int]) -> csr_matrix:
    """Counts by spot: what is stored by column of a gene x spot matrix is stored by row here."""
    spots, genes = shape
    data, indices, indptr = (_member(group, name) for name in ("data", "indices", "indptr"))
    declared = tuple(_numbers(_member(group, "shape"), np.iinfo(np.int64).max, "size").tolist())
    if declared != (genes, spots):
        raise SencaError(
            f"declares a matrix of {' x '.join(f'{n:,}' for n in declared)}, but lists {genes:,} features "
            f"and {spots:,} barcodes; expected these to agree; write the matrix again"
        )
    if data.shape != indices.shape or indptr.shape != (spots + 1,):
        raise SencaError(
            f"{data.size:,} values, {indices.size:,} indices and {indptr.size:,} pointers for {spots:,} "
            f"spots; expected as many values as indices and {spots + 1:,} pointers; copy the file again"
        )
    _check_stored(indices)
    pointers = _numbers(indptr, data.size, "pointer")
    if pointers[0] != 0 or pointers[-1] != data.size or (np.diff(pointers) < 0).any():
        raise SencaError(
            f"pointers from {pointers[0]:,} to {pointers[-1]:,} for {data.size:,} values; expected them to "
            "rise from 0 to that; copy the file again"
        )
    values = _numbers(data, MAX_COUNT, "count", "; write raw counts").astype(np.int32, copy=False)
    matrix = csr_matrix((values, _numbers(indices, genes - 1, "gene index"), pointers), shape=shape)
    if not matrix.has_sorted_indices:
        matrix.sort_indices()
    if not matrix.has_canonical_format:
        raise SencaError(COUNTED_TWICE)
    return matrix


def _member(group: Any, name: str, kind: str = "Dataset") -> Any:
    """A dataset or group that is stored in this file itself: no link leads elsewhere."""
    import h5py

    linked = group.get(name, getlink=True)
    found = group.get(name) if isinstance(linked, h5py.HardLink) else None
    if not isinstance(found, getattr(h5py, kind)) or (
        kind == "Dataset" and (found.external or found.is_virtual)
    ):
        raise SencaError(
            f"no {kind.lower()} {quote(name)} in {group.name}; expected a feature-barcode matrix of "
            "Space Ranger; name that file"
        )
    return found


def _check_stored(dataset: Any) -> None:
    """Raise SencaError for a dataset that declares far more than is stored."""
    size, stored = dataset.size * dataset.dtype.itemsize, dataset.id.get_storage_size()
    if size > _MAX_RATIO * stored + _SLACK:
        raise SencaError(
            f"{dataset.name} declares {dataset.size:,} values ({size:,} bytes), but {stored:,} bytes are "
            "stored; expected a whole file; copy it again"
        )


def _strings(dataset: Any) -> pa.Array:
    _check_stored(dataset)
    if dataset.ndim != 1 or dataset.dtype.kind not in "SO":
        raise SencaError(f"{dataset.name} is no list of names; expected text; write the matrix again")
    return pa.array(dataset[:].tolist(), type=pa.binary()).cast(pa.string())


def _numbers(dataset: Any, high: int, what: str, fix: str = "; copy the file again") -> np.ndarray:
    """Whole numbers from 0 to `high`, int32 where they fit, else int64."""
    if dataset.ndim != 1 or dataset.dtype.kind not in "iuf":
        raise SencaError(f"{dataset.name} holds {dataset.dtype}; expected whole numbers{fix}")
    values = np.empty(dataset.shape[0], dtype=np.int32 if high <= MAX_COUNT else np.int64)
    for start in range(0, len(values), _AT_ONCE):
        some = dataset[start : start + _AT_ONCE]
        wrong = no_counts(some, high)
        if wrong.any():
            raise SencaError(
                f"a {what} in {dataset.name} is {some[np.argmax(wrong)]}; expected whole numbers from 0 to "
                f"{high:,}{fix}"
            )
        values[start : start + len(some)] = some
    return values
