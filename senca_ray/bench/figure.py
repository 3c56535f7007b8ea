"""A figure: the runs of one measurement, what was asked of it, and whether that was met."""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass
from typing import Any, Literal

Better = Literal["lower", "higher"]


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One measured quantity. Raises ValueError for runs that are no finite numbers."""

    name: str
    """Dotted and stable: results are compared by it."""
    title: str
    unit: str
    runs: tuple[float, ...]
    """Every run, in the order measured."""
    better: Better = "lower"
    bound: float | None = None
    """What the median has to keep to: at most this, or at least this where higher is better."""
    note: str = ""
    """What has to be known to read it: sizes, the device."""

    def __post_init__(self) -> None:
        values = [*self.runs, *([] if self.bound is None else [self.bound])]
        if not self.runs or not all(_is_number(v) for v in values) or self.better not in ("lower", "higher"):
            raise ValueError(
                f"{self.name}: runs {self.runs}, bound {self.bound}, better {self.better!r}; expected finite "
                "numbers, at least one run, and 'lower' or 'higher'"
            )

    @property
    def median(self) -> float:
        """Median of the runs."""
        return statistics.median(self.runs)

    @property
    def met(self) -> bool | None:
        """Whether the median keeps to the bound; None where there is none."""
        if self.bound is None:
            return None
        return self.median <= self.bound if self.better == "lower" else self.median >= self.bound

    def to_dict(self) -> dict[str, Any]:
        """What the JSON file holds of it, besides its name."""
        return {
            "title": self.title,
            "unit": self.unit,
            "better": self.better,
            "runs": list(self.runs),
            "median": self.median,
            "bound": self.bound,
            "met": self.met,
            "note": self.note,
        }

    @classmethod
    def from_dict(cls, name: str, values: Any) -> Figure:
        """The inverse of `to_dict`; median and verdict follow from the runs. Raises ValueError."""
        try:
            texts = {key: values[key] for key in ("title", "unit", "better", "note")}
            runs, bound = tuple(values["runs"]), values["bound"]
        except (KeyError, TypeError):
            raise ValueError(f"{name}: not a figure of `senca bench`") from None
        if not all(isinstance(text, str) for text in texts.values()):
            raise ValueError(f"{name}: title, unit, better and note have to be text")
        return cls(name=name, runs=runs, bound=bound, **texts)


def _is_number(value: object) -> bool:
    try:
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    except OverflowError:  # JSON may hold whole numbers that no float can
        return False
