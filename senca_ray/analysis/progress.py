"""How far a study is, read from its folder alone: no cluster, and while another process goes on with it."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd

from senca_ray import keys, lock
from senca_ray.analysis.description import read_description
from senca_ray.analysis.results import read_line
from senca_ray.analysis.rows import Row, RowKey, row_key
from senca_ray.errors import SencaError

RUNNING, STOPPED, FINISHED = "running", "stopped", "finished"
"""States of a study. Finished: every trial has its rows and the tables are written."""

_TRIAL_KEY = (keys.STUDY, keys.METHOD, keys.SETTING, keys.SAMPLE)
"""What the rows of one trial share: it may read its fits in several ways."""

SEEN = (
    *(*keys.ROW_KEY, keys.STATUS, keys.REASON, keys.PATIENT, keys.LABEL_SOURCE, keys.MODALITY),
    *(keys.ARI, keys.SILHOUETTE),
)
"""Columns of a row that tell how a study stands."""

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


def progress(folder: Path, journal: JournalTail | None = None) -> Progress:
    """How far the study in `folder` is; raises SencaError when `folder` holds no study.

    Who asks again and again keeps a `journal`, so that only its new rows are read. Time left is the time
    since this run began (or since the study was described, whatever came later: the sections are prepared
    before) divided by the trials ended in it, times the trials left. Trials that take longest start first, so
    it errs on the long side.
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
    # In this order: what a run that ends meanwhile leaves behind is then seen.
    run = lock.running(folder)
    tables = (folder / keys.RESULTS_FILE).exists()
    rows = (journal or JournalTail(folder)).read()
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


def partial(folder: Path, description: Mapping[str, Any], results: pd.DataFrame) -> str | None:
    """How much of a study its results rest on, in words: '31 of 48 trials'; None when they are all there.

    A search has all when it has made its choices: how many trials that takes shows only then.
    """
    done, trials = len(results[list(_TRIAL_KEY)].drop_duplicates()), description.get("trials")
    if description["kind"] == "search" or trials is None:
        if (folder / keys.RESULTS_FILE).exists():
            return None
        return f"{done} of at most {trials} trials" if trials is not None else f"{done} trials"
    return f"{done} of {trials} trials" if done < trials else None


@dataclass(frozen=True, slots=True)
class JournalRow:
    """What counts of a result row, and where in the journal it begins."""

    columns: dict[str, Any]
    """SEEN, null where the row lacks one."""
    start: int

    @property
    def trial(self) -> tuple[str, ...]:
        """What it shares with the other rows of its trial."""
        return tuple(self.columns[name] for name in _TRIAL_KEY)

    @property
    def failed(self) -> bool:
        """True where the fit failed."""
        return bool(self.columns[keys.STATUS] == keys.FAILED)


class JournalTail:
    """The rows of a study's journal; each look reads only what was appended since the last one."""

    lines: int
    """How many lines were read so far."""

    def __init__(self, folder: Path) -> None:
        """Nothing is read yet; a study without a journal has no rows."""
        self._path = folder / keys.JOURNAL_FILE
        self._start_over()

    def _start_over(self) -> None:
        self._position, self.lines = 0, 0
        self._rows: dict[RowKey, JournalRow] = {}

    def read(self) -> dict[RowKey, JournalRow]:
        """The rows by key, as they are now; raises SencaError for a line that is none."""
        if not self._path.exists():
            self._start_over()
            return self._rows
        if self._path.stat().st_size < self._position:
            self._start_over()  # somebody mended it, or took back what a full disk had torn
        with self._path.open("rb") as file:
            file.seek(self._position)
            for line in file:
                if not line.endswith(b"\n"):
                    break  # being written now, or torn by a crash
                self._take(read_line(line, self._path, self.lines + 1))
                self._position += len(line)
                self.lines += 1
        return self._rows

    def _take(self, row: Row) -> None:
        key = row_key(row)
        new = JournalRow({name: row.get(name) for name in SEEN}, self._position)
        stored = self._rows.get(key)
        if stored is None or (stored.failed and not new.failed):
            self._rows[key] = new


def _ended(rows: Mapping[RowKey, JournalRow]) -> dict[tuple[str, ...], int]:
    """The trials that have rows, which come all at once, each with the place of its last one."""
    last: dict[tuple[str, ...], int] = {}
    for row in rows.values():
        last[row.trial] = max(row.start, last.get(row.trial, 0))
    return last


def _failures(rows: Mapping[RowKey, JournalRow]) -> tuple[Failure, ...]:
    by_reason: dict[str, list[str]] = defaultdict(list)
    for row in rows.values():
        if row.failed:
            by_reason[row.columns[keys.REASON] or ""].append(row.columns[keys.SAMPLE])
    found = [Failure(reason, len(s), tuple(sorted(set(s)))) for reason, s in by_reason.items()]
    return tuple(sorted(found, key=lambda failure: (-failure.rows, failure.reason)))


def _updated(folder: Path) -> datetime:
    journal = folder / keys.JOURNAL_FILE
    changed = journal if journal.exists() else folder / keys.STUDY_FILE
    return datetime.fromtimestamp(changed.stat().st_mtime, UTC)
