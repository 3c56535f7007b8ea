"""The study's page: one self-contained HTML file that can be mailed and printed."""

from __future__ import annotations

import base64
import gzip
import hashlib
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from jinja2.utils import htmlsafe_json_dumps
from markupsafe import Markup

from senca_ray import keys
from senca_ray.analysis.markers import COLUMNS_EXPLAINED, DOUBLE_DIPPING
from senca_ray.analysis.tables import HOLM_FAMILIES, LABEL_FREE_NOTE
from senca_ray.files import write_text
from senca_ray.methods import MODEL
from senca_ray.methods.protocol import Protocol
from senca_ray.report.benchmark import benchmark_content
from senca_ray.report.benchmark_figures import benchmark_figures
from senca_ray.report.cohort import cohort_content
from senca_ray.report.explorer import SHARED
from senca_ray.report.figures import render, sweep_figures
from senca_ray.report.maps import NOT_CLUSTERED_COLOUR
from senca_ray.report.markers import marker_content
from senca_ray.report.search import objective_name, search_content
from senca_ray.report.search_figures import search_figures
from senca_ray.report.sections import section_content
from senca_ray.report.tables import block, failures, label_free_parts, setting_tables
from senca_ray.report.view import StudyView, explain, load_study, n_fits, settings_of, value_of
from senca_ray.report.words import (
    compared_with,
    comparison,
    counted,
    footing,
    number,
    regions_policy,
    small_p,
)

_TEMPLATES = Path(__file__).parent / "templates"


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
        "score": lambda value: number(value, ".3f"),
        "difference": lambda value: number(value, "+.3f"),
        "p": lambda value: number(value, ".2g"),
        "small_p": small_p,
        "rank": lambda value: number(value, ".2f"),
        "decimal": lambda value: number(value, ".1f"),
        "effect": lambda value: number(value, "+.2f"),
        "whole": lambda value: number(value, ".0f"),
        "amount": lambda value: number(value, ".2f" if value < 10 else ".0f"),
        "base64": _base64,
        "counted": counted,
        "objective": objective_name,
        "percent": lambda value: _percent(value),
        "comparison": comparison,
        "compared_with": compared_with,
    }
    return environment


def _base64(content: bytes | str) -> str:
    raw = content.encode() if isinstance(content, str) else content
    return base64.b64encode(raw).decode("ascii")


def _percent(value: float) -> str:
    """A share in per cent, with a digit more where it is small."""
    return f"{number(100 * value, '.0f' if value >= 0.1 else '.1f')} %"


def _content(view: StudyView) -> dict[str, Any]:
    description = view.description
    bench = _benchmark(view) if description["kind"] == "benchmark" else None
    numbers = {sample: number for number, sample in enumerate(description["shards"], start=1)}
    failed = view.tried[view.tried[keys.STATUS] == keys.FAILED]
    settings = settings_of(description)
    sections = [{"number": n} | section_content(view, sample) for sample, n in numbers.items()]
    blocks = [] if bench else _blocks(view)
    labelled = view.results[keys.LABEL_SOURCE] != keys.UNLABELLED
    ran = set(view.tried[keys.METHOD])
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
        "controls": [(name, explain(name)) for name in description["controls"] if name in ran],
        "model": explain(MODEL),
        "protocol": Protocol.read(view.description).words(),
        "holm": HOLM_FAMILIES,
        "blocks": blocks,
        "labelled": bool(labelled.any()),
        "unlabelled": not labelled.all(),
        "has_label_free": any(bench["label_free"].values() if bench else (b["label_free"] for b in blocks)),
        "label_free_note": LABEL_FREE_NOTE,
        "ranking": view.ranking.to_dict("records"),
        "n_rows": n_fits(view.tried),
        "n_failed": n_fits(failed),
        "failures": [] if bench else failures(failed),
        "not_clustered": NOT_CLUSTERED_COLOUR,
        "numbers": numbers,
        "cohort": cohort_content(view),
        "sections": sections,
        "scripts": _scripts(sections),
        "partial": view.partial,
        "footing": footing(view),
        "regions_policy": regions_policy(description["k_policy"]),
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
    content = benchmark_content(view)
    return content | {"figures": figures, "label_free": label_free_parts(view)}


def _search(view: StudyView, selection: dict[str, Any]) -> dict[str, Any]:
    figures = [
        {"caption": shown.caption, "drawing": render(shown.figure, "svg")} for shown in search_figures(view)
    ]
    return search_content(view, selection) | {"figures": figures}


def _scripts(sections: list[dict[str, Any]]) -> dict[str, Any] | None:
    """What the sections' panels run, and the hashes by which the page's policy allows it; None without panel.

    The plotting library is kept packed, a third of its size, and unpacked by the page where it is needed.
    """
    panels = [section["explorer"] for section in sections if section["explorer"]]
    if not panels:
        return None
    own = (_TEMPLATES / "explorer.js").read_text(encoding="utf-8")
    library = _plotting_library() if any(panel.has_plots for panel in panels) else None
    return {
        "own": Markup(own),  # noqa: S704  our own file
        "library": library and gzip.compress(library, mtime=0),
        "policy": " ".join(map(_allowed, filter(None, (own.encode(), library)))),
        "shared": htmlsafe_json_dumps(SHARED),
    }


def _plotting_library() -> bytes:
    from plotly.offline import get_plotlyjs

    return str(get_plotlyjs()).encode()


def _allowed(script: bytes) -> str:
    """The policy's name of a script: nothing else can be run in the page."""
    return f"'sha256-{_base64(hashlib.sha256(script).digest())}'"
