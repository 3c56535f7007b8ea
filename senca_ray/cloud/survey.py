"""What is known of a study beforehand: its sections, its trials, and how long its fits take."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
from rich.console import Console

from senca_ray import keys
from senca_ray.analysis.terminal import count
from senca_ray.cloud import sections
from senca_ray.cloud.planned import Planned, planned_trials, to_measure
from senca_ray.cloud.seconds import Measured, measure
from senca_ray.cohort import Cohort, check_labels
from senca_ray.data.shards import read_meta

if TYPE_CHECKING:
    from senca_ray.experiment import Study

_BUSY = 0.8
"""Share of the time that measuring computed below which other work kept the machine busy."""


@dataclass(frozen=True, kw_only=True)
class Survey:
    """What is known of a study beforehand."""

    found: sections.Found
    unread_spots: int
    """Taken for the size of sections that are not prepared."""
    planned: tuple[Planned, ...]
    measured: Measured
    notes: tuple[str, ...]
    """What was measured now and how, in sentences; nothing where that was earlier studies' work."""


def survey(study: Study, cohort: Cohort, rows: pd.DataFrame | None, gpu: bool, console: Console) -> Survey:
    """Find a study's sections, list its trials, measure its fits where no result `rows` are given.

    `gpu` says whether its cluster has GPUs: then this machine's is measured too, where it has one. Nothing is
    left behind but the embedded cohort, simulated. Raises SencaError or ProblemsError for what would keep the
    study from running.
    """
    if study.protocol.k_policy == "labels":
        check_labels(cohort)
    found = sections.find(cohort, console)
    with tempfile.TemporaryDirectory(prefix="senca-plan-") as name:
        folder, model = Path(name), None
        if rows is None and not found.prepared:
            image = any(section.image is not None for section in found.sections)
            model = sections.simulated_shard(cohort, image, folder, console)
        spots = found.typical_spots() or _spots(model, rows)
        planned = planned_trials(study, sections.stand_ins(found, cohort.prepare, spots, folder))
        notes: tuple[str, ...] = ()
        if rows is None:
            known = [p for p in planned if model or p.trial.sample in found.prepared]
            with console.status("measuring") as status:
                rows, notes = _measured(study, known, model, gpu, lambda text: status.update(text))
    return Survey(
        found=found, unread_spots=spots, planned=tuple(planned), measured=Measured(rows), notes=notes
    )


def _spots(model: str | None, rows: pd.DataFrame | None) -> int:
    """The size of a section to go by where none of the cohort's is prepared."""
    if rows is None:
        assert model is not None
        return int(read_meta(model)["spots"])
    return int(rows.loc[rows[keys.STATUS] == keys.OK, keys.N_SPOTS].median())


def _measured(
    study: Study, planned: list[Planned], model: str | None, gpu: bool, told: Callable[[str], None]
) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Result rows of a few of the trials, run now, on the section `model` where one stands for all."""
    fits = to_measure(study, planned)
    if model:
        fits = [dataclasses.replace(p, trial=dataclasses.replace(p.trial, shard=model)) for p in fits]
    tables, share = measure(fits, False, told)
    where = f"a simulated section of {fits[0].spots} spots" if model and fits else ""
    where = where or count(len({p.trial.sample for p in fits}), "section") + " of the cohort"
    notes = [f"{count(len(fits), 'fit')} of one seed each, made now on {where}, on one core of this machine"]
    if share < _BUSY:
        notes.append(
            f"this machine was busy with other work meanwhile: of the time that the fits took they computed "
            f"for {share:.0%}, so the figures are too high; measure again when it is idle"
        )
    if gpu:
        import torch

        if torch.cuda.is_available():
            own = [_all_seeds(p, study.seeds) for p in fits if p.trains]
            on_gpu, _ = measure(own, True, told)
            tables = pd.concat([tables, on_gpu], ignore_index=True)
            notes.append(f"{count(len(own), 'trial')} with all seeds, made now on this machine's GPU")
        else:
            notes.append("no GPU is here, so none was measured")
    return tables, tuple(notes)


def _all_seeds(one: Planned, seeds: tuple[int, ...]) -> Planned:
    """The trial with all seeds: on a GPU they are trained together, and one alone tells too little."""
    return dataclasses.replace(one, trial=dataclasses.replace(one.trial, seeds=seeds))
