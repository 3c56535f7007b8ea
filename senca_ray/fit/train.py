"""Training of SENCA-st on one sample: full graph, one seed, the same numbers every time."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch

from senca_ray.config import Setting
from senca_ray.data.sample import Sample
from senca_ray.errors import SencaError
from senca_ray.model.graph_transformer import dropout_mask
from senca_ray.model.losses import loss_terms
from senca_ray.model.senca import SectionTensors, Senca, standardise

TILE = 3.0
"""Side of a pooling tile in spot distances: 3x3 spots on a square grid."""


@dataclass(frozen=True)
class Trained:
    """What training leaves behind: N spots."""

    embedding: np.ndarray
    """(N, bottleneck) float32 shared embedding S, computed without dropout."""
    losses: tuple[float, ...]
    """Eq. 1 at every epoch, before that epoch's step."""
    terms: dict[str, tuple[float, ...]]
    """The unweighted terms of eq. 1 by name (those that apply), one value an epoch."""


def train(sample: Sample, setting: Setting, seed: int, device: str = "cpu") -> Trained:
    """Train one network on one section with Adam, full graph (section 4.1.1), and embed its spots.

    The result depends on the sample, setting, seed and machine alone: weights and dropout masks come from
    generators of the seed's own. Raises SencaError when the loss or the embedding is not finite.
    """
    with _one_thread():
        section = section_tensors(sample, setting, device)
        model, masks = initialise(section, setting, seed, device)
        optimizer = torch.optim.Adam(model.parameters(), lr=setting.learning_rate)
        losses: list[float] = []
        terms: dict[str, list[float]] = {}
        for epoch in range(1, setting.epochs + 1):
            mask = dropout_mask(section.expression.shape, setting.dropout, masks).to(device)
            epoch_terms = loss_terms(model(section, mask), section, setting.temperature)
            loss = epoch_terms.total(setting.mse_weight)
            losses.append(loss.item())
            if not math.isfinite(losses[-1]):
                raise _diverged(sample, setting, seed, f"the loss is {losses[-1]} in epoch {epoch}")
            for name, term in epoch_terms._asdict().items():
                if term is not None:
                    terms.setdefault(name, []).append(term.item())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        embedding = _embed(model, section)
    if not np.isfinite(embedding).all():
        raise _diverged(sample, setting, seed, f"the embedding is not finite after epoch {setting.epochs}")
    return Trained(embedding, tuple(losses), {name: tuple(values) for name, values in terms.items()})


def untrained(sample: Sample, setting: Setting, seed: int, device: str = "cpu") -> np.ndarray:
    """Embed a section with the network that `train` starts from, (N, bottleneck) float32.

    It is the control of every claim about training.
    """
    with _one_thread():
        section = section_tensors(sample, setting, device)
        model, _ = initialise(section, setting, seed, device)
        return _embed(model, section)


def section_tensors(sample: Sample, setting: Setting, device: str = "cpu") -> SectionTensors:
    """Put the prefix of a sample that `setting` asks for into tensors; raises SencaError if it is short."""
    itself = np.arange(len(sample.xy))[:, None]
    neighborhood = np.hstack([itself, sample.nearest(setting.neighbors)])
    # Rounded like the neighbour order, so that a spot on a tile's edge does not change sides by 1e-16.
    corner = np.round((sample.xy - sample.xy.min(axis=0)) / TILE, 6)
    _, tiles, sizes = np.unique(np.floor(corner), axis=0, return_inverse=True, return_counts=True)
    image = sample.image_features
    return SectionTensors(
        expression=torch.from_numpy(sample.expression(setting.hvgs)).to(device),
        neighborhood=torch.from_numpy(neighborhood).to(device),
        tiles=torch.from_numpy(tiles).to(device),
        tile_sizes=torch.from_numpy(sizes).float().to(device),
        image_features=None if image is None else standardise(torch.tensor(image).to(device)),
    )


def initialise(
    section: SectionTensors, setting: Setting, seed: int, device: str = "cpu"
) -> tuple[Senca, torch.Generator]:
    """Build the network of a seed and the generator of its dropout masks; the global state is untouched."""
    # Two independent streams: masks drawn from the weights' stream would be correlated with the weights.
    weights_seed, masks_seed = (int(s) for s in np.random.SeedSequence(seed).generate_state(2))
    features = None if section.image_features is None else section.image_features.shape[1]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(weights_seed)
        model = Senca(section.expression.shape[1], features, setting)
    return model.to(device), torch.Generator().manual_seed(masks_seed)


def _embed(model: Senca, section: SectionTensors) -> np.ndarray:
    with torch.no_grad():
        return model(section).embedding.cpu().numpy()


@contextmanager
def _one_thread() -> Iterator[None]:
    """Run torch on one thread: the number of threads changes the order of sums, and so the result."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _diverged(sample: Sample, setting: Setting, seed: int, finding: str) -> SencaError:
    return SencaError(
        f"{sample.name}, seed {seed}: {finding}; expected finite numbers. Lower learning_rate "
        f"(now {setting.learning_rate:g}), or run `senca inspect` on the shard if other seeds fail as well"
    )
