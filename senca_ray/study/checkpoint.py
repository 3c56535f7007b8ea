"""The checkpoint of one trial: what a lost worker would otherwise have to do again. No Ray in here."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import shutil
import time
import warnings
from pathlib import Path
from typing import Any

from senca_ray.data.location import delete, is_remote, list_files, read_bytes, write_bytes
from senca_ray.errors import SencaError
from senca_ray.files import write_whole

_log = logging.getLogger(__name__)

_FORMAT = 3
"""Raised when rows or training states become such that what an older version kept is of no use."""


class TrialCheckpoint:
    """One file with the rows of a trial's finished seeds and the state of the training under way.

    Nothing is written before `interval` seconds of work are at stake, so a short trial pays nothing. It is
    a `fit.train.Checkpoint`. A file that is damaged, or of another trial, is ignored: its loss costs time.
    """

    def __init__(self, path: str | Path, interval: float = 30.0) -> None:
        """`path`, a file or its address, need not exist, nor its folder; `interval` in seconds."""
        self._path, self._interval = str(path), interval
        self._there = False
        self._identity = ""
        self._rows: list[dict[str, Any]] = []
        self._training: dict[str, Any] | None = None
        self._saved = time.monotonic()

    def begin(self, identity: str) -> list[dict[str, Any]]:
        """Start the trial that `identity` names; returns the rows that its last run had finished."""
        self._identity, self._rows, self._training = identity, [], None
        kept = self._read()
        if kept is not None and kept["identity"] == identity and kept["format"] == _FORMAT:
            self._rows, self._training = kept["rows"], kept["training"]
        self._saved = time.monotonic()
        return list(self._rows)

    def add(self, rows: list[dict[str, Any]]) -> None:
        """Take in all rows of a finished seed; the training under way, if any, was that seed's."""
        self._rows += rows
        self._training = None
        if self.due():
            self._write()

    def load(self) -> dict[str, Any] | None:
        """The training state that the last run left; None when there is none."""
        return self._training

    def due(self) -> bool:
        """Whether the interval has passed since the file was last written, or the trial began."""
        return time.monotonic() - self._saved >= self._interval

    def save(self, state: dict[str, Any]) -> None:
        """Write the state of the training under way; tensors, numbers and text in dicts and lists."""
        self._training = state
        self._write()

    def remove(self) -> None:
        """Delete the file: the trial's rows are safe. One that cannot be deleted does no harm."""
        if self._there:
            with contextlib.suppress(SencaError, OSError):
                _delete(self._path)
            self._there = False

    def _write(self) -> None:
        kept = {
            "format": _FORMAT,
            "identity": self._identity,
            "rows": json.dumps(self._rows),
            "training": self._training,
        }
        try:
            _save(kept, self._path)
            self._there = True
        # Not worth a fit: without a checkpoint an interrupted trial only takes longer. torch.save turns
        # what the disk says into a RuntimeError.
        except (SencaError, OSError, RuntimeError) as error:
            _log.warning("%s: no checkpoint kept (%s); the trial goes on", self._path, error)
        self._saved = time.monotonic()

    def _read(self) -> dict[str, Any] | None:
        import torch

        try:
            content = _content(self._path)
            if content is None:
                return None
            self._there = True
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                kept = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
            rows = json.loads(kept["rows"])
            return {name: kept[name] for name in ("format", "identity", "training")} | {"rows": rows}
        except Exception as error:  # noqa: BLE001  damage shows in any way, and is never the trial's end
            _log.warning("%s: not a checkpoint (%s); ignored", self._path, type(error).__name__)
            return None


def remove_checkpoints(place: str) -> None:
    """Delete the checkpoints below a folder or an address: every trial has its rows. Never fails."""
    if not is_remote(place):
        shutil.rmtree(place, ignore_errors=True)
        return
    with contextlib.suppress(SencaError):
        delete(place, list_files(place))


def _content(path: str) -> bytes | None:
    if is_remote(path):
        return read_bytes(path)
    return Path(path).read_bytes() if Path(path).is_file() else None


def _save(kept: dict[str, Any], path: str) -> None:
    import torch

    if is_remote(path):
        buffer = io.BytesIO()
        torch.save(kept, buffer)
        write_bytes(path, buffer.getvalue())
        return
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    write_whole(Path(path), lambda temporary: torch.save(kept, temporary))


def _delete(path: str) -> None:
    if is_remote(path):
        folder, _, name = path.rpartition("/")
        delete(folder, [name])
    else:
        Path(path).unlink(missing_ok=True)
