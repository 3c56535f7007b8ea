"""The rows of the page's tables: statistics, scores by section, failures, settings."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from senca_ray import keys
from senca_ray.analysis.selection import changes_text
from senca_ray.analysis.tables import LABEL_FREE, has_no_labels
from senca_ray.methods import MODEL
from senca_ray.report.search import range_text
from senca_ray.report.view import VARIANT, StudyView, is_consensus, is_model

_LABEL_FREE = {
    "median_k": "regions, median",
    LABEL_FREE[keys.SILHOUETTE]: "silhouette",
    LABEL_FREE[keys.CHAOS]: "CHAOS",
    LABEL_FREE[keys.PAS]: "PAS",
    keys.STABILITY: "stability",
}
"""Columns of a summary that a table without labels shows, with their heads."""
_CELL = {keys.K: "regions", keys.SILHOUETTE: "silhouette", keys.CHAOS: "CHAOS", keys.PAS: "PAS"}
"""The same of the section table, in a cell of one section."""


def setting_tables(description: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Title and content (name to value) of the tables that say how the study was made."""
    tables = {"Model settings": description["setting"], "Preparation": description["prepare"]}
    if description["kind"] == "search":
        tables["Searched"] = {name: range_text(given) for name, given in description["space"].items()}
    elif description["kind"] == "grid" and not description["vary"]:
        tables["Variants"] = {
            label: changes_text(changes) if changes else "as the model settings say"
            for label, changes in description["variants"].items()
        }
    return tables | {"Versions": description.get("versions", {})}


def block(view: StudyView, title: str, summary: pd.DataFrame, figure: bytes | None) -> dict[str, Any]:
    """What the page says of one block; `summary` holds its rows of the statistics."""
    # A summary of an earlier version lacks the scores that need no labels.
    summary = summary.reindex(columns=list(dict.fromkeys([*summary.columns, *_LABEL_FREE])))
    ordered = {variant: place for place, variant in enumerate(view.variants(summary))}
    place = summary[list(VARIANT)].apply(lambda row: ordered[tuple(row)], axis=1)
    rows = [_row(view, row) for row in summary.iloc[np.argsort(place)].to_dict("records")]
    single = [row for row in rows if not row["consensus"]]
    together = [row for row in rows if row["consensus"]]
    sections = view.sections[view.sections["block"] == title]
    combined = sections[keys.CLUSTERING] == keys.CONSENSUS
    return {
        "title": title,
        "figure": figure,
        "label_free": label_free(summary),
        "groups": [group for group in (single, together) if group],
        "n_sections": max(row["n_sections"] for row in rows),
        "n_patients": max(row["n_patients"] for row in rows),
        "n_seeds": max((row["n_seeds"] for row in single), default=0),
        "default": next((row for row in single if row["default"]), None),
        "others": [row for row in single if not row["control"] and not row["default"]],
        "best_control": _best_control(single, "mean_ari"),
        "steady": [row for row in together if not row["control"] and pd.notna(row[keys.STABILITY])],
        "steadiest_control": _best_control(together, keys.STABILITY),
        "remarks": _remarks(rows),
        "tables": [
            _section_table(view, part) for part in (sections[~combined], sections[combined]) if len(part)
        ],
    }


def label_free(summary: pd.DataFrame) -> list[tuple[str, str]] | None:
    """Columns, with their heads, that stand for ARI and tests in a block without labels; None elsewhere."""
    if not {*_LABEL_FREE} <= {*summary.columns} or not has_no_labels(summary):
        return None
    return [(column, head) for column, head in _LABEL_FREE.items() if summary[column].notna().any()]


def label_free_parts(view: StudyView) -> dict[str, dict[str, Any] | None]:
    """Of every block of a benchmark the table that stands for ARI where there are no labels; else None."""
    parts: dict[str, dict[str, Any] | None] = {}
    for title, summary in view.summary.groupby("block", sort=False):
        columns = label_free(summary)
        rows = [
            row
            | {"title": row[keys.METHOD], "control": False, "default": row["is_default"]}
            | {"consensus": row[keys.CLUSTERING] == keys.CONSENSUS}
            for row in summary.to_dict("records")
        ]
        groups = [[row for row in rows if row["consensus"] == together] for together in (False, True)]
        parts[str(title)] = {"columns": columns, "groups": list(filter(None, groups))} if columns else None
    return parts


def _best_control(rows: list[dict[Any, Any]], score: str) -> dict[Any, Any] | None:
    scored = (row for row in rows if row["control"] and pd.notna(row[score]))
    return max(scored, key=lambda row: row[score], default=None)


def _row(view: StudyView, row: dict[Any, Any]) -> dict[Any, Any]:
    """A row of the summary with what the page says of it."""
    control = row[keys.METHOD] != MODEL
    return row | {
        "title": row[keys.METHOD] if control else row[keys.SETTING],
        "control": control,
        "default": not control and row[keys.SETTING] == view.default,
        "consensus": row[keys.CLUSTERING] == keys.CONSENSUS,
    }


def _remarks(rows: list[dict[Any, Any]]) -> list[tuple[str, str]]:
    """Each remark once, with the rows it is about."""
    about: dict[str, list[str]] = {}
    for row in rows:
        if row["remark"]:
            of = "consensus of " if row["consensus"] else ""
            about.setdefault(row["remark"], []).append(of + row["title"])
    compared = sum(not row["default"] for row in rows)
    return [
        ("all comparisons" if len(names) == compared else ", ".join(names), text)
        for text, names in about.items()
    ]


def _section_table(view: StudyView, sections: pd.DataFrame) -> dict[str, Any]:
    """A line a section, a column a variant; a cell is a row of the section table or None."""
    variants = view.variants(sections)
    cells = {(row[keys.SAMPLE], *(row[name] for name in VARIANT)): row for row in sections.to_dict("records")}
    samples = sections[[keys.SAMPLE, keys.PATIENT]].drop_duplicates().itertuples(index=False, name=None)
    label_free = sections["mean_ari"].isna().all() and sections[keys.CHAOS].notna().any()
    return {
        "consensus": is_consensus(variants[0]),
        "label_free": _CELL if label_free else None,
        "columns": [
            (setting if is_model(variant) else method, not is_model(variant), setting == view.default)
            for variant in variants
            for method, setting in [variant[:2]]
        ],
        "lines": [
            (sample, patient, [cells.get((sample, *variant)) for variant in variants])
            for sample, patient in sorted(samples)
        ],
    }


def failures(failed: pd.DataFrame) -> list[dict[str, Any]]:
    """Failed rows, one line for all seeds that failed for the same reason."""
    columns = [keys.SAMPLE, keys.METHOD, keys.SETTING, keys.REASON]
    return [
        dict(zip(columns, key, strict=True)) | {"seeds": ", ".join(_seeds(rows[keys.SEED]))}
        for key, rows in failed.groupby(columns, dropna=False)
    ]


def _seeds(seeds: pd.Series) -> list[str]:
    """Seeds in words, the consensus of all of them last."""
    single = sorted(set(seeds) - {keys.ALL_SEEDS})
    return [*map(str, single), *([keys.CONSENSUS] if keys.ALL_SEEDS in set(seeds) else [])]
