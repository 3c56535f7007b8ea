"""SENCA-st and its own control, the same network before training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from senca_ray import keys
from senca_ray.config import Setting
from senca_ray.data.sample import Sample
from senca_ray.errors import SencaError
from senca_ray.methods.base import Embedding, Method, TrainedMethod

if TYPE_CHECKING:
    from senca_ray.fit.train import Checkpoint, Trained


class Senca(TrainedMethod):
    """SENCA-st, trained on the section itself (Liyanaarachchi et al.)."""

    name = "senca"
    title = "SENCA-st, trained on each section by itself"
    citation = "Liyanaarachchi et al., SENCA-st"
    kind = keys.MODEL_KIND
    modality = "expression, and image where there is one"
    follows_setting = True
    tunes_encoder = True

    def genes_needed(self, setting: Setting) -> int:
        """The setting's HVGs."""
        return setting.hvgs

    def embed(
        self,
        sample: Sample,
        setting: Setting,
        seed: int,
        device: str = "cpu",
        checkpoint: Checkpoint | None = None,
    ) -> Embedding:
        """Train and return the shared embedding S, (N, bottleneck)."""
        from senca_ray.fit.train import train

        return _embedding(train(sample, setting, seed, device, checkpoint))

    def embed_batch(
        self,
        sample: Sample,
        setting: Setting,
        seeds: Sequence[int],
        device: str,
        checkpoint: Checkpoint | None = None,
    ) -> list[Embedding | SencaError]:
        """Train all seeds as one batched model; S (N, bottleneck) of each, or the error it ended with."""
        from senca_ray.fit.train import train_batch

        results = train_batch(sample, setting, seeds, device, checkpoint)
        return [result if isinstance(result, SencaError) else _embedding(result) for result in results]


def _embedding(trained: Trained) -> Embedding:
    return Embedding(trained.embedding, trained.losses, trained.earlier_seconds)


class Untrained(Method):
    """The network of SENCA-st as initialised: what architecture and preprocessing give by themselves."""

    name = "untrained"
    title = "the same network before training"
    kind = keys.NULL
    modality = "expression, and image where there is one"
    follows_setting = True

    def genes_needed(self, setting: Setting) -> int:
        """The setting's HVGs."""
        return setting.hvgs

    def embed(self, sample: Sample, setting: Setting, seed: int) -> Embedding:
        """Return the shared embedding S at initialisation, (N, bottleneck)."""
        from senca_ray.fit.train import untrained

        return Embedding(untrained(sample, setting, seed))
