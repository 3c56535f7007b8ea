"""The interface that SENCA-st, every baseline and every control share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np

from senca_ray.config import Setting
from senca_ray.data.sample import Sample
from senca_ray.errors import SencaError

if TYPE_CHECKING:
    from senca_ray.fit.train import Checkpoint


@dataclass(frozen=True)
class Embedding:
    """What a method learnt about a section, ready to be clustered."""

    values: np.ndarray
    """(N, D) float32 or float64, one row a spot."""
    losses: tuple[float, ...] = ()
    """Training loss of every epoch; empty for methods that are not trained."""
    earlier_seconds: float = 0.0
    """Seconds spent before an interruption that training went on from."""


class Method(Protocol):
    """One way to embed a section; regions and scores are computed the same way for all."""

    name: str
    title: str
    """What it does, in the words of a table's footnote."""
    clustering: str | None
    """The clustering that belongs to it; None where the study's own is used."""
    needs_image: bool
    seeded: bool
    """False when neither embedding nor clustering depends on the seed: one row is enough."""
    follows_setting: bool
    """False when it ignores the setting that a study varies."""

    def genes_needed(self, setting: Setting) -> int:
        """How many genes to read from the shard; where it holds fewer, all of them are read."""
        ...

    def embed(self, sample: Sample, setting: Setting, seed: int) -> Embedding:
        """Embed one section; raises SencaError where the method does not apply to it."""
        ...


@runtime_checkable
class TrainedMethod(Method, Protocol):
    """A method that trains a network: it may run on a GPU, all seeds at once, and can be interrupted."""

    def embed(
        self,
        sample: Sample,
        setting: Setting,
        seed: int,
        device: str = "cpu",
        checkpoint: Checkpoint | None = None,
    ) -> Embedding:
        """Embed one section on a device, going on from the checkpoint where it holds this seed's state."""
        ...

    def embed_batch(
        self,
        sample: Sample,
        setting: Setting,
        seeds: Sequence[int],
        device: str,
        checkpoint: Checkpoint | None = None,
    ) -> list[Embedding | SencaError]:
        """Embed with several seeds as one batched model; what a seed would raise stands in its place."""
        ...
