"""A study's own W&B run: its tables, its figures, the maps of its sections, its results as an artifact."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from PIL import Image

from senca_ray import keys
from senca_ray.analysis.benchmark import published_beside
from senca_ray.analysis.kinds import kind_genes, kind_table
from senca_ray.analysis.selection import choices
from senca_ray.analysis.sensitivity import sensitivity
from senca_ray.methods import MODEL
from senca_ray.report.benchmark_figures import benchmark_figures
from senca_ray.report.figures import render, sweep_figures
from senca_ray.report.maps import picture, section_maps
from senca_ray.report.search import suggestions
from senca_ray.report.search_figures import search_figures
from senca_ray.report.view import StudyView, n_fits, settings_of, value_of
from senca_ray.report.wandb_runs import STUDY_JOB, Planned, all_trials, digest, maker, study_id
from senca_ray.report.wandb_session import plain, slug

_ARTIFACT = (keys.RESULTS_FILE, keys.REGIONS_FILE, keys.SUMMARY_FILE, keys.SELECTION_FILE, keys.MARKERS_FILE)
"""Files of the study that travel with the run, those that it has."""


def study_run(view: StudyView) -> Planned:
    """The study's own run."""
    description = view.description
    simulated = ("simulated",) if description["simulated"] else ()
    return Planned(
        id=study_id(description),
        name=description["name"],
        job_type=STUDY_JOB,
        tags=(STUDY_JOB, description["kind"], *simulated),
        config=_config(description),
        made_from=_made_from(view),
        fill=lambda run: _fill(run, view),
    )


def _config(description: dict[str, Any]) -> dict[str, Any]:
    """study.json with the names of its sections in place of where they lie."""
    kept = {name: value for name, value in description.items() if name != "shards"}
    return kept | {"samples": sorted(description["shards"]), "study_id": study_id(description)}


def _made_from(view: StudyView) -> str:
    """Digest of every file of the study that the run shows, and of which sections can be drawn."""
    named = [keys.STUDY_FILE, *_ARTIFACT]
    files = [view.folder / name for name in named] + sorted((view.folder / keys.PORTRAIT_FOLDER).glob("*"))
    found = [path.name.encode() + path.read_bytes() for path in files if path.is_file()]
    return digest(maker(), *found, *view.displays)


def _fill(run: Any, view: StudyView) -> None:
    import wandb

    for name, axis, points in sweep_curves(view):
        run.define_metric(axis, hidden=True)
        run.define_metric(name, step_metric=axis)
        for value, score in points:
            run.log({axis: value, name: score})
    run.log(_content(view))
    run.summary.update(dict(_headline(view)))
    artifact = wandb.Artifact(slug(view.description["name"]), type="results")
    for name in _ARTIFACT:
        if (view.folder / name).is_file():
            artifact.add_file(str(view.folder / name))
    run.log_artifact(artifact)


def sweep_curves(view: StudyView) -> Iterator[tuple[str, str, list[tuple[float, float]]]]:
    """Metric, axis and points of mean ARI against the values of the varied field, where these are numbers.

    One a block; single seeds only, like the figures.
    """
    description = view.description
    if description["kind"] != "grid" or not description["vary"]:
        return
    values = {name: value_of(description, name) for name in settings_of(description)}
    if any(isinstance(value, bool) or not isinstance(value, int | float) for value in values.values()):
        return
    rows = view.summary[
        (view.summary[keys.METHOD] == MODEL) & (view.summary[keys.CLUSTERING] != keys.CONSENSUS)
    ]
    for block, part in rows.dropna(subset=["mean_ari"]).groupby("block", sort=False):
        means = dict(zip(part[keys.SETTING], part["mean_ari"], strict=True))
        points = sorted((float(values[name]), float(mean)) for name, mean in means.items())
        yield f"curve/{slug(str(block))}/mean_ari", f"curve/{description['vary']}", points


def _content(view: StudyView) -> dict[str, Any]:
    import wandb

    content: dict[str, Any] = {
        name: wandb.Table(dataframe=plain(frame)) for name, frame in _tables(view) if len(frame)
    }
    for name, figure, caption in _figures(view):
        content[name] = _image(figure, caption)
    for sample in view.displays:
        section = section_maps(view, sample)
        drawn: list[tuple[str, np.ndarray | None]] = []
        if section.image is not None:
            drawn.append(("H&E image", None))
        drawn += [(f"{m.title} {m.details}".strip(), m.codes) for m in section.maps if m.codes is not None]
        content[f"maps/{slug(sample)}"] = [
            wandb.Image(picture(section, codes), caption=f"{sample}: {caption}", file_type="jpg")
            for caption, codes in drawn
        ]
    return content


def _tables(view: StudyView) -> Iterator[tuple[str, pd.DataFrame]]:
    """Every table that the study ends with; some have no row."""
    yield "summary", view.summary
    yield "sections", view.sections
    yield "trials", all_trials(view)
    yield "label_free_objectives", view.ranking
    if view.description["kind"] == "benchmark":
        yield "benchmark/sensitivity", sensitivity(view.results, view.description)
        yield "benchmark/published", published_beside(view.results, view.description)
    if view.selection:
        yield "search/suggestions", suggestions(view, view.folds)
        yield "search/choices", choices(view.selection, view.results)
    if any(portrait.kinds for portrait in view.portraits.values()):
        patients = dict(zip(view.sections[keys.SAMPLE], view.sections[keys.PATIENT], strict=True))
        yield "kinds/regions", kind_table(view.portraits, patients)
        yield "kinds/genes", kind_genes(view.portraits)


def _figures(view: StudyView) -> Iterator[tuple[str, Figure, str]]:
    """Name, figure and caption of all but the maps."""
    if view.description["kind"] == "benchmark":
        for drawn in benchmark_figures(view):
            yield f"benchmark/{drawn.name}/{slug(drawn.block)}", drawn.figure, drawn.caption
    else:
        for title, figure in sweep_figures(view):
            yield f"sweep/{slug(title)}", figure, title
    if view.selection:
        for shown in search_figures(view):
            yield f"search/{shown.name}", shown.figure, shown.caption


def _image(figure: Figure, caption: str) -> Any:
    import wandb

    with Image.open(io.BytesIO(render(figure, "png"))) as image:
        return wandb.Image(image, caption=caption)


def _headline(view: StudyView) -> Iterator[tuple[str, Any]]:
    # A method of a benchmark has one setting, and a row for each of its clusterings.
    told_by = keys.CLUSTERING if view.description["kind"] == "benchmark" else keys.SETTING
    for row in view.summary.to_dict("records"):
        if pd.notna(row["mean_ari"]):
            part = "/consensus" if row[keys.CLUSTERING] == keys.CONSENSUS else ""
            name = f"{slug(row['block'])}{part}/{row[keys.METHOD]}/{row[told_by]}/mean_ari"
            yield name, row["mean_ari"]
    if view.selection:
        yield "search/chosen", view.main_fold["chosen"]
    yield "sections", len(view.description["shards"])
    yield "patients", int(view.results[keys.PATIENT].nunique())
    yield "failed_fits", n_fits(view.tried[view.tried[keys.STATUS] == keys.FAILED])
