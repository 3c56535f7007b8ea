"""The study's page: one self-contained HTML file that can be mailed and printed."""

from __future__ import annotations

import base64
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from senca_ray import keys
from senca_ray.analysis.tables import HOLM_FAMILIES, PROTOCOL
from senca_ray.files import write_text
from senca_ray.methods import MODEL
from senca_ray.report.figures import render, sweep_figures
from senca_ray.report.maps import SectionMaps, overlay, section_maps
from senca_ray.report.view import VARIANT, StudyView, explain, is_model, load_study

_TEMPLATES = Path(__file__).parent / "templates"
_NOTHING = "–"
_SOURCE_WORDS = {
    keys.ANNOTATED: "annotated by a pathologist",
    keys.TRANSFERRED: "transferred labels: approximate",
    keys.SIMULATED: "simulated: the region each spot was drawn from",
    keys.UNLABELLED: "none",
}


def write_report(study_dir: Path) -> Path:
    """Write the page of the study in `study_dir`, whole or not at all, and return its path.

    Raises SencaError when files are missing (see `load_study`) or the page cannot be written.
    """
    view = load_study(study_dir)
    page = _environment().get_template("report.html.j2").render(_content(view))
    path = view.folder / keys.REPORT_FILE
    write_text(path, page)
    return path


def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "score": lambda value: _number(value, ".3f"),
        "difference": lambda value: _number(value, "+.3f"),
        "p": lambda value: _number(value, ".2g"),
        "base64": _base64,
        "counted": _counted,
    }
    return environment


def _base64(content: bytes | str) -> str:
    raw = content.encode() if isinstance(content, str) else content
    return base64.b64encode(raw).decode("ascii")


def _number(value: Any, form: str) -> str:
    """A number as the page shows it: a true minus sign, a dash for nothing."""
    return _NOTHING if pd.isna(value) else format(float(value), form).replace("-", "−")


def _counted(number: int, noun: str) -> str:
    """'1 section', '2 sections'."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _content(view: StudyView) -> dict[str, Any]:
    description = view.description
    figures = {title: render(figure, "svg") for title, figure in sweep_figures(view)}
    numbers = {sample: number for number, sample in enumerate(description["shards"], start=1)}
    failures = view.results[view.results[keys.STATUS] == keys.FAILED]
    return {
        "study": description,
        "vary": description["vary"],
        "values": [str(v) for v in description["values"]],
        "default": view.default,
        "n_sections": len(description["shards"]),
        "n_patients": view.results[keys.PATIENT].nunique(),
        "controls": [(name, explain(name)) for name in description["controls"]],
        "model": explain(MODEL),
        "protocol": PROTOCOL,
        "holm": HOLM_FAMILIES,
        "blocks": [
            _block(view, str(title), rows, figures.get(str(title)))
            for title, rows in view.summary.groupby("block", sort=False)
        ],
        "n_rows": len(view.results),
        "n_failed": len(failures),
        "failures": _failures(failures),
        "numbers": numbers,
        "sections": [{"number": n} | _section(view, sample) for sample, n in numbers.items()],
        "settings": {"Model settings": description["setting"], "Preparation": description["prepare"]},
        "versions": description.get("versions", {}),
    }


def _block(view: StudyView, title: str, summary: pd.DataFrame, figure: bytes | None) -> dict[str, Any]:
    named = summary.assign(control=summary[keys.METHOD] != MODEL)
    rows: list[dict[Any, Any]] = named.to_dict("records")
    sections = view.sections[view.sections["block"] == title]
    return {
        "title": title,
        "figure": figure,
        "rows": rows,
        "n_sections": int(summary["n_sections"].max()),
        "n_patients": int(summary["n_patients"].max()),
        "n_seeds": int(summary["n_seeds"].max()),
        "default": next((r for r in rows if r["is_default"]), None),
        "others": [r for r in rows if not r["control"] and not r["is_default"]],
        "best_control": max(
            (r for r in rows if r["control"] and pd.notna(r["mean_ari"])),
            key=lambda r: r["mean_ari"],
            default=None,
        ),
        "remarks": _remarks(rows),
        "table": _section_table(view, sections),
    }


def _remarks(rows: list[dict[Any, Any]]) -> list[tuple[str, str]]:
    """Each remark once, with the rows it is about."""
    about: dict[str, list[str]] = {}
    for row in rows:
        if row["remark"]:
            about.setdefault(row["remark"], []).append(_title(row[keys.METHOD], row[keys.SETTING]))
    return [(", ".join(names), text) for text, names in about.items()]


def _title(method: str, setting: str) -> str:
    return setting if method == MODEL else method


def _section_table(view: StudyView, sections: pd.DataFrame) -> dict[str, Any]:
    """A line a section, a column a variant; a cell is a row of the section table or None."""
    variants = view.variants(sections)
    cells = {(row[keys.SAMPLE], *(row[name] for name in VARIANT)): row for row in sections.to_dict("records")}
    samples = sections[[keys.SAMPLE, keys.PATIENT]].drop_duplicates().itertuples(index=False, name=None)
    return {
        "columns": [(_title(v[0], v[1]), not is_model(v), v[1] == view.default) for v in variants],
        "lines": [
            (sample, patient, [cells.get((sample, *variant)) for variant in variants])
            for sample, patient in sorted(samples)
        ],
    }


def _failures(failed: pd.DataFrame) -> list[dict[str, Any]]:
    """Failed rows, one line for all seeds that failed for the same reason."""
    columns = [keys.SAMPLE, keys.METHOD, keys.SETTING, keys.REASON]
    return [
        dict(zip(columns, key, strict=True)) | {"seeds": ", ".join(str(s) for s in sorted(rows[keys.SEED]))}
        for key, rows in failed.groupby(columns, dropna=False)
    ]


def _section(view: StudyView, sample: str) -> dict[str, Any]:
    if sample in view.unreadable:
        return {"sample": sample, "unreadable": view.unreadable[sample]}
    display = view.displays[sample]
    drawn = section_maps(view, sample)
    return {
        "sample": sample,
        "unreadable": None,
        "patient": display.patient,
        "n_spots": len(display.xy),
        "modality": display.modality,
        "encoder": display.encoder,
        "has_image": drawn.image is not None,
        "labels": _SOURCE_WORDS[display.label_source],
        "notes": display.notes,
        "drawn": drawn,
        "maps": [(m, None if m.codes is None else overlay(drawn, m.codes)) for m in drawn.maps],
        "recovery": _recovery(drawn, display.labels),
    }


def _recovery(drawn: SectionMaps, labels: np.ndarray | None) -> dict[str, Any] | None:
    """Of the regions drawn: how well each label is recovered and the named pair told apart."""
    shown = [(m, m.row) for m in drawn.maps if m.row is not None and m.codes is not None]
    if labels is None or not shown:
        return None
    scores = [json.loads(row[keys.LABEL_F1] or "{}") for _, row in shown]
    pairs = [row[keys.PAIR_AMI] for _, row in shown]
    return {
        "columns": [spot_map for spot_map, _ in shown],
        "lines": [
            (name, count, [found.get(name, math.nan) for found in scores])
            for name, _, count in drawn.legend
            if name != keys.UNDETERMINED
        ],
        "pair": None if all(pd.isna(value) for value in pairs) else pairs,
    }
