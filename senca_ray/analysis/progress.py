"""How far a study is, read from its folder alone: no cluster, and while another process goes on with it."""

from __future__ import annotations

import json
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from senca_ray import keys, lock
from senca_ray.analysis.description import read_description
from senca_ray.analysis.results import EARLIER
from senca_ray.analysis.rows import row_key
from senca_ray.errors import SencaError

RUNNING, STOPPED, FINISHED = "running", "stopped", "finished"
"""States of a study. Finished: every trial has its rows and the tables are written."""

_TRIAL_KEY = (keys.STUDY, keys.METHOD, keys.SETTING, keys.SAMPLE)
"""What the rows of one trial share: it may read its fits in several ways."""

_ENOUGH = 3
"""Trials that a run has to end before its pace says anything."""


@dataclass(frozen=True)
class Failure:
    """One reason for which rows of a study failed."""

    reason: str
    rows: int
    samples: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How far a study is."""

    folder: Path
    name: str
    title: str
    kind: str
    """'grid' or 'search'; a search may end before it ran all its trials."""
    state: str
    """RUNNING, STOPPED or FINISHED."""
    holder: str | None
    """Who runs it now."""
    done: int
    """Trials that have all their rows, failed ones included."""
    trials: int | None
    """Trials in all, of a search at most; None in a study described before this was written down."""
    failures: tuple[Failure, ...]
    """What failed and why, the most frequent first."""
    seconds_left: float | None
    """At the pace of this run so far; None where nothing runs or too little is done to tell."""
    created: datetime
    updated: datetime
    """When the last row came."""

    @property
    def failed(self) -> int:
        """Number of failed rows."""
        return sum(failure.rows for failure in self.failures)


def find_studies(folder: Path) -> list[Path]:
    """The studies in a folder, by name, or the folder itself; raises SencaError where there is no folder."""
    if (folder / keys.STUDY_FILE).exists():
        return [folder]
    if not folder.is_dir():
        raise SencaError(
            f"{folder}: no such folder; experiments keep their studies in ./studies of the folder they are "
            "started in: go there, or name the folder"
        )
    # A hidden one is being removed.
    found = (p.parent for p in folder.glob(f"*/{keys.STUDY_FILE}"))
    return sorted(p for p in found if not p.name.startswith("."))


def progress(folder: Path) -> Progress:
    """How far the study in `folder` is; raises SencaError when `folder` holds no study.

    Time left is the time since this run began (or since the study was described, whatever came later: the
    sections are prepared before) divided by the trials ended in it, times the trials left. Trials that take
    longest start first, so it errs on the long side.
    """
    try:
        description = read_description(folder)
        name, title, kind = (str(description[field]) for field in ("name", "title", "kind"))
        trials = description.get("trials")
        created = datetime.fromisoformat(description["created"])
    except (KeyError, TypeError, ValueError) as error:
        raise SencaError(
            f"{folder / keys.STUDY_FILE}: not as it was written ({type(error).__name__}: {error}); restore "
            "it, or run the experiment again with another --out"
        ) from None
    run = lock.running(folder)
    rows = _read_rows(folder / keys.JOURNAL_FILE)
    tables = (folder / keys.RESULTS_FILE).exists()
    ended = _ended(rows)
    complete = tables and (kind == "search" or trials is None or len(ended) >= trials)
    left = None
    if run and trials is not None:
        now = sum(end >= run.journal_bytes for end in ended.values())
        elapsed = time.time() - max(run.since, created.timestamp())
        if now >= _ENOUGH:
            left = max(0.0, elapsed / now * (trials - len(ended)))
    return Progress(
        folder=folder,
        name=name,
        title=title,
        kind=kind,
        state=RUNNING if run else FINISHED if complete else STOPPED,
        holder=str(run) if run else None,
        done=len(ended),
        trials=trials,
        failures=_failures(rows),
        seconds_left=left,
        created=created,
        updated=_updated(folder),
    )


@dataclass(frozen=True, slots=True)
class _Row:
    """What counts of a result row, and where in the journal it begins."""

    trial: tuple[str, ...]
    sample: str
    failed: bool
    reason: str
    start: int


def _read_rows(path: Path) -> dict[tuple[Any, ...], _Row]:
    """The rows of a journal by key; none where there is no journal yet."""
    rows: dict[tuple[Any, ...], _Row] = {}
    if not path.exists():
        return rows
    for number, (start, line) in enumerate(_lines(path), start=1):
        try:
            row = EARLIER | json.loads(line)
            key = row_key(row)
            failed = row[keys.STATUS] == keys.FAILED
        except (ValueError, KeyError, TypeError):
            raise SencaError(
                f"{path}: line {number} is not a result row; remove this line and resume the study"
            ) from None
        if key not in rows or (rows[key].failed and not failed):
            trial = tuple(row[name] for name in _TRIAL_KEY)
            reason = row.get(keys.REASON) or ""
            rows[key] = _Row(trial, row[keys.SAMPLE], failed, reason, start)
    return rows


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Start and content of each whole line, without the regions: most of it, and nothing that counts."""
    position = 0
    with path.open("rb") as file:
        for line in file:
            if not line.endswith(b"\n"):
                return  # being written now, or torn by a crash
            # In a text these quotes would be escaped, so this is the column.
            begin = line.find(b'"regions": [')
            end = line.find(b"]", begin)
            if begin >= 0 and end >= 0:
                yield position, line[:begin] + b'"regions": null' + line[end + 1 :]
            else:
                yield position, line
            position += len(line)


def _ended(rows: dict[tuple[Any, ...], _Row]) -> dict[tuple[str, ...], int]:
    """The trials that have rows, which come all at once, each with the place of its last one."""
    last: dict[tuple[str, ...], int] = {}
    for row in rows.values():
        last[row.trial] = max(row.start, last.get(row.trial, 0))
    return last


def _failures(rows: dict[tuple[Any, ...], _Row]) -> tuple[Failure, ...]:
    by_reason: dict[str, list[str]] = defaultdict(list)
    for row in rows.values():
        if row.failed:
            by_reason[row.reason].append(row.sample)
    found = [Failure(reason, len(s), tuple(sorted(set(s)))) for reason, s in by_reason.items()]
    return tuple(sorted(found, key=lambda failure: (-failure.rows, failure.reason)))


def _updated(folder: Path) -> datetime:
    journal = folder / keys.JOURNAL_FILE
    changed = journal if journal.exists() else folder / keys.STUDY_FILE
    return datetime.fromtimestamp(changed.stat().st_mtime, UTC)
