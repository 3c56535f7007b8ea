"""The interface that SENCA-st, every baseline and every control share: subclass `Method` to add one.

A method of another package is found through the entry point group `senca_ray.methods`; the entry names a
subclass of `Method`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from senca_ray import keys
from senca_ray.config import Setting
from senca_ray.data.sample import Sample
from senca_ray.errors import SencaError

if TYPE_CHECKING:
    from senca_ray.fit.train import Checkpoint

NO_SETTINGS: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True)
class Embedding:
    """What a method learnt about a section, ready to be clustered."""

    values: np.ndarray
    """(N, D) float32 or float64, one row a spot."""
    losses: tuple[float, ...] = ()
    """Training loss of every epoch; empty for methods that are not trained."""
    earlier_seconds: float = 0.0
    """Seconds spent before an interruption that training went on from."""
    regions: np.ndarray | None = None
    """(N,) integers: the regions of a `RegionMethod`; None for all others."""
    peak_memory_mb: float | None = None
    """Highest memory of the process that computed it, where that was another one than the caller's."""


class Method(ABC):
    """One way to embed a section; regions and scores are computed the same way for all."""

    name: ClassVar[str]
    """As result rows and command lines spell it: lower case, words joined by '-'."""
    title: ClassVar[str]
    """What it does, in the words of a table's footnote."""
    citation: ClassVar[str] = ""
    """Authors, journal and year of the original; empty where there is none to name."""
    kind: ClassVar[str] = keys.SIMPLE
    """One of keys.METHOD_KINDS: model, null, simple or published."""
    source: ClassVar[str] = keys.OURS
    """Whose code runs: one of keys.METHOD_SOURCES."""
    checked: ClassVar[str] = ""
    """Of a reimplementation: what was checked against the original's description and numbers, and how it
    differs."""
    modality: ClassVar[str] = "expression"
    """What it reads of a section, in words: expression, image, coordinates."""
    needs_image: ClassVar[bool] = False
    """True when it cannot do without an image."""
    seeded: ClassVar[bool] = True
    """False when neither embedding nor clustering depends on the seed: one row is enough."""
    fixed_embedding: ClassVar[bool] = False
    """True when the seed matters to the clustering alone: a section is embedded once for all seeds."""
    slow: ClassVar[bool] = False
    """True when a fit takes minutes: a benchmark gives it fewer seeds."""
    follows_setting: ClassVar[bool] = False
    """True for what is fitted with the study's `Setting`; False for a method with settings of its own."""
    tunes_encoder: ClassVar[bool] = False
    """True for what trains the image encoder too where the setting says `finetune`; False for what reads
    stored features whatever it says."""
    settings: ClassVar[Mapping[str, Any]] = NO_SETTINGS
    """The method's own settings, as result rows keep them: JSON values."""
    clusterings: ClassVar[tuple[str, ...]] = ()
    """The clusterings that belong to it, its usual one first; none: it is run with the study's."""

    def missing(self) -> str:
        """How to get what it needs and is not installed here; empty when it can run."""
        return ""

    @abstractmethod
    def genes_needed(self, setting: Setting) -> int:
        """How many genes to read from the shard; where it holds fewer, all of them are read."""

    @abstractmethod
    def embed(self, sample: Sample, setting: Setting, seed: int) -> Embedding:
        """Embed one section; raises SencaError where the method does not apply to it."""


class RegionMethod(Method):
    """A method that finds regions by itself and has to be told beforehand how many.

    With keys.OWN among its clusterings those are its regions; its embedding can be clustered otherwise too.
    """

    @abstractmethod
    def segment(self, sample: Sample, setting: Setting, seed: int, k: int) -> Embedding:
        """Embed one section and find `k` regions in it; `regions` of the result is set.

        Raises SencaError where the method does not apply.
        """

    def embed(self, sample: Sample, setting: Setting, seed: int) -> Embedding:
        """Not without a number of regions; raises SencaError."""
        raise SencaError(f"{self.name} has to be told the number of regions: use `segment`")


class TrainedMethod(Method):
    """A method that trains a network: it may run on a GPU, all seeds at once, and can be interrupted."""

    @abstractmethod
    def embed(
        self,
        sample: Sample,
        setting: Setting,
        seed: int,
        device: str = "cpu",
        checkpoint: Checkpoint | None = None,
    ) -> Embedding:
        """Embed one section on a device, going on from the checkpoint where it holds this seed's state."""

    @abstractmethod
    def embed_batch(
        self,
        sample: Sample,
        setting: Setting,
        seeds: Sequence[int],
        device: str,
        checkpoint: Checkpoint | None = None,
    ) -> list[Embedding | SencaError]:
        """Embed with several seeds as one batched model; what a seed would raise stands in its place."""


def finetunes(method: Method, setting: Setting) -> bool:
    """Whether a method trains the image encoder of sections with an image, for which it needs the patches."""
    return method.tunes_encoder and setting.tunes_encoder


def followed(method: Method, setting: Setting) -> Setting:
    """What a fit follows of a setting: fine-tuning only where the method does it."""
    return setting if method.tunes_encoder else replace(setting, finetune=False)


def device_of(method: Method, device: str) -> str:
    """The device that `method` uses when it is given `device`."""
    return device if isinstance(method, TrainedMethod) else "cpu"
