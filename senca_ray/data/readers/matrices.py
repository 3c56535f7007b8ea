"""Checking a matrix of counts and the names of its rows and columns, whatever file they came from."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from scipy.sparse import csr_matrix, issparse

from senca_ray.data.readers.findings import Findings
from senca_ray.data.readers.tables import quantity, quote, quote_some, repeated

MAX_COUNT = int(np.iinfo(np.int32).max)

_AT_ONCE = 1 << 22
"""Stored values looked at together, so that checking takes little memory beside the matrix."""


def unique_names(findings: Findings, path: Path, noun: str, names: Sequence[str]) -> bool:
    """Whether no name of spots or genes is empty or repeated; collects the problems where one is."""
    unnamed = sum(not name.strip() for name in names)
    if unnamed:
        message = f"{quantity(unnamed, noun)} without a name; expected a name for every {noun}"
        findings.problem(path, f"{message}; name or remove them")
    twice = repeated(name for name in names if name.strip())
    if twice:
        message = f"duplicated {noun} {quote_some(twice)}; expected every {noun} once"
        findings.problem(path, f"{message}; rename, merge or remove the repeated ones")
    return not unnamed and not twice


def checked_counts(
    findings: Findings,
    path: Path,
    matrix: object,
    spots: Sequence[str],
    genes: Sequence[str],
    where: str = "the matrix",
) -> csr_matrix | None:
    """Check that a dense or sparse matrix holds counts of N spots and G genes; None with problems.

    Returns (N, G) int32; the indices of a sparse `matrix` may be sorted in place. Problems: another shape,
    indices outside it, values that are fractional, negative, no number or above MAX_COUNT. A sparse matrix is
    never made dense. `where` names it in messages.
    """
    found = _as_csr(matrix, (len(spots), len(genes)))
    if isinstance(found, str):
        findings.problem(path, f"{where} {found}")
        return None
    if wrong := describe_wrong(found, spots, genes):
        findings.problem(path, f"{where} holds {wrong}; write raw counts")
        return None
    found.sort_indices()
    if not found.has_canonical_format:
        # Summed in 64 bits: an entry that is stored twice must not overflow unseen.
        found = found.astype(np.int64)
        found.sum_duplicates()
        if wrong := describe_wrong(found, spots, genes):
            findings.problem(path, f"{where} holds, with repeated entries summed, {wrong}; write raw counts")
            return None
    return csr_matrix((found.data.astype(np.int32), found.indices, found.indptr), shape=found.shape)


def describe_wrong(matrix: csr_matrix, spots: Sequence[str], genes: Sequence[str]) -> str:
    """What is not a count among the stored values of a well-formed matrix, in words; '' for nothing."""
    wrong, first = 0, -1
    for start in range(0, matrix.nnz, _AT_ONCE):
        values = matrix.data[start : start + _AT_ONCE]
        good = (values >= 0) & (values <= MAX_COUNT) & (values == np.floor(values))
        bad = int(good.size - np.count_nonzero(good))
        if bad and first < 0:
            first = start + int(np.argmin(good))
        wrong += bad
    if not wrong:
        return ""
    row = int(np.searchsorted(matrix.indptr, first, side="right")) - 1
    spot, gene = quote(str(spots[row])), quote(str(genes[int(matrix.indices[first])]))
    return (
        f"{quantity(wrong, 'value')} that {'is' if wrong == 1 else 'are'} no count, first spot {spot}, gene "
        f"{gene}: {matrix.data[first]:g}; expected whole numbers from 0 to {MAX_COUNT:,}"
    )


def _as_csr(matrix: object, shape: tuple[int, int]) -> csr_matrix | str:
    """The matrix as compressed rows, not copied where it is; or what is wrong with its structure."""
    found_shape = tuple(getattr(matrix, "shape", ()))
    if found_shape != shape:
        return (
            f"is {' x '.join(f'{n:,}' for n in found_shape)}; expected {shape[0]:,} spots x {shape[1]:,} "
            "genes; the file may be cut off or mixed up: write it again"
        )
    if not issparse(matrix):
        values = np.asarray(matrix)
        if values.dtype.kind not in "buif":
            return f"holds values of type {values.dtype}; expected numbers; write raw counts"
        return csr_matrix(values)
    if matrix.dtype.kind not in "buif":  # type: ignore[attr-defined]
        return f"holds values of type {matrix.dtype}; expected numbers; write raw counts"  # type: ignore[attr-defined]
    try:
        # A damaged file may name columns that do not exist, which later code would read out of bounds.
        if matrix.format in ("csr", "csc"):  # type: ignore[attr-defined]
            matrix.check_format(full_check=True)  # type: ignore[attr-defined]
        return csr_matrix(matrix)
    except (ValueError, IndexError) as error:
        return f"is damaged as a sparse matrix ({error}); copy or write the file again"
