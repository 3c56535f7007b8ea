"""Where training starts: the weights of a seed, or of many stacked, and the generators of their masks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from senca_ray.config import Setting
from senca_ray.model.senca import SectionTensors, Senca


def initialise(section: SectionTensors, setting: Setting, seed: int) -> tuple[Senca, torch.Generator]:
    """Build the network of a seed and the generator of its dropout masks; the global state is untouched.

    The network is on the device and in the precision of the section.
    """
    weights_seed, masks_seed = _streams(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(weights_seed)
        model = _network(section, setting)
    return model.to(section.expression), _generator(masks_seed, section)


def initialise_batch(
    section: SectionTensors, setting: Setting, seeds: Sequence[int]
) -> tuple[Senca, dict[str, Tensor], list[torch.Generator]]:
    """Build the networks of S seeds as one, its weights as `initialise` draws them, stacked (S, ...).

    Returns the network, its stacked weights by name and each seed's generator of dropout masks.
    """
    weights_seeds, masks_seeds = zip(*map(_streams, seeds), strict=True)
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        # Building a network takes longer than drawing its weights, so one is built and drawn S times.
        model = _network(section, setting)
        stacked = {
            name: section.expression.new_empty(len(seeds), *weight.shape)
            for name, weight in model.named_parameters()
        }
        for index, seed in enumerate(weights_seeds):
            torch.manual_seed(seed)
            model.draw_weights()
            for name, weight in model.named_parameters():
                stacked[name][index] = weight
    for weights in stacked.values():
        weights.requires_grad_()
    return model, stacked, [_generator(seed, section) for seed in masks_seeds]


def _streams(seed: int) -> tuple[int, int]:
    """Seeds of two independent streams: masks drawn from the weights' would be correlated with them."""
    weights, masks = (int(s) for s in np.random.SeedSequence(seed).generate_state(2))
    return weights, masks


def _network(section: SectionTensors, setting: Setting) -> Senca:
    features = None if section.image_features is None else section.image_features.shape[1]
    return Senca(section.expression.shape[1], features, setting)


def _generator(seed: int, section: SectionTensors) -> torch.Generator:
    return torch.Generator(section.expression.device).manual_seed(seed)
