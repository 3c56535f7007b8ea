"""What the two forms of a 10x matrix have in common: spots, names of genes, what is a count."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from scipy.sparse import csr_matrix

from senca_ray.data.readers.findings import Findings
from senca_ray.data.readers.tables import quantity, quote_some, repeated
from senca_ray.errors import SencaError

GENE_EXPRESSION = "Gene Expression"

MAX_COUNT = np.iinfo(np.int32).max
COUNTED_TWICE = "some genes are counted twice in a spot; expected one count; write the matrix again"


@dataclass(frozen=True)
class Matrix:
    """N spots, G genes."""

    barcodes: pa.Array
    """(N,) unique strings."""
    genes: tuple[str, ...]
    counts: csr_matrix | None
    """(N, G) int32; None when a value is no count or the genes cannot be told."""


@dataclass(frozen=True)
class Features:
    ids: Sequence[str] | None
    """None for a list that holds symbols only."""
    symbols: Sequence[str]
    types: Sequence[str] | None


def repeated_strings(values: pa.Array) -> list[str]:
    """The values that occur more than once."""
    if pc.count_distinct(values, mode="all").as_py() == len(values):
        return []
    counted = pc.value_counts(values)
    return counted.field("values").filter(pc.greater(counted.field("counts"), 1)).to_pylist()


def pick(counts: csr_matrix, kept: np.ndarray, axis: int) -> csr_matrix:
    """The rows (axis 0) or columns (1) of `counts` at `kept`; the matrix itself where that is all of them."""
    if np.array_equal(kept, np.arange(counts.shape[axis])):
        return counts
    return counts[kept] if axis == 0 else counts[:, kept]


def name_genes(findings: Findings, path: Path, features: Features) -> tuple[tuple[str, ...], np.ndarray]:
    """Unique names of the genes, and which features they are; other kinds of feature are left out."""
    types = features.types
    kept = np.arange(len(features.symbols))
    if types is not None:
        kept = np.array([i for i, kind in enumerate(types) if kind == GENE_EXPRESSION], dtype=np.int64)
        others = sorted({kind for kind in types if kind != GENE_EXPRESSION})
        if not len(kept):
            raise SencaError(
                f"no feature of type {GENE_EXPRESSION!r}; found {quote_some(others)}; expected genes; name "
                "the matrix of gene expression"
            )
        left_out = len(types) - len(kept)
        findings.note(left_out, "feature", f"left out: not {GENE_EXPRESSION} but {quote_some(others)}")
    symbols = [features.symbols[i].strip() for i in kept.tolist()]
    if features.ids is None:
        unnamed, gene_ids = symbols.count(""), None
    else:
        gene_ids = [features.ids[i].strip() for i in kept.tolist()]
        unnamed = gene_ids.count("")
        symbols = [symbol or key for symbol, key in zip(symbols, gene_ids, strict=True)]
        if twice := repeated(key for key in gene_ids if key):
            message = f"duplicated gene {quote_some(twice)}; expected every gene id once"
            findings.problem(path, f"{message}; merge or remove the repeated features")
    if unnamed:
        message = f"{quantity(unnamed, 'gene')} without a name; expected a name for every gene"
        findings.problem(path, f"{message}; name or remove them")
    shared = set(repeated(symbols))
    findings.note(
        sum(symbol in shared for symbol in symbols),
        "gene",
        f"of the same name as another: told apart as 'SYMBOL ({'number' if gene_ids is None else 'id'})'",
    )
    if gene_ids is not None:
        names = [f"{s} ({k})" if s in shared else s for s, k in zip(symbols, gene_ids, strict=True)]
    else:
        seen: dict[str, int] = {}
        names = []
        for symbol in symbols:
            seen[symbol] = seen.get(symbol, 0) + 1
            names.append(f"{symbol} ({seen[symbol]})" if symbol in shared else symbol)
    if (twice := repeated(names)) and not findings.problems:
        message = f"duplicated gene {quote_some(twice)}; expected every gene once; rename the features"
        findings.problem(path, message)
    return tuple(names), kept


def check_barcodes(findings: Findings, path: Path, barcodes: pa.Array) -> None:
    if len(barcodes) == 0:
        raise SencaError("no barcodes; expected one a spot; copy the file again")
    unnamed = pc.sum(pc.equal(pc.utf8_trim_whitespace(barcodes), "")).as_py()
    if unnamed:
        raise SencaError(f"{quantity(unnamed, 'spot')} without a barcode; expected a barcode for every spot")
    if twice := repeated_strings(barcodes):
        message = (
            f"duplicated barcode {quote_some(twice)}; expected every spot once; remove the repeated ones"
        )
        findings.problem(path, message)


def no_counts(values: np.ndarray, high: int = MAX_COUNT) -> np.ndarray:
    """Which values are no whole numbers from 0 to `high`."""
    wrong = ~((values >= 0) & (values <= high))
    return wrong | (values != np.floor(values)) if values.dtype.kind == "f" else wrong
