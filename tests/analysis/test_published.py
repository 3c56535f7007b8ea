from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from senca_ray.analysis.published import COLUMNS, HER2ST_ANNOTATED, checked, published_scores
from senca_ray.errors import ProblemsError, SencaError

# As the paper prints them (mean, median).
TABLE_1 = {
    "BayesSpace": (0.100, 0.071),
    "SpaGCN": (0.195, 0.230),
    "DeepST": (0.237, 0.257),
    "conST": (0.149, 0.111),
    "ConGcR": (0.268, 0.258),
    "ConGaR": (0.187, 0.184),
    "SENCA-st": (0.304, 0.320),
}
TABLE_2 = {"CID44971 (TNBC)": 0.326, "CID4535 (ER+)": 0.272, "1160920F (TNBC)": 0.300}
TABLE_4 = {
    "normal": 0.3039,
    "without cross-attention weights": 0.2218,
    "without hierarchical learning": 0.2495,
}
TABLE_5 = {"n=4": 0.304, "n=8": 0.290, "n=16": 0.240}


def test_table_1_is_that_of_the_paper() -> None:
    rows = published_scores(HER2ST_ANNOTATED)
    table = rows[(rows["table"] == "1") & (rows["statistic"] != "t_test_p")]
    by_method = table.pivot(index="method", columns="statistic", values="value")
    assert {m: (r["mean_ari"], r["median_ari"]) for m, r in by_method.iterrows()} == TABLE_1
    # The six others are quoted there from an earlier paper, and the source says so.
    others = table["method"] != "SENCA-st"
    assert (table["source"].str.contains("Lin et al.") == others).all()
    assert rows.loc[rows["statistic"] == "t_test_p", "value"].tolist() == [0.0055]


@pytest.mark.parametrize(("table", "expected"), [("2", TABLE_2), ("4", TABLE_4), ("5", TABLE_5)])
def test_the_other_tables_are_those_of_the_paper(table: str, expected: dict[str, float]) -> None:
    rows = published_scores()
    rows = rows[rows["table"] == table]
    assert dict(zip(rows["setting"], rows["value"], strict=True)) == expected
    assert set(rows["method"]) == {"SENCA-st"}
    assert set(rows["source"]) == {f"SENCA-st Table {table}"}


def test_every_row_has_a_source_and_a_number() -> None:
    rows = published_scores()
    assert tuple(rows.columns) == COLUMNS
    assert rows["value"].dtype == np.float64
    assert (rows["source"].str.len() > 0).all()
    assert not rows.isna().any(axis=None)


def test_rows_of_one_cohort() -> None:
    rows = published_scores("HER2ST H1")
    assert set(rows["cohort"]) == {"HER2ST H1"}
    assert list(rows.index) == list(range(len(rows)))
    assert rows.loc[rows["method"] == "SENCA-st", "value"].tolist() == [0.518]
    with pytest.raises(
        SencaError, match=r"cohort 'mine' has no published scores; expected one of .*'HER2ST H1'"
    ):
        published_scores("mine")


def as_read(**changes: str) -> dict[str, str]:
    row = dict(zip(COLUMNS, ("1", "cohort", "method", "", "mean_ari", "0.3", "paper"), strict=True))
    return row | changes


def test_a_damaged_table_is_refused_with_everything_that_is_wrong() -> None:
    rows = [
        as_read(),
        as_read(value="0.4"),
        as_read(source=" ", setting="a"),
        as_read(value="1.2", setting="b"),
        as_read(value="n/a", setting="c"),
        as_read(statistic="accuracy", setting="d"),
        as_read(statistic="t_test_p", value="-0.1", setting="e"),
    ]
    with pytest.raises(ProblemsError) as raised:
        checked(pd.DataFrame(rows))
    assert [(p.place, p.message.split(";")[0]) for p in raised.value.problems] == [
        ("published.csv:3", "the same number a second time"),
        ("published.csv:4", "source is empty"),
        ("published.csv:5", "value '1.2' found"),
        ("published.csv:6", "value 'n/a' found"),
        ("published.csv:7", "statistic 'accuracy' found"),
        ("published.csv:8", "value '-0.1' found"),
    ]
    assert checked(pd.DataFrame(rows[:1]))["value"].tolist() == [0.3]


def test_other_columns_are_refused() -> None:
    with pytest.raises(ProblemsError, match="expected table, cohort, method"):
        checked(pd.DataFrame([as_read()]).drop(columns="source"))
