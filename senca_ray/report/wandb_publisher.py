"""Publishes a finished study as one W&B run: online with a key, kept for later without one.

W&B is a convenience: whatever goes wrong with it is told in words and harms nothing (design decision 10).
"""

from __future__ import annotations

import hashlib
import io
import os
import re
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from PIL import Image

from senca_ray import keys
from senca_ray.analysis.benchmark import published_beside
from senca_ray.analysis.selection import choices
from senca_ray.analysis.sensitivity import sensitivity
from senca_ray.report.benchmark_figures import benchmark_figures
from senca_ray.report.figures import render, sweep_figures
from senca_ray.report.maps import picture, section_maps
from senca_ray.report.search import suggestions
from senca_ray.report.search_figures import search_figures
from senca_ray.report.view import StudyView, load_study, n_fits

PROJECT = "senca-ray"
_INIT_SECONDS, _FINISH_SECONDS = 15.0, 120.0
"""How long a slow W&B may hold up the end of a study."""


@dataclass(frozen=True)
class PublishOutcome:
    """What became of a study's W&B run."""

    mode: Literal["online", "offline", "disabled", "failed"]
    url: str | None = None
    """Address of an online run."""
    folder: Path | None = None
    """Folder of a run that was not sent."""
    reason: str | None = None
    """Why it is not online where that was wanted."""

    def __str__(self) -> str:
        if self.mode == "online":
            return str(self.url)
        if self.mode == "disabled":
            return "disabled by WANDB_MODE or `wandb disabled`"
        if self.mode == "failed":
            return f"not published: {self.reason}"
        because = f"{self.reason}; " if self.reason else ""
        return f"{because}the run is kept: send it with  wandb sync {shlex.quote(str(self.folder))}"


def publish(study_dir: Path) -> PublishOutcome:
    """Publish the study in `study_dir`; the run's files go to its `wandb` folder.

    WANDB_MODE decides where it is set; otherwise the run is online if W&B knows a key and offline if not. A
    run that cannot go online is kept offline. Raises SencaError only for a study that cannot be read.
    """
    view = load_study(study_dir)
    problems = []
    try:
        mode = _mode()
        if mode == "disabled":
            return PublishOutcome("disabled")
        if mode == "online":
            return PublishOutcome("online", url=_publish(view, "online").url)
    except Exception as error:  # noqa: BLE001  whatever W&B raises, the study itself is done
        problems.append(f"W&B cannot be reached ({_words(error)})")
    try:
        # The folder's name and place are W&B's own choice.
        folder = Path(_publish(view, "offline").settings.sync_dir)
        return PublishOutcome("offline", folder=folder, reason="; ".join(problems) or None)
    except Exception as error:  # noqa: BLE001  as above
        return PublishOutcome("failed", reason="; ".join([*problems, f"no run was made ({_words(error)})"]))


def _mode() -> str:
    """The mode that the user set, else online if W&B finds credentials, else offline; never asks."""
    import wandb
    from wandb.sdk.lib import wbauth

    try:
        settings = _quiet().settings
        if settings.mode != "online" or "WANDB_MODE" in os.environ:
            return "offline" if settings.mode == "dryrun" else str(settings.mode)
        found = wbauth.authenticate_session(
            host=settings.base_url, source="senca", prompt=False, update_session=False
        )
        return "online" if found else "offline"
    finally:
        # What W&B remembers of the environment must not outlive this study.
        wandb.teardown()


def _publish(view: StudyView, mode: Literal["online", "offline"]) -> Any:
    """Make the study's run and return it, finished; W&B's helper process is gone afterwards."""
    import wandb

    description = view.description
    _quiet()
    try:
        with (
            _staging_in(view.folder),
            wandb.init(
                project=PROJECT,
                name=description["name"],
                # The same study is the same run, however often it is reported.
                id=hashlib.sha256(f"{description['name']} {description['created']}".encode()).hexdigest()[
                    :16
                ],
                resume="allow" if mode == "online" else None,
                job_type="study",
                dir=str(view.folder),
                mode=mode,
                config=_config(description),
                settings=_settings(),
            ) as run,
        ):
            run.log(_content(view))
            run.summary.update(dict(_headline(view)))
            run.log_artifact(_artifact(view))
        return run
    finally:
        wandb.teardown()


def _quiet() -> Any:
    """W&B's state of this process, told to print nothing."""
    import wandb

    return wandb.setup(wandb.Settings(silent=True))


