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
from senca_ray.analysis.markers import COLUMNS_EXPLAINED, DOUBLE_DIPPING
from senca_ray.analysis.tables import HOLM_FAMILIES
from senca_ray.files import write_text
from senca_ray.methods import MODEL
from senca_ray.methods.protocol import Protocol
from senca_ray.report.benchmark import benchmark_content
from senca_ray.report.benchmark_figures import benchmark_figures
from senca_ray.report.figures import render, sweep_figures
from senca_ray.report.maps import NOT_CLUSTERED_COLOUR, SectionMaps, overlay, section_maps
from senca_ray.report.markers import marker_content
from senca_ray.report.search import objective_name, search_content
from senca_ray.report.search_figures import search_figures
from senca_ray.report.tables import block, failures, setting_tables
from senca_ray.report.view import StudyView, explain, load_study, n_fits, settings_of, value_of

_TEMPLATES = Path(__file__).parent / "templates"
_NOTHING = "–"
_SMALL_P = 0.001
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
        "small_p": _small_p,
        "rank": lambda value: _number(value, ".2f"),
        "decimal": lambda value: _number(value, ".1f"),
        "effect": lambda value: _number(value, "+.2f"),
        "whole": lambda value: _number(value, ".0f"),
        "amount": lambda value: _number(value, ".2f" if value < 10 else ".0f"),
        "base64": _base64,
        "counted": _counted,
        "objective": objective_name,
    }
    return environment


def _base64(content: bytes | str) -> str:
    raw = content.encode() if isinstance(content, str) else content
    return base64.b64encode(raw).decode("ascii")


def _number(value: Any, form: str) -> str:
    """A number as the page shows it: a true minus sign, a dash for nothing."""
    return _NOTHING if pd.isna(value) else format(float(value), form).replace("-", "−")


def _small_p(value: Any) -> str:
    """A p-value among many: no digits that nobody can rely on."""
    return "< 0.001" if value < _SMALL_P else _number(value, ".2g")


def _counted(number: int, noun: str) -> str:
    """'1 section', '2 sections'."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _content(view: StudyView) -> dict[str, Any]:
    description = view.description
    bench = _benchmark(view) if description["kind"] == "benchmark" else None
    numbers = {sample: number for number, sample in enumerate(description["shards"], start=1)}
    failed = view.tried[view.tried[keys.STATUS] == keys.FAILED]
    settings = settings_of(description)
    return {
        "study": description,
        "settings": settings,
        "default": view.default,
        "vary": description.get("vary"),
        "values": [value_of(description, n) for n in settings] if description.get("vary") else [],
        "consensus": (view.compared[keys.CLUSTERING] == keys.CONSENSUS).any(),
        "bench": bench,
        "unit": bench["unit"] if bench else keys.PATIENT,
        "search": _search(view, view.selection) if view.selection else None,
        "markers": marker_content(view),
        "double_dipping": DOUBLE_DIPPING,
        "marker_columns": COLUMNS_EXPLAINED,
        "n_sections": len(description["shards"]),
        "n_patients": view.results[keys.PATIENT].nunique(),
        "controls": [(name, explain(name)) for name in description["controls"]],
        "model": explain(MODEL),
        "protocol": Protocol.read(view.description).words(),
        "holm": HOLM_FAMILIES,
        "blocks": [] if bench else _blocks(view),
        "ranking": view.ranking.to_dict("records"),
        "n_rows": n_fits(view.tried),
        "n_failed": n_fits(failed),
        "failures": [] if bench else failures(failed),
        "not_clustered": NOT_CLUSTERED_COLOUR,
        "numbers": numbers,
        "sections": [{"number": n} | _section(view, sample) for sample, n in numbers.items()],
        "tables": setting_tables(description),
    }


def _blocks(view: StudyView) -> list[dict[str, Any]]:
    figures = {title: render(figure, "svg") for title, figure in sweep_figures(view)}
    return [
        block(view, str(title), rows, figures.get(str(title)))
        for title, rows in view.summary.groupby("block", sort=False)
    ]


def _benchmark(view: StudyView) -> dict[str, Any]:
    figures = [
        {
            "block": shown.block,
            "name": shown.name,
            "caption": shown.caption,
            "drawing": render(shown.figure, "svg"),
        }
        for shown in benchmark_figures(view)
    ]
    return benchmark_content(view) | {"figures": figures}


def _search(view: StudyView, selection: dict[str, Any]) -> dict[str, Any]:
    figures = [
        {"caption": shown.caption, "drawing": render(shown.figure, "svg")} for shown in search_figures(view)
    ]
    return search_content(view, selection) | {"figures": figures}


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
