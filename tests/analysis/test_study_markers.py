from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from rich.console import Console
from rich.table import Table
from tiny_study import trial_rows, write_study

from senca_ray import keys
from senca_ray.analysis.markers import DOUBLE_DIPPING, region_markers
from senca_ray.analysis.results import Journal, write_tables
from senca_ray.analysis.study_markers import (
    format_study_markers,
    gene_table,
    model_regions,
    study_markers,
    write_markers,
)
from senca_ray.data.shards import read_sample

FIXED = {
    keys.SETTING: keys.DEFAULT,
    keys.PATIENT: "T",
    keys.MODALITY: keys.RNA,
    keys.LABEL_SOURCE: keys.SIMULATED,
    keys.K: 2,
    keys.N_SPOTS: 48,
    keys.N_SCORED: 47,
    keys.DEVICE: "cpu",
    keys.ENCODER: "none",
    keys.FINGERPRINT: "0",
    keys.VERSIONS: "{}",
    keys.CONFIG: "{}",
}


@pytest.fixture
def study(toy_shard: str, tmp_path: Path) -> tuple[Path, dict[str, object]]:
    """Two seeds that disagree, and the halves of the section as their consensus."""
    halves = (np.arange(48) % 8 >= 4).astype(int).tolist()
    rows = [row | FIXED | {keys.REGIONS: [0] * 47 + [1]} for row in trial_rows("T1", keys.DEFAULT)[:2]]
    agreed = trial_rows("T1", keys.DEFAULT)[3] | FIXED | {keys.REGIONS: halves, keys.N_SEEDS: 2}
    folder = write_study(tmp_path / "s")
    Journal(folder).append([*rows, agreed])
    write_tables(folder)
    return folder, {"shards": {"T1": toy_shard}, "default": keys.DEFAULT, "seeds": [0, 1], "markers": []}


def test_markers_are_those_of_what_the_seeds_agree_on(study: tuple[Path, dict[str, object]]) -> None:
    folder, description = study
    markers = study_markers(folder, description)
    sample = read_sample(description["shards"]["T1"], 100)  # type: ignore[index]
    halves = (np.arange(48) % 8 >= 4).astype(np.int16)
    expected = region_markers(sample.counts, sample.genes, sample.total_counts, sample.target_sum, halves)
    pd.testing.assert_frame_equal(markers.drop(columns=keys.SAMPLE), expected)
    assert set(markers[keys.SAMPLE]) == {"T1"} and markers["gene"].nunique() == len(sample.genes)
    again = pd.read_parquet(write_markers(folder, markers))
    pd.testing.assert_frame_equal(again, markers)


def test_one_seed_has_regions_of_its_own(study: tuple[Path, dict[str, object]]) -> None:
    folder, description = study
    regions = model_regions(folder, description | {"seeds": [0]})
    assert regions["T1"].tolist()[-2:] in ([0, 1], [1, 1])
    assert model_regions(folder, description)["T1"].tolist()[:8] == [0, 0, 0, 0, 1, 1, 1, 1]


def test_a_gene_stands_with_the_region_of_its_highest_effect() -> None:
    rows = pd.DataFrame(
        {
            "region": [0, 1, 0, 1, 0, 1],
            "gene": ["A", "A", "B", "B", "C", "C"],
            "effect": [0.2, -0.2, -0.9, 0.9, np.nan, np.nan],
        }
    )
    found = gene_table(rows, ["B", "Z", "A", "C", "B"])
    assert found[["gene", "region"]].to_numpy().tolist() == [["B", 1], ["A", 0]]


def test_the_caution_is_said_once_below_all_tables(study: tuple[Path, dict[str, object]]) -> None:
    markers = study_markers(*study)
    shown = list(format_study_markers(markers, ["G0", "NOSUCH"]))
    assert [isinstance(part, Table) for part in shown] == [True, True, False, False]
    assert shown[-1] == DOUBLE_DIPPING
    screen = io.StringIO()
    Console(file=screen, width=80).print(shown[1])
    assert "G0" in screen.getvalue() and "NOSUCH" in screen.getvalue()
