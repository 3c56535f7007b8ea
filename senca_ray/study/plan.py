"""A plan: which trial runs next, decided while others still run. No Ray in here."""

from __future__ import annotations

from typing import Protocol

from senca_ray.study.trial import Trial


class Plan(Protocol):
    """Gives a study's trials one by one and is told when each has its rows."""

    @property
    def done(self) -> int:
        """Trials that have all their rows, those of earlier runs too."""
        ...

    @property
    def left(self) -> int:
        """Trials that have not ended and may still come, at most: a search may stop some early."""
        ...

    @property
    def finished(self) -> bool:
        """True when no trial will come any more and none is awaited."""
        ...

    def next(self) -> Trial | None:
        """The next trial to start; None when nothing can start before another one ends."""
        ...

    def ended(self, trial: Trial) -> None:
        """Take notice that the rows of `trial` are stored."""
        ...
