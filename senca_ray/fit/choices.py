"""What may be asked of the step from embeddings to regions; light, since reading a study needs it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from senca_ray.errors import SencaError

CLUSTERINGS = ("ward", "average", "complete", "kmeans", "gmm-tied", "leiden")


@dataclass(frozen=True)
class KPolicy:
    """How many regions a section gets; printed wherever a score is."""

    kind: Literal["labels", "fixed", "auto"]
    k: int | None = None
    """The number under `fixed`, else None."""


def parse_k_policy(text: str) -> KPolicy:
    """Read `labels`, `fixed:N` or `auto`; raises SencaError."""
    match text.split(":"):
        case ["labels"]:
            return KPolicy("labels")
        case ["auto"]:
            return KPolicy("auto")
        case ["fixed", number] if number.isascii() and number.isdecimal() and int(number) >= 1:
            return KPolicy("fixed", int(number))
    raise SencaError(
        f"k policy {text!r} found; expected 'labels' (as many regions as the section has labels), "
        "'fixed:N' with N of 1 or more, for example fixed:6, or 'auto' (chosen without labels)"
    )