def _settings() -> Any:
    import wandb

    return wandb.Settings(
        init_timeout=_INIT_SECONDS,
        finish_timeout=_FINISH_SECONDS,
        finish_timeout_raises=True,
        silent=True,
        console="off",
        # Nothing about the machine or the code on it leaves it.
        disable_git=True,
        save_code=False,
        x_disable_meta=True,
        x_disable_machine_info=True,
        x_disable_stats=True,
    )


@contextmanager
def _staging_in(folder: Path) -> Iterator[None]:
    """Files that wait for their upload lie in the study's folder, unless the user named another place."""
    if "WANDB_DATA_DIR" in os.environ:
        yield
        return
    os.environ["WANDB_DATA_DIR"] = str(folder.resolve() / "wandb")
    try:
        yield
    finally:
        del os.environ["WANDB_DATA_DIR"]


def _config(description: dict[str, Any]) -> dict[str, Any]:
    """study.json with the names of its sections in place of where they lie."""
    return {k: v for k, v in description.items() if k != "shards"} | {
        "samples": sorted(description["shards"])
    }


def _content(view: StudyView) -> dict[str, Any]:
    import wandb

    content: dict[str, Any] = {
        "summary": wandb.Table(dataframe=_plain(view.summary)),
        "sections": wandb.Table(dataframe=_plain(view.sections)),
    }
    if len(view.ranking):
        content["label_free_objectives"] = wandb.Table(dataframe=_plain(view.ranking))
    if view.description["kind"] == "benchmark":
        content |= _benchmark(view)
    else:
        for title, figure in sweep_figures(view):
            content[f"sweep/{_slug(title)}"] = _image(figure, title)
    if view.selection:
        content["search/suggestions"] = wandb.Table(dataframe=_plain(suggestions(view, view.folds)))
        content["search/choices"] = wandb.Table(dataframe=_plain(choices(view.selection, view.results)))
        for shown in search_figures(view):
            content[f"search/{shown.name}"] = _image(shown.figure, shown.caption)
    for sample in view.displays:
        section = section_maps(view, sample)
        drawn: list[tuple[str, np.ndarray | None]] = []
        if section.image is not None:
            drawn.append(("H&E image", None))
        drawn += [(f"{m.title} {m.details}".strip(), m.codes) for m in section.maps if m.codes is not None]
        content[f"maps/{_slug(sample)}"] = [
            wandb.Image(picture(section, codes), caption=f"{sample}: {caption}", file_type="jpg")
            for caption, codes in drawn
        ]
    return content


def _benchmark(view: StudyView) -> dict[str, Any]:
    """Figures and tables that only a benchmark has; empty tables are left out."""
    import wandb

    made = (("sensitivity", sensitivity), ("published", published_beside))
    tables = {f"benchmark/{name}": make(view.results, view.description) for name, make in made}
    content: dict[str, Any] = {
        name: wandb.Table(dataframe=_plain(frame)) for name, frame in tables.items() if len(frame)
    }
    for shown in benchmark_figures(view):
        content[f"benchmark/{shown.name}/{_slug(shown.block)}"] = _image(shown.figure, shown.caption)
    return content


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
            name = f"{_slug(row['block'])}{part}/{row[keys.METHOD]}/{row[told_by]}/mean_ari"
            yield name, row["mean_ari"]
    if view.selection:
        yield "search/chosen", view.main_fold["chosen"]
    yield "sections", len(view.description["shards"])
    yield "patients", int(view.results[keys.PATIENT].nunique())
    yield "failed_fits", n_fits(view.tried[view.tried[keys.STATUS] == keys.FAILED])


def _artifact(view: StudyView) -> Any:
    import wandb

    artifact = wandb.Artifact(_slug(view.description["name"]), type="results")
    made = (keys.RESULTS_FILE, keys.REGIONS_FILE, keys.SUMMARY_FILE)
    for name in (*made, keys.SELECTION_FILE) if view.selection else made:
        artifact.add_file(str(view.folder / name))
    return artifact


def _plain(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame with None for every missing value, which W&B tables take in any column."""
    return frame.astype(object).where(frame.notna(), None)


def _slug(text: str) -> str:
    """Text as W&B allows it in names: letters, digits, -, _ and ."""
    return re.sub(r"[^A-Za-z0-9_.]+", "-", text).strip("-")


def _words(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
