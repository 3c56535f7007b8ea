"""The W&B runs of a study but its own: one a trial, and of a search one a suggestion.

What is sent rests on the study's results alone. A search tries too many settings for a run each: its trials
of the default, of what was chosen, and of the controls have one, the others are rows of the study's tables.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import numpy as np
import pandas as pd

from senca_ray import keys
from senca_ray.analysis.blocks import block_title, with_blocks
from senca_ray.analysis.portrait import made_from
from senca_ray.analysis.trials import (
    MEASURES,
    READING,
    TRIAL,
    losses_by_epoch,
    own_rows,
    trial_table,
    typical_row,
)
from senca_ray.methods import MODEL, all_methods
from senca_ray.report.maps import SectionMaps, section_maps
from senca_ray.report.search import suggestions
from senca_ray.report.view import StudyView
from senca_ray.report.wandb_media import learnt_by, picture_of
from senca_ray.report.wandb_session import plain, slug

STUDY_JOB, SUGGESTION_JOB = "study", "suggestion"
_UNKNOWN_KIND = "trial"
TRIAL_JOBS = (*keys.METHOD_KINDS, _UNKNOWN_KIND)
"""Job types: of the study's own run, of a search's suggestions, and of trials, their method's kind."""

_LAYOUT = 1
"""Counts up when runs are filled in another way: they are then made anew."""
_LONGEST_TAG = 64


@dataclass(frozen=True)
class Planned:
    """One run that the study should have."""

    id: str
    name: str
    job_type: str
    tags: tuple[str, ...]
    config: dict[str, Any]
    made_from: str
    """Digest of all that the run shows."""
    fill: Callable[[Any], None]
    """Logs everything else into the open run."""


def study_id(description: dict[str, Any]) -> str:
    """Id of the study's own run: the same study is the same run, however often it is published."""
    return digest(f"{description['name']} {description['created']}")


def study_group(description: dict[str, Any]) -> str:
    """The group that all runs of the study are in; with its id, as studies are often repeated by name."""
    return slug(f"{description['name']} {study_id(description)[:6]}")


def digest(*parts: str | bytes) -> str:
    """16 hexadecimal digits for these parts."""
    total = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        total.update(len(data).to_bytes(8, "little") + data)
    return total.hexdigest()[:16]


def maker() -> str:
    """What fills runs: another version of it may fill them otherwise."""
    return f"{importlib.metadata.version('senca-ray')} {_LAYOUT}"


def all_trials(view: StudyView) -> pd.DataFrame:
    """`trial_table` of the study, of a benchmark under its own protocol."""
    return trial_table(view.own)


def trial_runs(view: StudyView) -> Iterator[Planned]:
    """A run for every trial that has one, in the order of the study's sections."""
    rows = with_blocks(view.own)
    if view.selection:
        shown = {view.default, *(fold["chosen"] for fold in view.folds)}
        rows = rows[(rows[keys.METHOD] != MODEL) | rows[keys.SETTING].isin(shown)]
    tables = dict(iter(trial_table(rows).groupby(list(TRIAL))))
    # One section after the other: its maps are laid out once.
    drawn = lru_cache(maxsize=1)(lambda sample: section_maps(view, sample))
    order = {sample: place for place, sample in enumerate(view.description["shards"])}
    for trial, part in sorted(rows.groupby(list(TRIAL)), key=lambda item: (order[item[0][2]], item[0])):
        yield _trial(view, trial, part, tables[trial], drawn)


def suggestion_runs(view: StudyView) -> Iterator[Planned]:
    """A run for every suggestion of a search, of the fold to go on with: its fields and its tuning scores."""
    if not view.selection:
        return
    for row in plain(suggestions(view, [view.main_fold])).to_dict("records"):
        fields = {name: row[name] for name in view.description["space"]}
        scores = {f"tuning_{name}": row[name] for name in view.description["objectives"]}
        told = scores | {name: row[name] for name in ("state", "patients")}
        config = _about_study(view.description) | {"number": row["number"], keys.SETTING: row["label"]}
        yield Planned(
            id=digest(study_id(view.description), SUGGESTION_JOB, str(row["label"])),
            name=f"suggestion {row['number']}",
            job_type=SUGGESTION_JOB,
            tags=_tags(view.description, row["label"]),
            config=view.description["setting"] | fields | config,
            made_from=digest(maker(), json.dumps([config, fields, told])),
            fill=partial(_summarise, told=_known(told)),
        )


