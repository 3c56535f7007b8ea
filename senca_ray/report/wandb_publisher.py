"""Publishes a finished study in W&B: a run a trial, one for the study, and a W&B Report.

All runs are written into the study's folder, by one process of W&B, from the results on disk; then they are
sent if W&B knows a key. A run that is there or was sent, and would be the same again, is left as it is. W&B
is a convenience: whatever goes wrong with it is told in words and harms nothing (design decision 10).
"""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from senca_ray import lock
from senca_ray.analysis.description import SIMULATED
from senca_ray.errors import SencaError
from senca_ray.report import wandb_session as session
from senca_ray.report.view import StudyView, load_study
from senca_ray.report.wandb_report import save_report
from senca_ray.report.wandb_runs import Planned, study_group, study_id, suggestion_runs, trial_runs
from senca_ray.report.wandb_send import AT_THE_END, WHEN_ASKED, Patience, send
from senca_ray.report.wandb_spool import Spool
from senca_ray.report.wandb_study import study_run

Told = Callable[[str], None]


@dataclass(frozen=True)
class PublishOutcome:
    """What became of a study's W&B runs."""

    mode: Literal["online", "offline", "disabled", "failed"]
    """Online when every run was sent, offline when some are kept."""
    folder: Path
    """The study's."""
    runs: int = 0
    sent: int = 0
    """How many of the runs were sent, now or before."""
    url: str | None = None
    """Address of the study's own run, where it was sent."""
    report: str | None = None
    """Address of the W&B Report, or why there is none."""
    reason: str | None = None
    """Why not all is sent where that was wanted, or nothing was made."""

    def __str__(self) -> str:
        if self.mode == "disabled":
            return "disabled by WANDB_MODE or `wandb disabled`"
        if self.mode == "failed":
            return f"not published: {self.reason}"
        if self.mode == "online":
            report = f"; report: {self.report}" if self.report else ""
            return f"{self.runs} runs: {self.url or 'sent'}{report}"
        because = f"{self.reason}; " if self.reason else ""
        some = f"{self.sent} of {self.runs} runs are sent, the others" if self.sent else f"{self.runs} runs"
        command = f"senca wandb sync {shlex.quote(str(self.folder))}"
        return f"{because}{some} are kept in its {session.RUN_FOLDER} folder: send them with  {command}"


def publish(study_dir: Path, told: Told | None = None) -> PublishOutcome:
    """Publish the study in `study_dir`; `told` hears how far it is.

    WANDB_MODE decides where it is set; otherwise runs are sent if W&B knows a key and kept if not. A slow W&B
    is left after AT_THE_END, and what it did not take is kept. Ctrl-C ends this early and loses nothing.
    Raises SencaError only for a study that cannot be read.
    """
    folder, told = Path(study_dir), told or (lambda text: None)
    view = load_study(folder)
    spool = None
    try:
        mode = session.mode()
        if mode == "disabled":
            return PublishOutcome("disabled", folder)
        (folder / session.RUN_FOLDER).mkdir(exist_ok=True)
        with lock.held(folder / session.RUN_FOLDER):
            spool = Spool(folder)
            _write(view, spool, told)
            return _send(view, spool, AT_THE_END, told) if mode == "online" else _outcome(view, spool)
    except KeyboardInterrupt:
        return _failure(view, spool, "stopped")
    except Exception as error:  # noqa: BLE001  whatever W&B raises, the study itself is done
        return _failure(view, spool, session.words(error))


def sync(study_dir: Path, told: Told) -> PublishOutcome:
    """Send everything of a finished study that was not sent, whatever WANDB_MODE says.

    Makes runs that are missing or are not made from the present results. Raises SencaError when nothing can
    be sent, with the reason.
    """
    folder = Path(study_dir)
    view = load_study(folder)
    if view.partial:
        raise SencaError(f"{folder}: has not finished ({view.partial}); its end publishes it")
    try:
        (folder / session.RUN_FOLDER).mkdir(exist_ok=True)
    except OSError as error:
        raise SencaError(f"{folder}: cannot be written ({error.strerror})") from None
    with lock.held(folder / session.RUN_FOLDER):
        spool = Spool(folder)
        told("asking W&B")
        session.check_account()
        try:
            _write(view, spool, told)
        except SencaError:
            raise
        except Exception as error:  # noqa: BLE001  whatever W&B raises becomes a reason
            raise SencaError(f"{folder}: its W&B runs cannot be made ({session.words(error)})") from None
        return _send(view, spool, WHEN_ASKED, told, checked=True)


def _write(view: StudyView, spool: Spool, told: Told) -> None:
    """Write the runs that are missing, or are not what they would be now; remove those that nobody wants."""
    planned = [*trial_runs(view), *suggestion_runs(view), study_run(view)]
    for unwanted in spool.unsent().keys() - {one.id for one in planned}:
        spool.discard(unwanted)
    missing = [one for one in planned if not spool.holds(one.id, one.made_from)]
    if not missing:
        return
    with session.writing(spool.study_dir):
        for number, one in enumerate(missing):
            told(f"writing run {number + 1} of {len(missing)}")
            spool.discard(one.id)
            spool.add(one.id, _made(view, spool.study_dir, one), one.made_from)


def _made(view: StudyView, study_dir: Path, planned: Planned) -> str:
    """Write one run and return the name of its folder."""
    simulated: dict[str, Any] = {"notes": SIMULATED} if view.description["simulated"] else {}
    with session.offline_run(
        study_dir,
        id=planned.id,
        name=planned.name,
        group=study_group(view.description),
        job_type=planned.job_type,
        tags=planned.tags,
        config=planned.config,
        **simulated,
    ) as run:
        planned.fill(run)
    return Path(run.settings.sync_dir).name


def _send(
    view: StudyView, spool: Spool, patience: Patience, told: Told, *, checked: bool = False
) -> PublishOutcome:
    """Send what was not sent; once all is there, make the report that shows it."""
    unsent = spool.unsent()
    try:
        if unsent and not checked:
            told("asking W&B")
            session.check_account()
        reason = send(spool, patience, told)
    except session.Unsendable as error:
        reason = str(error)
    if reason:
        return _outcome(view, spool, reason)
    if unsent or not spool.report:
        told("making the W&B Report")
        try:
            save_report(spool, _entity(view, spool))
        except SencaError as error:
            return _outcome(view, spool, report=str(error))
    return _outcome(view, spool, report=spool.report["url"])


def _entity(view: StudyView, spool: Spool) -> str:
    """To whom W&B gave the study's run: its address ends with ENTITY/PROJECT/runs/ID."""
    kept = spool.runs[study_id(view.description)]
    if not kept.url:
        raise SencaError("no W&B Report: the address of the study's run is not known")
    return kept.url.split("/")[-4]


def _outcome(
    view: StudyView, spool: Spool, reason: str | None = None, report: str | None = None
) -> PublishOutcome:
    own = spool.runs.get(study_id(view.description))
    sent = spool.settle()
    return PublishOutcome(
        mode="offline" if spool.unsent() else "online",
        folder=view.folder,
        runs=len(spool.runs),
        sent=sent,
        url=own.url if own and own.sent else None,
        report=report,
        reason=reason,
    )


def _failure(view: StudyView, spool: Spool | None, reason: str) -> PublishOutcome:
    """Not all runs could be made: those that are there can be sent, and the command makes the others."""
    if spool is None or not spool.runs:
        return PublishOutcome("failed", view.folder, reason=reason)
    outcome = _outcome(view, spool, reason)
    return PublishOutcome("offline", view.folder, outcome.runs, outcome.sent, outcome.url, reason=reason)
