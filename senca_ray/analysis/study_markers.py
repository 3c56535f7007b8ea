"""The markers of a study's regions, section by section (the paper's Table 3)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from rich.table import Table

from senca_ray import keys
from senca_ray.analysis.markers import (
    COLUMNS_EXPLAINED,
    DOUBLE_DIPPING,
    MARKER_COLUMNS,
    format_markers,
    missing_genes,
    region_markers,
)
from senca_ray.analysis.results import read_fits
from senca_ray.analysis.terminal import number, p_value, plain_table
from senca_ray.data.sample import ALL_GENES
from senca_ray.data.shards import read_sample
from senca_ray.files import write_whole
from senca_ray.methods import MODEL

_TOP = 5


def study_markers(folder: Path, description: dict[str, Any]) -> pd.DataFrame:
    """Test all genes of every section in every region of the model; columns sample and MARKER_COLUMNS.

    The regions are those that the seeds agree on, with one seed its own. Raises SencaError where a shard or
    the results cannot be read; a section whose fits failed has no rows.
    """
    frames = [pd.DataFrame(columns=[keys.SAMPLE, *MARKER_COLUMNS])]
    for name, regions in model_regions(folder, description).items():
        sample = read_sample(description["shards"][name], ALL_GENES)
        found = region_markers(sample.counts, sample.genes, sample.total_counts, sample.target_sum, regions)
        frames.append(found.assign(**{keys.SAMPLE: name}))
    return pd.concat(frames[1:] or frames, ignore_index=True)[[keys.SAMPLE, *MARKER_COLUMNS]]


def model_regions(folder: Path, description: dict[str, Any]) -> dict[str, np.ndarray]:
    """The regions (N,) of every section whose markers are reported: the consensus, or those of one seed."""
    rows = read_fits(folder).dropna(subset=keys.REGIONS)
    mine = rows[(rows[keys.METHOD] == MODEL) & (rows[keys.SETTING] == description["default"])]
    single = len(description["seeds"]) == 1
    mine = mine if single else mine[mine[keys.CLUSTERING] == keys.CONSENSUS]
    found = dict(zip(mine[keys.SAMPLE], mine[keys.REGIONS], strict=True))
    return {sample: np.asarray(found[sample]) for sample in description["shards"] if sample in found}


def write_markers(folder: Path, markers: pd.DataFrame) -> Path:
    """Write markers.parquet whole or not at all and return its path; raises SencaError."""
    path = folder / keys.MARKERS_FILE
    write_whole(path, lambda temporary: markers.to_parquet(temporary, index=False))
    return path


def gene_table(markers: pd.DataFrame, genes: Sequence[str]) -> pd.DataFrame:
    """Each gene with the region of one section in which its effect is highest, in the order asked for.

    Genes that the section does not have are left out; so are those tested in no region.
    """
    asked = markers[markers["gene"].isin(genes)].dropna(subset=["effect"])
    best = asked.loc[asked.groupby("gene")["effect"].idxmax()]
    place = {gene: i for i, gene in enumerate(dict.fromkeys(genes))}
    return best.sort_values("gene", key=lambda names: names.map(place)).reset_index(drop=True)


def format_study_markers(markers: pd.DataFrame, genes: Sequence[str]) -> Iterator[Table | str]:
    """Two tables a section: each region's strongest genes, and those asked for; notes after the last."""
    for sample, rows in markers.groupby(keys.SAMPLE, sort=False):
        yield format_markers(rows, f"{sample}: strongest genes of each region", top=_TOP)
        if genes:
            yield _asked(str(sample), rows, genes)
    yield COLUMNS_EXPLAINED
    yield DOUBLE_DIPPING


def _asked(sample: str, rows: pd.DataFrame, genes: Sequence[str]) -> Table:
    missing = missing_genes(genes, list(rows["gene"].unique()))
    absent = [f"Not among the section's genes: {', '.join(missing)}."] if missing else []
    table = plain_table(
        f"{sample}: genes asked for, each with the region of its highest effect",
        ["\ngene", "\nregion"],
        ["\neffect", "p ad-\njusted", "\nin", "\nout"],
        absent,
    )
    for row in gene_table(rows, genes).to_dict("records"):
        table.add_row(
            row["gene"],
            str(row["region"]),
            number(row["effect"], "+"),
            p_value(row["p_adjusted"]),
            *(f"{row[share]:.0%}" for share in ("fraction_in", "fraction_out")),
        )
    return table
