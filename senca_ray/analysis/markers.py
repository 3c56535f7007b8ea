"""Marker genes of regions: each region's spots against all others, gene by gene (the paper's Table 3)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from rich.table import Table
from scipy import stats
from scipy.sparse import csr_matrix

from senca_ray import keys
from senca_ray.analysis.statistics import SIGNIFICANCE
from senca_ray.analysis.terminal import count, number, plain_table

LEAST_SPOTS = 3
"""A region with fewer spots inside or outside is not tested: its p-values and effects are NaN."""
PSEUDO_SHARE = 1e-5
"""Added to both means of a fold change, as a share of a spot's total: ten counts in a million."""
DOUBLE_DIPPING = (
    "The regions were found on the same counts that are tested here: genes differ between regions partly "
    "because the regions were drawn along them, and neighbouring spots resemble each other. So the p-values "
    "are too small. Read them as a ranking, and confirm a marker on sections that had no part in finding "
    "the regions."
)
"""To be said wherever these p-values are shown."""
COLUMNS_EXPLAINED = (
    "effect: 1 where every spot inside shows more of the gene than every spot outside, 0 where neither side "
    "does, -1 the reverse (rank-biserial correlation). p: Wilcoxon rank-sum test against all other spots, "
    "adjusted after Benjamini-Hochberg over all genes of the section. in, out: spots with the gene. fold "
    "change: of the gene's mean share of a spot's counts."
)
_NO_MARKER = f"none at adjusted p < {SIGNIFICANCE}"

MARKER_COLUMNS = (
    *("region", "gene", "n_spots_in", "n_spots_out", "p", "p_adjusted"),
    *("effect", "log2_fold_change", "fraction_in", "fraction_out"),
)
_PAPER_TABLE = Path(__file__).with_name("marker_genes.csv")
_CHUNK_VALUES = 2_000_000
"""Spots times genes that are dense at a time: 16 MB an array, a handful of which live at once."""


