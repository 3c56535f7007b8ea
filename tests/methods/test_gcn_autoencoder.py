import dataclasses
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from toys import toy_sample

from senca_ray.config import Setting
from senca_ray.data.sample import Sample
from senca_ray.methods.base import Method
from senca_ray.methods.gcn_autoencoder import GcnAutoencoder

SAMPLE = toy_sample(columns=7, rows=6, genes=40, image=False)


def small(**changes: Any) -> Method:
    """The method with a small network and few epochs."""
    small: dict[str, Any] = {"hidden": 16, "bottleneck": 6, "epochs": 3, "learning_rate": 0.01}
    own: Mapping[str, Any] = MappingProxyType({**GcnAutoencoder.settings, **small, **changes})
    return type("Small", (GcnAutoencoder,), {"settings": own})()


def embed(method: Method, sample: Sample = SAMPLE, seed: int = 0) -> np.ndarray:
    return method.embed(sample, Setting(), seed).values


def permuted(sample: Sample, order: np.ndarray) -> Sample:
    return dataclasses.replace(
        sample,
        counts=sample.counts[order],
        total_counts=sample.total_counts[order],
        xy=sample.xy[order],
        neighbors=np.argsort(order)[sample.neighbors[order]],
        labels=None,
    )


def test_every_spot_has_an_embedding_that_repeats_itself() -> None:
    threads = torch.get_num_threads()
    first = embed(small())
    try:
        torch.set_num_threads(2)
        torch.manual_seed(5)
        np.testing.assert_array_equal(embed(small()), first)
    finally:
        torch.set_num_threads(threads)
    assert first.shape == (42, 6) and first.dtype == np.float32 and np.isfinite(first).all()
    assert not np.allclose(embed(small(), seed=1), first)


def test_training_lowers_the_loss() -> None:
    losses = small(epochs=60).embed(SAMPLE, Setting(), 0).losses
    assert len(losses) == 60 and losses[-1] < 0.9 * min(losses[:5])


def test_order_of_spots_does_not_matter() -> None:
    order = np.random.default_rng(0).permutation(len(SAMPLE.xy))
    untrained = small(epochs=0)
    values = embed(untrained)
    np.testing.assert_allclose(embed(untrained, permuted(SAMPLE, order)), values[order], atol=1e-4, rtol=1e-4)
    assert np.abs(values - values[order]).max() > 0.01


def test_settings_of_its_own_are_used() -> None:
    assert GcnAutoencoder.settings["epochs"] >= 200 and not GcnAutoencoder.follows_setting
    assert GcnAutoencoder().genes_needed(Setting(hvgs=7)) == GcnAutoencoder.settings["hvgs"]
    few = dataclasses.replace(SAMPLE, genes=SAMPLE.genes[:20], counts=SAMPLE.counts[:, :20])
    np.testing.assert_array_equal(embed(small(), few), embed(small(hvgs=20)))


def test_a_spot_feels_its_neighbours_and_no_spot_far_away() -> None:
    untrained = small(epochs=0)
    counts = SAMPLE.counts.toarray()
    counts[0] = counts[0][::-1]  # the corner spot, with the same total
    # A gene's mean and spread stay, or the z-score would reach every spot.
    counts[-1] = counts[-1][::-1]
    changed = embed(untrained, dataclasses.replace(SAMPLE, counts=type(SAMPLE.counts)(counts)))
    moved = np.abs(changed - embed(untrained)).max(axis=1) > 0.05
    assert moved[[0, 1, 7]].all()


def test_gcn_uses_four_neighbours() -> None:
    wide = dataclasses.replace(SAMPLE, neighbors=SAMPLE.neighbors[:, :4])
    np.testing.assert_array_equal(embed(small(), wide), embed(small()))
    assert not np.allclose(embed(small(neighbors=2)), embed(small()))
