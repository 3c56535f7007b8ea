"""The project's exceptions. Every one of them is a message for a user, shown without a stack trace."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


class SencaError(Exception):
    """Something the user can fix; the message says what was found, what was expected and the fix."""


class Interrupted(SencaError):
    """A study was stopped before its end; what is done is kept."""


@dataclass(frozen=True)
class Problem:
    """One finding about the input: where it is and what to do about it."""

    sample: str
    """Sample id, or '-' when the finding concerns the whole cohort."""
    place: str
    """File (relative to the cohort folder), or the option or field concerned."""
    message: str
    """What was found; what was expected; the fix."""


class ProblemsError(SencaError):
    """All problems found in one pass over the input, raised together."""

    def __init__(self, problems: Iterable[Problem], scope: str) -> None:
        """`scope` says what was looked at, for example '11 samples'."""
        self.problems = tuple(problems)
        self.scope = scope
        super().__init__(str(self))

    def __str__(self) -> str:
        count = len(self.problems)
        width = max((len(p.sample) for p in self.problems), default=0)
        lines = [f"{count} problem{'s' if count != 1 else ''} in {self.scope}:"]
        lines += [f"  {p.sample:<{width}}  {p.place}: {p.message}" for p in self.problems]
        return "\n".join(lines)

    def __reduce__(self) -> tuple[type[ProblemsError], tuple[tuple[Problem, ...], str]]:
        return (ProblemsError, (self.problems, self.scope))


class ConfigError(ProblemsError, ValueError):
    """Problems of one config; a ValueError, so that pydantic collects it with those of the others."""
