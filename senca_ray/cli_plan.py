"""`senca plan`: what a study takes on a cluster, told before anything is paid."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from senca_ray import keys, options, screen
from senca_ray.cloud.cluster_file import CLUSTER_FILE, PRICE, ClusterFile, read_cluster_file
from senca_ray.errors import Problem, ProblemsError, SencaError
from senca_ray.screen import Screen

if TYPE_CHECKING:
    import pandas as pd
    from rich.table import Table

    from senca_ray.cloud.estimate import Line, Offer, Work
    from senca_ray.cloud.seconds import Seconds
    from senca_ray.cloud.survey import Survey
    from senca_ray.experiment import Study
    from senca_ray.study_file import StudyFile

T = TypeVar("T")


def plan(
    file: Annotated[Path, typer.Argument(help="A study's YAML file, as in configs/studies.", metavar="FILE")],
    workers: Annotated[int, typer.Option(help="Machines beside the head.", metavar="N")],
    cluster: Annotated[
        Path,
        typer.Option(help="The file that `ray up` takes, with a price at every node type.", metavar="FILE"),
    ] = CLUSTER_FILE,
    measured: Annotated[
        list[Path] | None,
        typer.Option(
            help="Folder of an earlier study, whose fits say how long they take; may be repeated. Left out: "
            "a few fits are made now, on this machine.",
            metavar="DIR",
        ),
    ] = None,
    data: options.Data = None,
    format: options.Format = None,
) -> None:
    """Tell trials, hours, wall time and cost of a study on a cluster.

    Before anything is paid: it starts no machine, no Ray, and prepares no section of yours. Also tells the
    most that the cluster file lets a cluster cost in an hour. docs/cluster.md says how it reckons.

    \b
    Example:
      senca plan configs/studies/sweep_neighbors.yaml --workers 4
    """
    from rich.console import Console

    from senca_ray.cloud.estimate import fleets, offer
    from senca_ray.cloud.survey import survey

    described_study, described, rows = _read(file, cluster, workers, measured or [], data, format)
    study, options_ = described_study.study(), fleets(described, workers)
    gpu = any(fleet.gpu for fleet in options_)
    known = survey(study, described_study.sections(), rows, gpu, Console())
    offers = [offer(study, known.planned, known.measured, fleet, described) for fleet in options_]
    shown = Screen()
    shown.line(study.title)
    for name, text in _facts(study, known, described_study, measured or []):
        shown.line(f"{name:<9} {text}")
    for work in dict.fromkeys(one.work for one in offers):
        shown.table(_work_table(work))
        for text in _work_notes(work):
            shown.line(text)
    shown.table(_offers_table(offers))
    for text in [*_offer_notes(study, offers, described, workers), _guard(described)]:
        shown.line(text)


# --- Input --------------------------------------------------------------------------------------------


def _read(
    file: Path,
    cluster: Path,
    workers: int,
    measured: Sequence[Path],
    data: str | None,
    format: str | None,
) -> tuple[StudyFile, ClusterFile, pd.DataFrame | None]:
    """What the command was given; raises ProblemsError with everything wrong in all of it."""
    from senca_ray.cloud.estimate import fleet_problems
    from senca_ray.cloud.seconds import read_measured
    from senca_ray.study_file import read_study_file

    problems: list[Problem] = []
    study = _tried(lambda: read_study_file(file), problems, str(file))
    described = _tried(lambda: read_cluster_file(cluster), problems, str(cluster))
    rows = _tried(lambda: read_measured(measured), problems, "") if measured else None
    if workers < 1:
        problems.append(Problem("-", "--workers", f"{workers} found; expected 1 or more"))
    elif described is not None:
        problems += fleet_problems(described, workers)
    if problems or study is None or described is None:
        raise ProblemsError(problems, "what the plan rests on")
    if data is not None:
        cohort = dataclasses.replace(study.cohort, data=data, format=format)
        study = dataclasses.replace(study, cohort=cohort)
    return study, described, rows


def _tried(read: Callable[[], T], problems: list[Problem], place: str) -> T | None:
    """What `read` returns; None where it raises, and then its problems are added, named by the file."""
    try:
        return read()
    except ProblemsError as error:
        problems += [
            dataclasses.replace(p, place=f"{place}: {p.place}" if place else p.place) for p in error.problems
        ]
    except SencaError as error:
        problems.append(Problem("-", place, str(error).removeprefix(f"{place}: ")))
    return None


# --- What is run --------------------------------------------------------------------------------------


def _facts(
    study: Study, known: Survey, described: StudyFile, measured: Sequence[Path]
) -> list[tuple[str, str]]:
    """What the study is, as name and text."""
    from senca_ray.analysis.terminal import count
    from senca_ray.methods import MODEL
    from senca_ray.study.search import Search

    planned, sections = known.planned, known.found.sections
    sizes = [p.spots for p in planned if p.trial.sample in known.found.prepared]
    of = f"of {described.cohort.data}" if described.cohort.data else "of the embedded simulated cohort"
    spots = " to ".join(map(str, dict.fromkeys((min(sizes), max(sizes))))) if sizes else ""
    size = f", {spots} spots" if spots else ""
    facts = [("sections", f"{len(sections)} {of}{size}")]
    if unread := len(sections) - len(known.found.prepared):
        facts.append(
            (
                "",
                f"{unread} not prepared yet: their sizes are not known, and taken to be "
                f"{known.unread_spots} spots each; preparing them comes on top",
            )
        )
    most = "at most " if isinstance(study, Search) else ""
    beside = sum(p.trial.method != MODEL for p in planned)
    facts.append(
        ("trials", f"{most}{len(planned)}: {len(planned) - beside} of {MODEL}, {beside} of other methods")
    )
    fits = sum(len(p.trial.seeds) for p in planned)
    facts.append(("fits", f"{most}{fits}, with {count(len(study.seeds), 'seed')}"))
    source = known.notes or (
        f"{count(len(known.measured.fits), 'fit')} of {', '.join(map(str, dict.fromkeys(measured)))}",
    )
    facts += [("measured" if i == 0 else "", text) for i, text in enumerate(source)]
    return facts


def _work_table(work: Work) -> Table:
    table = screen.table(["method", "setting"], ["trials", "fits", "seconds a fit", "hours", "of a"])
    for line in work.lines:
        known = line.a_fit is not None
        each = _range(line.a_fit, _number) if line.a_fit else "not measured"
        hours, unit = (
            (_number(line.work.expected / 3600), "GPU" if line.on_gpu else "core") if known else ("", "")
        )
        screen.add_row(table, line.method, line.setting, str(line.trials), str(line.fits), each, hours, unit)
    return table


def _work_notes(work: Work) -> Iterator[str]:
    """The sum of the work, and what it leaves out or takes from elsewhere."""
    from senca_ray.cloud.estimate import total
    from senca_ray.cloud.seconds import CPU

    units = ((True, "GPU-hours, at one trial a GPU"), (False, "core-hours"))
    sums = [(total(work, gpu).times(1 / 3600), unit) for gpu, unit in units]
    yield "in all " + (
        " and ".join(f"{_range(hours, _number)} {unit}" for hours, unit in sums if hours.expected)
        or "nothing that was measured"
    )
    if missing := [line for line in work.lines if line.missing]:
        names = ", ".join(f"{_name(line)} ({line.missing} of {line.trials} trials)" for line in missing)
        yield f"not measured, so in no figure here: {names}; name a study that ran it with --measured"
    if others := [line for line in work.lines if any(quote.other_setting for quote in line.quotes)]:
        yield f"taken from fits of the same method at other settings: {', '.join(map(_name, others))}"
    if unread := max((line.unread for line in work.lines), default=0):
        yield f"up to {unread} further readings of each fit were not measured and are not counted"
    on_cores = [q.peak_mb for line in work.lines for q in line.quotes if q.device == CPU]
    if memory := max(on_cores, default=0.0):
        yield f"memory of a trial on a core: up to {memory / 1024:.1f} GB"


def _name(line: Line) -> str:
    return line.method if line.setting == keys.FIXED else f"{line.method} {line.setting}"


# --- What it costs ------------------------------------------------------------------------------------


def _offers_table(offers: Sequence[Offer]) -> Table:
    table = screen.table(["workers"], ["trials at once", "wall time", "cost"])
    for one in offers:
        cost = "no price" if one.dollars is None else _range(one.dollars, _dollars)
        screen.add_row(table, one.fleet.name, str(one.slots), _range(one.time, _duration), cost)
    return table


def _offer_notes(study: Study, offers: Sequence[Offer], cluster: ClusterFile, workers: int) -> Iterator[str]:
    """What the wall time and the cost rest on."""
    from senca_ray.analysis.terminal import count
    from senca_ray.cloud.estimate import START_UP_MINUTES
    from senca_ray.cloud.planned import SUGGESTIONS
    from senca_ray.study.search import Search

    yield (
        f"wall time: machines come up in {START_UP_MINUTES:g} min (assumed), then trials run, the longest "
        "first; tables and page come on top"
    )
    yield (
        "a core of the machine that was measured stands for one of the cluster's; ranges: if all fits took "
        "as long as the quicker, and as the slower, quarter of those measured"
    )
    if gpus := [one for one in offers if one.fleet.gpu and not any(line.on_gpu for line in one.work.lines)]:
        names = ", ".join(one.fleet.name for one in gpus)
        yield (
            f"{names}: no GPU was measured, so each is taken to be as quick as one core, with one trial at a "
            "time: GPU-hours, wall time and cost are probably lower"
        )
    if isinstance(study, Search):
        racing = ": racing stops suggestions early" if study.racing else ""
        yield f"a search takes at most this{racing}"
        lines = [line for one in offers for line in one.work.lines if line.setting == SUGGESTIONS]
        settings = max((quote.settings for line in lines for quote in line.quotes), default=0)
        yield (
            f"its suggestions are taken to cost what fits of {count(settings, 'setting')} did on average: "
            "where they differ more than these, so will the cost"
        )
    if fewer := [one for one in offers if one.fleet.count < workers]:
        names = ", ".join(one.fleet.name for one in fewer)
        yield f"no more than {names} would start: there are no trials for {workers} workers"
    yield (
        f"cost: workers and head for the wall time and the {cluster.idle_minutes:g} min that idle workers "
        "stay; the head costs on until `ray down`; storage and traffic are not in it"
    )


def _guard(cluster: ClusterFile) -> str:
    """The most that the cluster may cost in an hour."""
    from senca_ray.cloud.estimate import hourly, most_machines, without_price

    machines = most_machines(cluster)
    names = " and ".join(f"{count} x {node.instance or node.name}" for node, count in machines)
    rate = hourly(cluster.head, machines)
    if rate is None:
        missing = ", ".join(without_price(cluster))
        return f'no price in {cluster.path} for {missing}: add labels: {{{PRICE}: "..."}} to it (US dollars)'
    most = f"at most {_dollars(rate)} an hour"
    return f"cost guard: {cluster.path} lets the cluster cost {most}, head and {names or 'no worker'}"


# --- Words --------------------------------------------------------------------------------------------


def _range(seconds: Seconds, words: Callable[[float], str]) -> str:
    """'2.1 h (1.9 h to 2.4 h)'; the expected value alone where the three read the same."""
    low, expected, high = (words(value) for value in (seconds.low, seconds.expected, seconds.high))
    return expected if low == expected == high else f"{expected} ({low} to {high})"


def _number(value: float) -> str:
    """Two digits that count, all before the point."""
    if value < 0.001:
        return "<0.001" if value else "0"
    return f"{value:.0f}" if value >= 9.95 else f"{value:#.2g}"


def _dollars(value: float) -> str:
    return f"${value:,.2f}" if value < 100 else f"${value:,.0f}"


def _duration(seconds: float) -> str:
    for size, unit, below in ((1, "s", 90), (60, "min", 90 * 60)):
        if seconds < below:
            return f"{seconds / size:.0f} {unit}"
    return f"{_number(seconds / 3600)} h"
