"""The figure of a cohort's quality, from tables made here."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from figure_checks import check_no_text_overlaps
from matplotlib.text import Text

from senca_ray.analysis.quality import MEASURES
from senca_ray.config import QualityLimits
from senca_ray.errors import SencaError
from senca_ray.report.quality_figure import quality_figure, write_quality

LIMITS = QualityLimits()


def table_of(sections: int, *, simulated: bool = False) -> pd.DataFrame:
    """Good sections, but the second: everything of it is beyond its limit."""
    rng = np.random.default_rng(0)
    good = {"spots": 400, "counts": 3000, "genes": 1200, "mito_share": 0.05, "sharpness": 0.8}
    good |= {"off_tissue": 0.02, "shift": 0.25, "turned_gain": -0.12, "shared_spots": 0.01}
    bad = {"spots": 20, "counts": 50, "genes": 30, "mito_share": 0.5, "sharpness": 0.01}
    bad |= {"off_tissue": 0.6, "shift": 3.0, "turned_gain": 0.3, "shared_spots": 1.0}
    rows = []
    for index in range(sections):
        values = {name: value * rng.uniform(0.9, 1.1) for name, value in good.items()}
        row = {"sample": f"S{index}", **(bad if index == 1 else values)}
        row |= {f"{n}_{e}": row[n] * f for n in ("counts", "genes") for e, f in (("low", 0.5), ("high", 2))}
        rows.append(row | {"patient": "P", "simulated": simulated, "measured": True, "signature": None})
    return pd.DataFrame(rows)


def texts(table: pd.DataFrame) -> list[str]:
    return [text.get_text() for text in quality_figure(table, LIMITS).findobj(Text)]


@pytest.mark.parametrize("sections", [1, 40])
def test_up_to_forty_sections_are_named_and_nothing_overlaps(sections: int) -> None:
    figure = quality_figure(table_of(sections), LIMITS)
    check_no_text_overlaps(figure, sections + len(MEASURES))
    shown = {text.get_text() for text in figure.axes[0].get_yticklabels()}
    assert shown == {f"S{index}" for index in range(sections)}


def test_what_is_beyond_a_limit_is_counted_and_drawn_apart() -> None:
    axes = quality_figure(table_of(12), LIMITS).axes
    assert [a.get_xlabel().split()[:2] for a in axes] == [["1", "beyond"]] * len(MEASURES)
    for panel in axes:
        diamonds = [line for line in panel.lines if line.get_marker() == "D"]
        assert [list(line.get_ydata()) for line in diamonds] == [[1]]
    moved = QualityLimits(min_spots=0, max_shift=5)
    labels = [a.get_xlabel() for a in quality_figure(table_of(12), moved).axes]
    assert labels[0] == "limit 0" and labels[6] == "limit 5.00"


def test_a_thousand_sections_are_sorted_and_the_worst_are_named() -> None:
    figure = quality_figure(table_of(1000), LIMITS)
    check_no_text_overlaps(figure, len(MEASURES))
    found = [text.get_text() for text in figure.findobj(Text)]
    assert found.count("S1") == len(MEASURES) and "S2" not in found
    assert "1,000 sections, sorted in each panel" in found


def test_what_is_not_known_is_said() -> None:
    table = table_of(3)
    table["mito_share"] = math.nan
    table.loc[2, ["counts", "sharpness"]] = math.nan
    table.loc[2, "measured"] = False
    found = texts(table)
    assert sum("not measured" in text for text in found) == 2  # the panel without values, the small print
    assert found.count("–") == 2
    assert any("Prepared before quality was measured: 1 section." in text for text in found)


def test_simulated_sections_are_called_so() -> None:
    assert any("SIMULATED" in text for text in texts(table_of(2, simulated=True)))
    assert not any("SIMULATED" in text for text in texts(table_of(2)))


def test_names_are_not_taken_for_mathematics() -> None:
    table = table_of(2)
    table["sample"] = ["a$x^2$", "b_" * 30]
    assert "a$x^2$" in texts(table)
    check_no_text_overlaps(quality_figure(table, LIMITS), 2)


def test_the_files_are_the_same_each_time(tmp_path: Path) -> None:
    written = [write_quality(table_of(2), LIMITS, tmp_path / name) for name in ("a", "b")]
    assert [path.name for path in written[0]] == ["quality.pdf", "quality.png", "quality.csv"]
    assert [p.read_bytes() for p in written[0]] == [p.read_bytes() for p in written[1]]
    rows = pd.read_csv(written[0][2])
    assert "signature" not in rows and rows["sample"].tolist() == ["S0", "S1"]
    assert rows["beyond"].isna().tolist() == [True, False]
    assert sorted(p.name for p in (tmp_path / "a").iterdir()) == sorted(p.name for p in written[0])


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SencaError, match="choose another --out"):
        write_quality(table_of(1), LIMITS, tmp_path / "file")
