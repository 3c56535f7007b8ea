"""What is found while one section is read: every problem, not the first, and notes for the user."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from senca_ray.data.readers.tables import quantity
from senca_ray.data.section import SectionFiles
from senca_ray.errors import Problem, ProblemsError, SencaError


@dataclass
class Findings:
    """What is found while one section is read: problems go on to be collected, notes to be kept."""

    files: SectionFiles
    problems: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def problem(self, path: Path, message: str) -> None:
        """Collect a problem of the file `path`."""
        self.problems.append(Problem(self.files.sample, self.files.place(path), message))

    def note(self, count: int, noun: str, text: str) -> None:
        """Keep a note such as '2 rows left out: ...', when there is any."""
        if count:
            self.notes.append(f"{quantity(count, noun)} {text}")

    @contextmanager
    def collecting(self, path: Path) -> Iterator[None]:
        """Make a SencaError raised within a problem of the file `path`, and go on."""
        try:
            yield
        except SencaError as error:
            self.problem(path, str(error))

    def raise_problems(self) -> None:
        """Raise ProblemsError with everything collected, if there is anything."""
        if self.problems:
            raise ProblemsError(self.problems, "1 section")