def _trial(
    view: StudyView,
    trial: tuple[str, str, str],
    rows: pd.DataFrame,
    table: pd.DataFrame,
    drawn: Callable[[str], SectionMaps],
) -> Planned:
    method, setting, sample = trial
    known = all_methods().get(method)
    own = own_rows(rows, known.clusterings if known else ())
    shown, losses = typical_row(own), losses_by_epoch(list(own[keys.LOSSES].dropna()))
    config = _config(view.description, own.iloc[0] if shown is None else shown, own)
    summary = _summary(own, table)
    # Read again when the run is filled: hundreds of embeddings are too much to hold.
    learnt = learnt_by(view, *trial, shown)
    visible = shown is not None and sample in view.displays

    def fill(run: Any) -> None:
        import wandb

        run.define_metric("epoch", hidden=True)
        run.define_metric("loss*", step_metric="epoch")
        for epoch, losses_then in enumerate(losses.to_dict("records"), start=1):
            run.log({"epoch": epoch} | losses_then)
        content: dict[str, Any] = {}
        if visible:
            content["regions"] = picture_of(view, drawn(sample), shown)
        if (places := learnt_by(view, *trial, shown)) is not None:
            table = places.table(view.displays.get(sample))
            content["embedding"] = wandb.Table(columns=list(table), data=plain(table).to_numpy().tolist())
        if content:
            run.log(content)
        run.summary.update(summary)

    return Planned(
        id=digest(study_id(view.description), *trial),
        name=" ".join(part for part in (method, setting, sample) if part != keys.FIXED),
        job_type=known.kind if known else _UNKNOWN_KIND,
        tags=_tags(view.description, method, setting, sample),
        config=config,
        made_from=digest(
            maker(),
            json.dumps([config, summary, visible, list(view.labels), made_from(view.folder, sample)]),
            losses.to_numpy().tobytes(),
            b"" if shown is None else np.asarray(shown[keys.REGIONS]).tobytes(),
            learnt.values.tobytes() if learnt else b"",
        ),
        fill=fill,
    )


def _about_study(description: dict[str, Any]) -> dict[str, Any]:
    told = (keys.K_POLICY, "pair", "data", "prepare", "simulated")
    return {
        keys.STUDY: description["name"],
        "study_id": study_id(description),
        "study_kind": description["kind"],
        **{name: description[name] for name in told},
    }


def _config(description: dict[str, Any], row: pd.Series, own: pd.DataFrame) -> dict[str, Any]:
    """All that the scores follow from; `row` stands for the trial, `own` are the rows of its seeds."""
    named = (keys.METHOD, *TRIAL[1:], *READING, keys.PATIENT, keys.MODALITY, keys.LABEL_SOURCE)
    origin = (keys.ENCODER, keys.FORM, keys.FINGERPRINT, keys.DEVICE)
    return {
        # Every setting by its own name, as charts of W&B want it.
        **json.loads(row[keys.CONFIG] or "{}"),
        **_about_study(description),
        **{name: None if pd.isna(row[name]) else row[name] for name in (*named, *origin)},
        "block": block_title(row[keys.LABEL_SOURCE], row[keys.MODALITY]),
        "seeds": [int(seed) for seed in own[keys.SEED]],
        "versions": json.loads(row[keys.VERSIONS] or "{}"),
    }


def _summary(own: pd.DataFrame, table: pd.DataFrame) -> dict[str, Any]:
    """Scores of the trial's own reading by their names, those of others below the name of the reading."""
    clustering = own[keys.CLUSTERING].iloc[0]
    told: dict[str, Any] = {}
    for row in table.to_dict("records"):
        combined, first = row[keys.CLUSTERING] == keys.CONSENSUS, row[keys.CLUSTERING] == clustering
        below = "" if first else f"{row[keys.CLUSTERING]}/"
        for name in MEASURES:
            if combined:
                told[f"{below}{name}"] = row[f"{name}_mean"]
            else:
                told |= {f"{below}{name}_{of}": row[f"{name}_{of}"] for of in ("mean", "sd")}
        if combined:
            told[keys.STABILITY] = row[keys.STABILITY]
        elif first:
            told |= {keys.N_SEEDS: row[keys.N_SEEDS], "failed_seeds": row["n_failed"]}
        if row["n_failed"]:
            told[f"{below}failures"] = row[keys.REASON]
    return _known(told)


def _known(told: dict[str, Any]) -> dict[str, Any]:
    """What there is a value for, as plain Python values."""
    values = {name: getattr(value, "item", lambda value=value: value)() for name, value in told.items()}
    return {name: value for name, value in values.items() if not pd.isna(value)}


def _tags(description: dict[str, Any], *names: str) -> tuple[str, ...]:
    simulated = ("simulated",) if description["simulated"] else ()
    return tuple(dict.fromkeys(name[:_LONGEST_TAG] for name in (*names, *simulated) if name))


def _summarise(run: Any, told: dict[str, Any]) -> None:
    run.summary.update(told)
