"""The runs that lie in a study's `wandb` folder: what each was made from, and whether it was sent."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

from senca_ray.errors import SencaError
from senca_ray.files import write_json
from senca_ray.report.wandb_session import RUN_FOLDER

_INDEX = "senca-runs.json"


@dataclass
class Kept:
    """One run."""

    folder: str
    """Name of its folder, W&B's own choice."""
    made_from: str
    """Digest of the rows, and all else, that it was made from."""
    sent: bool = False
    url: str | None = None
    """Where it can be seen, once it was sent."""


class Spool:
    """The runs of one study, by run id. One process at a time writes them."""

    def __init__(self, study_dir: Path) -> None:
        """Read what is there; raises SencaError for an index that cannot be read."""
        self.study_dir = study_dir
        self.folder = study_dir / RUN_FOLDER
        self.runs: dict[str, Kept] = {}
        self.report: dict[str, str] = {}
        """Id and url of the study's W&B Report, the same one however often it is made; empty without one."""
        index = self.folder / _INDEX
        if index.exists():
            try:
                told = json.loads(index.read_text(encoding="utf-8"))
                self.runs = {name: Kept(**one) for name, one in told["runs"].items()}
                self.report = told["report"]
            except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
                raise SencaError(
                    f"{index}: not the list of the study's W&B runs ({error}); remove the folder "
                    f"{self.folder}: they are then made again"
                ) from None
        self.settle()

    def holds(self, run_id: str, made_from: str) -> bool:
        """True when the run is there, or was sent, just as it would be made now."""
        kept = self.runs.get(run_id)
        return kept is not None and kept.made_from == made_from and (kept.sent or self._log(run_id).exists())

    def discard(self, run_id: str) -> None:
        """Remove whatever there is of a run, also what an interruption or an earlier version left."""
        self.runs.pop(run_id, None)
        for folder in self.folder.glob(f"offline-run-*-{run_id}"):
            shutil.rmtree(folder)

    def add(self, run_id: str, folder: str, made_from: str) -> None:
        """Take note of a run that is written."""
        self.runs[run_id] = Kept(folder, made_from)
        self.save()

    def unsent(self) -> dict[str, Path]:
        """Log files of the runs that were not sent, by run id."""
        return {name: self._log(name) for name, kept in self.runs.items() if not kept.sent}

    def settle(self) -> int:
        """Take note of what was sent meanwhile and return how many runs that are in all."""
        for name, kept in self.runs.items():
            # W&B's own mark, also when the user sent it with `wandb sync`.
            kept.sent = kept.sent or self._log(name).with_suffix(".wandb.synced").exists()
        return sum(kept.sent for kept in self.runs.values())

    def save(self) -> None:
        """Write the index; raises SencaError when the disk refuses."""
        runs = {name: asdict(kept) for name, kept in self.runs.items()}
        write_json(self.folder / _INDEX, {"runs": runs, "report": self.report})

    def _log(self, run_id: str) -> Path:
        return self.folder / self.runs[run_id].folder / f"run-{run_id}.wandb"
