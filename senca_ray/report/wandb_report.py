"""A study's W&B Report: sweep curve, parallel coordinates, parameter importance, sections, maps.

The report holds no number of its own: its panels show what the study's runs brought. It is built without a
server and saved by a process of its own, so that a slow W&B can be left.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from senca_ray import keys
from senca_ray.analysis.description import SIMULATED
from senca_ray.errors import SencaError
from senca_ray.report.view import StudyView, load_study
from senca_ray.report.wandb_runs import (
    STUDY_JOB,
    SUGGESTION_JOB,
    TRIAL_JOBS,
    all_trials,
    study_group,
)
from senca_ray.report.wandb_send import reported
from senca_ray.report.wandb_session import PROJECT, words
from senca_ray.report.wandb_spool import Spool
from senca_ray.report.wandb_study import sweep_curves

_SECONDS = 60.0
"""How long W&B may take to store the report."""
_LONGEST_TITLE = 128
_WIDE, _HALF, _HIGH = 24, 12, 9
"""Width and height of panels, in W&B's grid of 24 columns."""
_SCORES = (keys.ARI, keys.SILHOUETTE)
"""What trials are compared by: the first that the study has."""


def save_report(spool: Spool, entity: str) -> str:
    """Store the report among those of the project and return its address; raises SencaError.

    The same study has one report, however often it is published.
    """
    command = [sys.executable, "-m", "senca_ray.report.wandb_report", str(spool.study_dir), entity]
    code, output, errors = reported(spool.study_dir, [*command, spool.report.get("id", "")], _SECONDS)
    try:
        saved = json.loads(output.splitlines()[-1])
        spool.report = {name: str(saved[name]) for name in ("id", "url")}
    except (IndexError, KeyError, TypeError, ValueError):
        last = (errors or output).strip().splitlines()[-1:]
        why = f"no answer within {_SECONDS:.0f} seconds" if code < 0 else "".join(last) or f"exit code {code}"
        raise SencaError(f"W&B stored no report ({why})") from None
    spool.save()
    return spool.report["url"]


def build_report(view: StudyView, entity: str) -> Any:
    """The report as an object of wandb-workspaces; asks no server."""
    import wandb_workspaces.reports.v2 as wr

    description = view.description
    title = f"{description['name']}: {description['title']}"
    blocks: list[Any] = [wr.CalloutBlock(text=SIMULATED)] if description["simulated"] else []
    blocks.append(wr.P(text=_rests_on(view)))
    parts = [("The study", _runs(view, "study", STUDY_JOB), _study(view))]
    if view.selection:
        runs = _runs(view, "suggestions", SUGGESTION_JOB)
        parts.append(("What the search tried", runs, _suggestions(view)))
    parts.append(("Trials", _runs(view, "trials", *TRIAL_JOBS), _trials(view)))
    for heading, runs, panels in parts:
        blocks += [wr.H2(text=heading), wr.PanelGrid(runsets=[runs], panels=panels)]
    return wr.Report(
        project=PROJECT, entity=entity, title=title[:_LONGEST_TITLE], blocks=blocks, width="fluid"
    )


def _rests_on(view: StudyView) -> str:
    description = view.description
    return (
        f"{len(description['shards'])} sections of {view.results[keys.PATIENT].nunique()} patients, "
        f"{len(description['seeds'])} seeds, number of regions: {description['k_policy']}. Statistics are in "
        "the tables of the study's own run and in its report.html; panels below show the same numbers."
    )


def _runs(view: StudyView, name: str, *job_types: str) -> Any:
    """The study's runs of these job types."""
    import wandb_workspaces.reports.v2 as wr

    group = [study_group(view.description)]
    return wr.Runset(name=name, filters=f"Metric('Group') in {group} and Metric('JobType') in {[*job_types]}")


def _study(view: StudyView) -> list[Any]:
    """Curves of a sweep, the table with the tests, the figures."""
    import wandb_workspaces.reports.v2 as wr

    panels: list[Any] = [
        wr.LinePlot(
            title=f"Mean ARI: {name.split('/')[1].replace('-', ' ')}",
            x=axis,
            y=[name],
            title_x=view.description["vary"],
            title_y="ARI (mean over patients)",
        )
        for name, axis, _ in sweep_curves(view)
    ]
    panels.append(wr.WeavePanelSummaryTable(table_name="summary"))
    return _placed(panels)


def _suggestions(view: StudyView) -> list[Any]:
    import wandb_workspaces.reports.v2 as wr

    score = f"tuning_{view.description['objectives'][0]}"
    return _placed([_coordinates(list(view.description["space"]), score), wr.ParameterImportancePlot(score)])


def _trials(view: StudyView) -> list[Any]:
    """Scores by varied field and by section, losses, maps."""
    import wandb_workspaces.reports.v2 as wr

    trials = all_trials(view)
    known = [name for name in _SCORES if trials[f"{name}_mean"].notna().any()]
    panels: list[Any] = []
    if known:
        score = f"{known[0]}_mean"
        fields = _varied(view)
        if view.description.get("vary"):
            panels.append(
                wr.ScatterPlot(
                    title=f"{score} of every trial",
                    x=wr.Config(view.description["vary"]),
                    y=wr.SummaryMetric(score),
                    running_ymean=True,
                )
            )
        panels += [_coordinates([*fields, keys.SAMPLE], score), wr.ParameterImportancePlot(score)]
        panels.append(
            wr.BarPlot(
                title=f"{score} by section",
                metrics=[wr.SummaryMetric(score)],
                groupby=wr.Config(keys.SAMPLE),
                groupby_rangefunc="minmax",
                orientation="v",
            )
        )
    panels.append(wr.LinePlot(title="Loss by epoch", x="epoch", y=["loss"], groupby=wr.Config(keys.SETTING)))
    panels.append(wr.MediaBrowser(title="Regions", media_keys=["regions"], num_columns=6))
    return _placed(panels)


def _varied(view: StudyView) -> list[str]:
    """What differs between the settings of a study; of a benchmark its methods."""
    description = view.description
    if view.selection:
        return list(description["space"])
    fields = dict.fromkeys(name for changes in description["variants"].values() for name in changes)
    return [keys.METHOD, *fields]


def _coordinates(fields: list[str], score: str) -> Any:
    import wandb_workspaces.reports.v2 as wr

    columns = [wr.ParallelCoordinatesPlotColumn(wr.Config(name)) for name in fields]
    return wr.ParallelCoordinatesPlot([*columns, wr.ParallelCoordinatesPlotColumn(wr.SummaryMetric(score))])


def _placed(panels: list[Any]) -> list[Any]:
    """Two panels a line, the last one over the whole width where it would stand alone, or shows maps."""
    import wandb_workspaces.reports.v2 as wr

    left, y = True, 0
    for panel in panels:
        alone = isinstance(panel, wr.MediaBrowser | wr.WeavePanelSummaryTable)
        if alone and not left:
            left, y = True, y + _HIGH
        panel.layout = wr.Layout(x=0 if left else _HALF, y=y, w=_WIDE if alone else _HALF, h=_HIGH)
        if alone or not left:
            y += _HIGH
        left = alone or not left
    return panels


def main() -> None:
    """Store the report of the study, for the entity and under the id that the arguments name."""
    study_dir, entity, report_id = sys.argv[1:]
    try:
        report = build_report(load_study(Path(study_dir)), entity)
        report.id = report_id
        report.save()
    except Exception as error:  # noqa: BLE001  whatever W&B raises becomes a reason
        sys.exit(words(error))
    print(json.dumps({"id": report.id, "url": report.url}))


if __name__ == "__main__":
    main()
