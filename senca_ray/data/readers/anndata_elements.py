"""Single elements of AnnData stored as HDF5 or zarr, looked at before any memory is taken for them."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from senca_ray.data.readers.tables import quote, quote_some
from senca_ray.errors import SencaError

_HARMLESS = 1 << 30
"""Bytes that any worker can take, whatever the file is."""
_EXPANSION = 1100
"""Deflate, HDF5's usual compression, makes nothing smaller than a 1032nd."""
_DEEPEST = 12
_BLOCK = 1 << 26
"""Bytes of a dense matrix that are in memory together."""


@contextmanager
def open_h5(path: Path) -> Iterator[Any]:
    """Open an HDF5 file for reading; raises SencaError when it is none, or cut off."""
    import h5py

    try:
        file = h5py.File(path, "r")
    except (OSError, ValueError, RuntimeError) as error:
        raise SencaError(
            f"cannot be opened as HDF5 ({' '.join(str(error).split())}); expected a whole .h5ad file; copy "
            "it again"
        ) from None
    with file:
        yield file


def member(group: Any, place: str) -> Any | None:
    """The element at `place` ('obsm/spatial') of a group; None where there is none.

    Raises SencaError for a link that leads out of the file, which could show other files of this machine.
    """
    for key in place.split("/"):
        if not hasattr(group, "keys") or key not in group:
            return None
        _refuse_links(group, key)
        group = group[key]
    return group


def read(element: Any, name: str) -> Any:
    """An element as AnnData reads it (array, table, sparse matrix); raises SencaError.

    What it declares to hold is looked at before. Nothing is unpickled.
    """
    from anndata.io import read_elem

    try:
        check_sizes(element, name)
        with warnings.catch_warnings():
            # Older files are read as well; what to tell of them is for their writers.
            warnings.simplefilter("ignore")
            return read_elem(element)
    except SencaError:
        raise
    except Exception as error:  # noqa: BLE001 - damaged files raise all kinds of errors
        raise _damaged(name, error) from None


def read_counts_matrix(element: Any, name: str, shape: tuple[int, int]) -> Any:
    """A matrix (N, G), dense or sparse in the file, as a sparse one; raises SencaError."""
    from scipy.sparse import csr_matrix, vstack

    if hasattr(element, "keys"):
        _check_sparse(element, name, shape)
        return read(element, name)
    if tuple(element.shape) != shape or element.dtype.kind not in "buif":
        raise SencaError(
            f"{name} is {' x '.join(f'{n:,}' for n in element.shape)} of type {element.dtype}; expected "
            f"{shape[0]:,} spots x {shape[1]:,} genes of numbers; write the file again"
        )
    rows = max(1, _BLOCK // max(1, shape[1] * element.dtype.itemsize))
    try:
        check_sizes(element, name)
        blocks = [csr_matrix(element[start : start + rows]) for start in range(0, shape[0], rows)]
        return vstack(blocks, format="csr") if blocks else csr_matrix(shape)
    except SencaError:
        raise
    except Exception as error:  # noqa: BLE001 - damaged files raise all kinds of errors
        raise _damaged(name, error) from None


def check_sizes(element: Any, name: str, depth: int = 0) -> None:
    """Raise SencaError where an element declares far more than the file can hold, or lies outside of it."""
    if depth > _DEEPEST:
        raise SencaError(f"{name} goes on inside itself; expected a table or matrix; write the file again")
    if hasattr(element, "keys"):
        for key in element:
            _refuse_links(element, key)
            check_sizes(element[key], f"{name}/{key}", depth + 1)
        return
    declared = math.prod(element.shape) * max(1, element.dtype.itemsize)
    stored = element.nbytes_stored() if hasattr(element, "nbytes_stored") else element.id.get_storage_size()
    chunk = math.prod(element.chunks or ()) * max(1, element.dtype.itemsize)
    if chunk > max(declared, _HARMLESS):
        raise SencaError(
            f"{name} is stored in pieces of {chunk / 1e9:,.0f} GB, more than its whole; write the file again"
        )
    if declared > _HARMLESS and declared > _EXPANSION * stored:
        raise SencaError(
            f"{name} declares {' x '.join(f'{n:,}' for n in element.shape)} values, {declared / 1e9:,.0f} "
            f"GB, of which {stored / 1e6:,.1f} MB are in the file; expected what it declares; write the file "
            "again"
        )
    if getattr(element, "external", None) or getattr(element, "is_virtual", False):
        raise SencaError(f"{name} is stored in another file; expected it in this one; write the file again")


def text(element: Any) -> str:
    """A stored word; '' where it is something else."""
    value = element[()]
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _refuse_links(group: Any, key: str) -> None:
    import h5py

    if isinstance(group, h5py.Group) and isinstance(group.get(key, getlink=True), h5py.ExternalLink):
        raise SencaError(f"{quote(key)} is a link to another file; expected it in this one; copy it in")


def _check_sparse(element: Any, name: str, shape: tuple[int, int]) -> None:
    """Check that the parts of a sparse matrix fit each other and `shape`."""
    kind = str(element.attrs.get("encoding-type", element.attrs.get("h5sparse_format", "")))
    missing = [part for part in ("data", "indices", "indptr") if part not in element]
    if missing or kind.removesuffix("_matrix") not in ("csr", "csc"):
        raise SencaError(
            f"{name} is a {quote(kind) if kind else 'group'} of {quote_some(sorted(element)) or 'nothing'}; "
            "expected a matrix, dense or as csr or csc; write the file again"
        )
    declared = tuple(np.asarray(element.attrs.get("shape", element.attrs.get("h5sparse_shape", ()))).tolist())
    lengths = {part: element[part].shape for part in ("data", "indices", "indptr")}
    lines = shape[0] if kind.startswith("csr") else shape[1]
    if (
        declared != shape
        or lengths["data"] != lengths["indices"]
        or lengths["indptr"] != (lines + 1,)
        or lengths["data"][0] > shape[0] * shape[1]
    ):
        raise SencaError(
            f"{name} declares {' x '.join(f'{n:,}' for n in declared)}, with {lengths['data'][0]:,} values, "
            f"{lengths['indices'][0]:,} indices and {lengths['indptr'][0]:,} row ends; expected "
            f"{shape[0]:,} spots x {shape[1]:,} genes; write the file again"
        )


def _damaged(name: str, error: Exception) -> SencaError:
    # AnnData explains at length where in its own code it was; the first line tells what.
    found = str(error).strip().splitlines() or [type(error).__name__]
    return SencaError(
        f"{name} cannot be read ({found[0]:.200}); expected AnnData; copy or write the file again"
    )
