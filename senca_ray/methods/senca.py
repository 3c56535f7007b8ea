"""SENCA-st and its own control, the same network before training."""

from __future__ import annotations

from senca_ray.config import Setting
from senca_ray.data.sample import Sample
from senca_ray.methods.base import Embedding


class Senca:
    """SENCA-st, trained on the section itself (Liyanaarachchi et al., SENCA-st)."""

    name = "senca"
    title = "SENCA-st, trained on each section by itself"
    clustering: str | None = None
    needs_image = False
    seeded = True
    follows_setting = True

    def genes_needed(self, setting: Setting) -> int:
        """The setting's HVGs."""
        return setting.hvgs

    def embed(self, sample: Sample, setting: Setting, seed: int) -> Embedding:
        """Train and return the shared embedding S, (N, bottleneck)."""
        from senca_ray.fit.train import train

        trained = train(sample, setting, seed)
        return Embedding(trained.embedding, trained.losses)


class Untrained(Senca):
    """The network of SENCA-st as initialised: what architecture and preprocessing give by themselves."""

    name = "untrained"
    title = "the same network before training"

    def embed(self, sample: Sample, setting: Setting, seed: int) -> Embedding:
        """Return the shared embedding S at initialisation, (N, bottleneck)."""
        from senca_ray.fit.train import untrained

        return Embedding(untrained(sample, setting, seed))