def region_markers(
    counts: csr_matrix,
    genes: Sequence[str],
    total_counts: np.ndarray,
    target_sum: float,
    regions: np.ndarray,
    wanted: Sequence[str] | None = None,
) -> pd.DataFrame:
    """Test every gene in every region against the rest of the section.

    Shapes: counts (N, G) raw, genes (G,), total_counts (N,), regions (N,) with keys.NO_REGION for spots to
    leave out altogether. Counts are scaled to `target_sum` a spot, as before every other analysis.

    Returns a row a region and gene with MARKER_COLUMNS: `p` of the two-sided Wilcoxon rank-sum test (normal
    approximation, corrected for ties, without continuity correction), `p_adjusted` after Benjamini-Hochberg
    over all G genes of the region, `effect` the rank-biserial correlation (2 AUC - 1; positive: higher
    inside), `log2_fold_change` of mean scaled counts (see PSEUDO_SHARE) and the fractions of spots with a
    count. A gene that is the same in all spots has p 1 and effect 0. See LEAST_SPOTS for what is not tested.

    `wanted` reports these genes only, in this order and without those that are missing (see
    `missing_genes`); the numbers are the same, since all genes are tested all the same.
    """
    kept = np.flatnonzero(regions != keys.NO_REGION)
    names, index = np.unique(regions[kept], return_inverse=True)
    inside = (index == np.arange(len(names))[:, None]).astype(float)
    n_in = inside.sum(axis=1)
    tested = np.minimum(n_in, len(kept) - n_in) >= LEAST_SPOTS

    by_gene, totals = counts[kept].tocsc(), total_counts[kept]
    width = max(1, _CHUNK_VALUES // max(len(kept), 1))
    chunks = [
        _test(_scaled(by_gene[:, start : start + width].toarray(), totals, target_sum), inside, target_sum)
        for start in range(0, len(genes), width)
    ]
    numbers = {name: np.concatenate([chunk[name] for chunk in chunks], axis=1) for name in chunks[0]}
    numbers["effect"][~tested] = numbers["p"][~tested] = np.nan
    adjusted = np.full_like(numbers["p"], np.nan)
    adjusted[tested] = stats.false_discovery_control(numbers["p"][tested], axis=1)

    position = {gene: i for i, gene in enumerate(genes)}
    shown = list(genes) if wanted is None else [g for g in dict.fromkeys(wanted) if g in position]
    columns = [position[gene] for gene in shown]
    rows = {
        "region": np.repeat(names, len(shown)),
        "gene": np.tile(np.array(shown, dtype=object), len(names)),
        "n_spots_in": np.repeat(n_in.astype(int), len(shown)),
        "n_spots_out": np.repeat((len(kept) - n_in).astype(int), len(shown)),
        "p_adjusted": adjusted[:, columns].ravel(),
        **{name: values[:, columns].ravel() for name, values in numbers.items()},
    }
    return pd.DataFrame(rows, columns=list(MARKER_COLUMNS))


def _test(scaled: np.ndarray, inside: np.ndarray, target_sum: float) -> dict[str, np.ndarray]:
    """Numbers (R, g) of a chunk of genes from `scaled` counts (N, g); `inside` (R, N) is 1 for own spots."""
    outside = 1 - inside
    n, n_in, n_out = scaled.shape[0], inside.sum(axis=1)[:, None], outside.sum(axis=1)[:, None]
    # log1p changes no order, so the ranks are those of the logarithms.
    centred = stats.rankdata(scaled, axis=0) - (n + 1) / 2
    with np.errstate(divide="ignore", invalid="ignore"):
        surplus = inside @ centred  # U less its expectation, n_in n_out / 2
        # Of ranks drawn without replacement; with tied ranks this is the usual variance corrected for ties.
        variance = n_in * n_out / (n * (n - 1)) * (centred**2).sum(axis=0)
        z = np.where(variance > 0, surplus / np.sqrt(variance), 0)
        means = [(inside @ scaled) / n_in, (outside @ scaled) / n_out]
        found = scaled > 0
        return {
            "p": 2 * stats.norm.sf(np.abs(z)),
            "effect": 2 * surplus / (n_in * n_out),
            "log2_fold_change": np.subtract(*(np.log2(m + PSEUDO_SHARE * target_sum) for m in means)),
            "fraction_in": (inside @ found) / n_in,
            "fraction_out": (outside @ found) / n_out,
        }


def _scaled(dense: np.ndarray, total_counts: np.ndarray, target_sum: float) -> np.ndarray:
    """Counts (N, g) scaled to `target_sum` a spot.

    Multiplied before divided: equal shares of two spots' totals stay equal, and so tied, in float64.
    """
    return dense.astype(np.float64) * target_sum / np.maximum(total_counts, 1)[:, None]


def log_expression(
    counts: csr_matrix,
    genes: Sequence[str],
    total_counts: np.ndarray,
    target_sum: float,
    wanted: Sequence[str],
) -> dict[str, np.ndarray]:
    """log1p of the scaled counts (N,) of each wanted gene, for maps; without missing genes.

    Shapes as in `region_markers`.
    """
    position = {gene: i for i, gene in enumerate(genes)}
    shown = [gene for gene in dict.fromkeys(wanted) if gene in position]
    dense = counts[:, [position[gene] for gene in shown]].toarray()
    return dict(zip(shown, np.log1p(_scaled(dense, total_counts, target_sum)).T, strict=True))


def missing_genes(wanted: Iterable[str], genes: Iterable[str]) -> tuple[str, ...]:
    """Wanted genes that are not among a section's genes, each once, in the order asked for."""
    known = set(genes)
    return tuple(gene for gene in dict.fromkeys(wanted) if gene not in known)


def top_markers(markers: pd.DataFrame, n: int = 5) -> pd.DataFrame:
    """Per region the `n` genes of highest effect among those significantly higher inside, highest first.

    A region with none has no rows. `markers` are those of one section.
    """
    higher = markers[(markers["p_adjusted"] < SIGNIFICANCE) & (markers["effect"] > 0)]
    ordered = higher.sort_values(["region", "effect"], ascending=[True, False], kind="stable")
    return ordered.groupby("region").head(n).reset_index(drop=True)


def paper_markers() -> pd.DataFrame:
    """The 25 rows of the paper's Table 3: gene, the paper's cluster, its p_value, and source.

    Clusters are numbered after the paper's own section (squamous cell carcinoma, patient 2) and mean nothing
    elsewhere. MMP9 and MMP1, COL1A1 and COMP share a p-value to all its digits, as p-values adjusted after
    Benjamini-Hochberg often do; the paper does not say whether its are.
    """
    return pd.read_csv(_PAPER_TABLE)


def format_markers(
    markers: pd.DataFrame, title: str, top: int | None = None, missing: Sequence[str] = ()
) -> Table:
    """The markers of one section for a terminal of 80 columns: all rows, or the `top` genes of a region.

    `missing` names genes asked for that the section does not have. COLUMNS_EXPLAINED and DOUBLE_DIPPING
    are to stand below the last table.
    """
    shown = markers if top is None else top_markers(markers, top)
    untested = markers.loc[markers["p"].isna(), "region"].unique()
    notes = []
    if len(untested):
        names = ", ".join(f"region {region}" for region in untested)
        notes.append(f"Not tested, fewer than {LEAST_SPOTS} spots inside or outside: {names}.")
    if missing:
        notes.append(f"Not among the section's genes: {', '.join(missing)}.")
    heads = ["\neffect", "p ad-\njusted", "\nin", "\nout", "fold\nchange"]
    table = plain_table(title, ["\nregion", "\ngene"], heads, notes)
    table.columns[1].min_width = len(_NO_MARKER)  # the notes below fold to the width of the table
    for region, spots in markers.groupby("region")["n_spots_in"].first().items():
        label = f"{region} ({count(spots, 'spot')})"
        rows = shown[shown["region"] == region].to_dict("records")
        if not rows:
            table.add_row(label, _NO_MARKER)
        for row in rows:
            table.add_row(label, row["gene"], *_cells(row))
            label = ""
        table.add_section()
    return table


def _cells(row: Mapping[Any, Any]) -> list[str]:
    shares = ["" if np.isnan(row[name]) else f"{row[name]:.0%}" for name in ("fraction_in", "fraction_out")]
    fold = row["log2_fold_change"]
    return [
        number(row["effect"], "+"),
        _p(row["p_adjusted"]),
        *shares,
        "" if np.isnan(fold) else f"{2**fold:.2f}",
    ]


def _p(value: float) -> str:
    """A p-value with its power of ten: most markers' are far below what other tables tell apart."""
    if value < 1e-300:
        return "<1e-300"
    return f"{value:.0e}" if value < 0.001 else number(value)
