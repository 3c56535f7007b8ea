"""Scores that papers print, with their source: rows of their own, never mixed with measured ones."""

from __future__ import annotations

from importlib.resources import files

import pandas as pd

from senca_ray.errors import Problem, ProblemsError, SencaError

FILE = "published.csv"
COLUMNS = ("table", "cohort", "method", "setting", "statistic", "value", "source")
HER2ST_ANNOTATED = "HER2ST 8 annotated sections"
"""Cohort of Tables 1, 4 and 5 of the paper."""

_RANGES = {"ari": (-1.0, 1.0), "mean_ari": (-1.0, 1.0), "median_ari": (-1.0, 1.0), "t_test_p": (0.0, 1.0)}
"""What is printed and the values it can take."""


def published_scores(cohort: str | None = None) -> pd.DataFrame:
    """Published scores of a cohort, or of all; columns COLUMNS, `value` as a float, one row a printed number.

    Protocols differ between papers (gene filters, k, seeds, what is left out of the score): no row is
    comparable to a measured one without saying so.
    Raises SencaError for a cohort that has none, ProblemsError where the file that ships is damaged.
    """
    with files(__package__).joinpath(FILE).open(encoding="utf-8") as file:
        frame = checked(pd.read_csv(file, dtype=str, keep_default_na=False))
    if cohort is None:
        return frame
    if cohort not in set(frame["cohort"]):
        known = ", ".join(repr(name) for name in frame["cohort"].unique())
        raise SencaError(f"cohort {cohort!r} has no published scores; expected one of {known}")
    return frame[frame["cohort"] == cohort].reset_index(drop=True)


def checked(frame: pd.DataFrame) -> pd.DataFrame:
    """The table as read, all text, with `value` as a float; raises ProblemsError with all that is wrong."""
    if tuple(frame.columns) != COLUMNS:
        problem = f"columns {', '.join(frame.columns)} found; expected {', '.join(COLUMNS)}"
        raise ProblemsError([Problem("-", FILE, problem)], "published scores")
    values = pd.to_numeric(frame["value"], errors="coerce")
    again = frame.duplicated([name for name in COLUMNS if name != "value"])
    problems = []
    # A file's first row stands on its second line.
    for line, (row, value, repeated) in enumerate(
        zip(frame.to_dict("records"), values, again, strict=True), start=2
    ):
        messages = [f"{name} is empty" for name in COLUMNS if name != "setting" and not row[name].strip()]
        low, high = _RANGES.get(row["statistic"], (None, None))
        if low is None:
            messages.append(f"statistic {row['statistic']!r} found; expected one of {', '.join(_RANGES)}")
        elif not low <= value <= high:
            messages.append(f"value {row['value']!r} found; expected a number from {low:g} to {high:g}")
        if repeated:
            messages.append("the same number a second time; keep one row")
        problems += [Problem("-", f"{FILE}:{line}", message) for message in messages]
    if problems:
        raise ProblemsError(problems, "published scores")
    return frame.assign(value=values)
