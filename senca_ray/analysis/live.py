"""How a study stands while it goes on: progress, best so far and failures, from its folder alone."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from senca_ray import keys
from senca_ray.analysis.benchmark import main_rows, reference_column
from senca_ray.analysis.blocks import BLOCK, block_order, block_title, with_blocks
from senca_ray.analysis.description import SIMULATED, read_description
from senca_ray.analysis.progress import FINISHED, SEEN, JournalRow, JournalTail, Progress, progress
from senca_ray.analysis.rows import RowKey
from senca_ray.analysis.selection import read_selection, suggestion_table
from senca_ray.analysis.statistics import average_within_patients
from senca_ray.analysis.tables import k_words
from senca_ray.analysis.terminal import count, natural, number, plain_table, row_name
from senca_ray.methods import MODEL

STANDING_COLUMNS = (
    *("block", "score", keys.METHOD, keys.SETTING, keys.CLUSTERING),
    *("mean", "patients", "sections", "of", "is_default", "is_best"),
)
_GROUP = [keys.METHOD, keys.SETTING, keys.CLUSTERING]
_REASONS = 3
"""Reasons of failures that are told; `senca study show` tells all."""
_FEWEST_LINES, _AROUND = 2, 5
"""Rows of a block that are shown on however small a terminal; lines that a block takes besides its rows."""


@dataclass(frozen=True, kw_only=True)
class Look:
    """What is to be seen of a study at one moment."""

    progress: Progress
    description: dict[str, Any]
    standings: pd.DataFrame
    """What has been scored so far, `standings`; empty of a search."""
    selection: dict[str, Any] | None
    """How far the choices of a search are; None before it has told, and of all other studies."""


class LiveStudy:
    """A study that is looked at again and again; a look costs what happened since the last one."""

    def __init__(self, folder: Path) -> None:
        """Raises SencaError when `folder` holds no study."""
        self._folder = folder
        self._description = read_description(folder)
        self._journal = JournalTail(folder)
        self._standings = standings({}, self._description)
        self._rest_on = 0

    def look(self) -> Look:
        """The study as it is now; raises SencaError where its files cannot be read."""
        found = progress(self._folder, self._journal)
        search = found.kind == "search"
        if not search and self._journal.lines != self._rest_on:
            self._standings = standings(self._journal.read(), self._description)
            self._rest_on = self._journal.lines
        told = search and (self._folder / keys.SELECTION_FILE).exists()
        return Look(
            progress=found,
            description=self._description,
            standings=self._standings,
            selection=read_selection(self._folder) if told else None,
        )


def standings(rows: Mapping[RowKey, JournalRow], description: dict[str, Any]) -> pd.DataFrame:
    """What the trials that have ended scored, one row a block and method, setting and clustering.

    `mean` is that of `score` over `patients`, averaged as in the final tables: ARI, in a block without labels
    the silhouette. `sections` of `of` have ended; a section of which nothing is known yet counts in every
    block's `of`. A grid's settings come in its order, the controls after them; of a benchmark the best is
    first. Columns STANDING_COLUMNS.
    """
    every = pd.DataFrame([row.columns for row in rows.values()], columns=list(SEEN))
    benchmark = description["kind"] == "benchmark"
    seen = with_blocks(main_rows(every, description) if benchmark else every)
    unknown = len(set(description["shards"]) - set(seen[keys.SAMPLE]))
    single = seen[(seen[keys.STATUS] == keys.OK) & (seen[keys.CLUSTERING] != keys.CONSENSUS)]
    found: list[dict[str, Any]] = []
    for source, modality in sorted(set(zip(*(single[name] for name in BLOCK), strict=True)), key=_place):
        here = single[(single[BLOCK[0]] == source) & (single[BLOCK[1]] == modality)]
        whole = seen[(seen[BLOCK[0]] == source) & (seen[BLOCK[1]] == modality)]
        about = {
            "block": block_title(source, modality),
            "score": keys.SILHOUETTE if source == keys.UNLABELLED else keys.ARI,
            "of": whole[keys.SAMPLE].nunique() + unknown,
        }
        lines = [about | line for line in _block(here.astype({about["score"]: float}), about["score"])]
        best = max((line["mean"] for line in lines if pd.notna(line["mean"])), default=None)
        for line in lines:
            line |= {"is_best": line["mean"] == best, "is_default": _is_default(line, description)}
        found += sorted(lines, key=lambda line: _order(line, description))
    return pd.DataFrame(found, columns=list(STANDING_COLUMNS))


def _place(block: tuple[str, str]) -> tuple[int, str]:
    return block_order(*block)


def _block(rows: pd.DataFrame, score: str) -> Iterator[dict[str, Any]]:
    patients = average_within_patients(rows, score, _GROUP).groupby(_GROUP)
    table = pd.DataFrame({"sections": rows.groupby(_GROUP)[keys.SAMPLE].nunique()})
    table = table.assign(mean=patients.mean(), patients=patients.size())
    for line in table.fillna({"patients": 0}).astype({"patients": int}).reset_index().to_dict("records"):
        yield {str(name): value for name, value in line.items()}


def _is_default(line: dict[str, Any], description: dict[str, Any]) -> bool:
    if description["kind"] == "benchmark":
        return f"{line[keys.METHOD]} ({line[keys.CLUSTERING]})" == reference_column(description)
    return (line[keys.METHOD], line[keys.SETTING]) == (MODEL, description["default"])


def _order(line: dict[str, Any], description: dict[str, Any]) -> tuple[Any, ...]:
    name = line[keys.METHOD], natural(line[keys.SETTING]), line[keys.CLUSTERING]
    if description["kind"] == "benchmark":
        return (pd.isna(line["mean"]), -line["mean"] if pd.notna(line["mean"]) else 0.0, *name)
    settings = list(description["variants"])
    place = settings.index(line[keys.SETTING]) if line[keys.SETTING] in settings else len(settings)
    return (line[keys.METHOD] != MODEL, line[keys.METHOD] if line[keys.METHOD] != MODEL else "", place, name)


# --- On a terminal ------------------------------------------------------------------------------------


def format_look(look: Look, height: int | None = None) -> Group:
    """A look for a terminal of 80 columns, in about `height` lines where that is given."""
    found = look.progress
    parts: list[RenderableType] = [Text(found.title, style="bold"), *_progress_lines(found)]
    if look.description["simulated"]:
        parts.append(Text(SIMULATED))
    failures = list(_failure_lines(found))
    parts += failures
    if found.kind == "search":
        parts += [Text(), *_search_tables(look)]
    else:
        left = None if height is None else height - len(parts) - 2
        parts += _standing_tables(look, left)
    return Group(*parts)


def _progress_lines(found: Progress) -> Iterator[RenderableType]:
    words = [found.state, f"{_trials_words(found)} trials"]
    if found.holder and found.trials is not None and found.done >= found.trials:
        words.append("tables and page are being made")
    elif found.seconds_left is not None:
        words.append(f"{'at most ' if found.kind == 'search' else ''}{about(found.seconds_left)} left")
    elif found.holder:
        words.append("time left is told after a few trials")
    if found.trials:
        bar = Table.grid()
        bar.add_row(ProgressBar(total=found.trials, completed=found.done, width=60))
        yield bar
    yield Text(", ".join(words))
    yield Text(_last_row(found), style="dim")


def _last_row(found: Progress) -> str:
    by = f"; run by {found.holder}" if found.holder else ""
    if not found.done:
        return f"no trial has ended yet{by}"
    return f"last result {_span(max(0.0, time.time() - found.updated.timestamp()))} ago{by}"


def _failure_lines(found: Progress) -> Iterator[Text]:
    if not found.failures:
        return
    yield Text(f"{count(found.failed, 'row')} failed:", style="red")
    for failure in found.failures[:_REASONS]:
        reason = " ".join(failure.reason.split())
        text = f"  {failure.rows}: {reason} ({', '.join(failure.samples)})"
        yield Text(text, no_wrap=True, overflow="ellipsis")
    if (more := len(found.failures) - _REASONS) > 0:
        yield Text(f"  {count(more, 'reason')} more: `senca study show {found.folder}`")


def _standing_tables(look: Look, lines: int | None) -> Iterator[RenderableType]:
    blocks = list(look.standings.groupby("block", sort=False))
    finished = look.progress.state == FINISHED
    uneven = (look.standings["sections"] < look.standings["of"]).any()
    for title, rows in blocks:
        most = len(rows) if lines is None else max(_FEWEST_LINES, lines // len(blocks) - _AROUND)
        best = rows.sort_values(["is_default", "mean"], ascending=False, kind="stable").index[:most]
        yield Text(f"\n{title}; k policy {k_words(look.description['k_policy'])}")
        yield _standing_table(rows[rows.index.isin(best)], look.description)
        if len(rows) > most:
            yield Text(f"and {len(rows) - most} more, of lower means", style="dim")
    if blocks:
        yield Text(
            "* best" if finished else "* best so far: rests on the trials finished so far", style="dim"
        )
    if uneven and not finished:
        yield Text("means over different sections cannot be compared yet", style="dim")


def _standing_table(rows: pd.DataFrame, description: dict[str, Any]) -> Table:
    score = "ARI" if rows["score"].iloc[0] == keys.ARI else f"{rows['score'].iloc[0]} (no labels)"
    table = plain_table("", ["method"], [f"mean {score}", "patients", "sections"])
    benchmark = description["kind"] == "benchmark"
    for row in rows.to_dict("records"):
        name = (
            f"{row[keys.METHOD]} ({row[keys.CLUSTERING]})"
            if benchmark
            else row_name(row[keys.METHOD], row[keys.SETTING], row[keys.CLUSTERING])
        )
        if row["is_default"]:
            name += " (reference)" if benchmark else " (default)"
        table.add_row(
            Text(f"{name} *" if row["is_best"] else name),
            number(row["mean"]),
            str(row["patients"]),
            f"{row['sections']} of {row['of']}",
            style="bold" if row["is_best"] else None,
        )
    return table


def _search_tables(look: Look) -> Iterator[RenderableType]:
    if look.selection is None:
        yield Text("no suggestion has been told of yet")
        return
    yield fold_table(look.selection, look.progress.state == FINISHED)
    yield Text(f"k policy {k_words(look.description['k_policy'])}")
    yield Text("tuning scores: of the patients that settings are chosen on, never test scores")
    if look.progress.state != FINISHED:
        yield Text("rests on the trials finished so far")


def fold_table(selection: dict[str, Any], finished: bool) -> Table:
    """The best suggestion of every fold of a search; a tuning score, never a test score."""
    scores = [f"tuning_{name}" for name in selection["objectives"]]
    table = plain_table(
        "",
        ["fold", "chosen" if finished else "best so far", "changes"],
        ["tried", *(s.replace("_", "\n", 1) for s in scores)],
    )
    for fold in selection["folds"]:
        tried = suggestion_table(selection, fold["name"])
        # The chosen one, or the whole front; while the fold is under way, the best of those scored in full.
        best = tried[tried["chosen"]] if tried["chosen"].any() else tried[tried["state"] == keys.COMPLETE][:1]
        lines = [
            (one["label"], one["changes"], str(len(tried)), *(number(one[score]) for score in scores))
            for one in best.to_dict("records")
        ] or [("none yet", "", str(len(tried)), *("" for _ in scores))]
        for line in lines:
            table.add_row(*map(Text, (fold["name"], *line)))
    return table


def _trials_words(found: Progress) -> str:
    """Trials done, of all where that is known: '31 of 48'; of a search that has not finished 'of at most'."""
    if found.trials is None or (found.kind == "search" and found.state == FINISHED):
        return str(found.done)
    return f"{found.done} of {'at most ' if found.kind == 'search' else ''}{found.trials}"


def about(seconds: float) -> str:
    """A duration in one unit: 'about 40 s', 'about 4 min', 'about 3 h', 'about 5 days'."""
    return f"about {_span(seconds)}"


def _span(seconds: float) -> str:
    for size, unit, below in ((1, "s", 90), (60, "min", 90 * 60), (3600, "h", 48 * 3600)):
        if seconds < below:
            return f"{max(1, round(seconds / size))} {unit}"
    return f"{round(seconds / 86400)} days"
