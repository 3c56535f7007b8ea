import dataclasses
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
import torch
from toys import toy_sample

from senca_ray.config import Setting
from senca_ray.data.sample import Sample
from senca_ray.methods import stagate
from senca_ray.methods.base import Method
from senca_ray.methods.gcn_autoencoder import GcnAutoencoder
from senca_ray.methods.graph_training import fit_full_graph
from senca_ray.methods.stagate import Stagate

# torch-geometric compiles functions of its own when it is imported.
METHODS: tuple[type[Method], ...] = (Stagate, GcnAutoencoder)
SAMPLE = toy_sample(columns=7, rows=6, genes=40, image=False)


def small(method: type[Method], **changes: Any) -> Method:
    """The method with a small network and few epochs."""
    small: dict[str, Any] = {"hidden": 16, "bottleneck": 6, "epochs": 3, "learning_rate": 0.01}
    own: Mapping[str, Any] = MappingProxyType({**method.settings, **small, **changes})
    return type("Small", (method,), {"settings": own})()


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


@pytest.mark.parametrize("method", METHODS)
def test_every_spot_has_an_embedding_that_repeats_itself(method: type[Method]) -> None:
    threads = torch.get_num_threads()
    first = embed(small(method))
    try:
        torch.set_num_threads(2)
        torch.manual_seed(5)
        np.testing.assert_array_equal(embed(small(method)), first)
    finally:
        torch.set_num_threads(threads)
    assert first.shape == (42, 6) and first.dtype == np.float32 and np.isfinite(first).all()
    assert not np.allclose(embed(small(method), seed=1), first)


@pytest.mark.parametrize("method", METHODS)
def test_training_lowers_the_loss(method: type[Method]) -> None:
    losses = small(method, epochs=60).embed(SAMPLE, Setting(), 0).losses
    assert len(losses) == 60 and losses[-1] < 0.9 * min(losses[:5])


@pytest.mark.parametrize("method", METHODS)
def test_order_of_spots_does_not_matter(method: type[Method]) -> None:
    order = np.random.default_rng(0).permutation(len(SAMPLE.xy))
    untrained = small(method, epochs=0)
    values = embed(untrained)
    np.testing.assert_allclose(embed(untrained, permuted(SAMPLE, order)), values[order], atol=1e-4, rtol=1e-4)
    assert np.abs(values - values[order]).max() > 0.01


@pytest.mark.parametrize("method", METHODS)
def test_settings_of_its_own_are_used(method: type[Method]) -> None:
    assert method.settings["epochs"] >= 200 and not method.follows_setting
    assert method().genes_needed(Setting(hvgs=7)) == method.settings["hvgs"]
    few = dataclasses.replace(SAMPLE, genes=SAMPLE.genes[:20], counts=SAMPLE.counts[:, :20])
    np.testing.assert_array_equal(embed(small(method), few), embed(small(method, hvgs=20)))


@pytest.mark.parametrize("method", METHODS)
def test_a_spot_feels_its_neighbours_and_no_spot_far_away(method: type[Method]) -> None:
    untrained = small(method, epochs=0)
    counts = SAMPLE.counts.toarray()
    counts[0] = counts[0][::-1]  # the corner spot, with the same total
    # A gene's mean and spread stay, or the z-score would reach every spot.
    counts[-1] = counts[-1][::-1]
    changed = embed(untrained, dataclasses.replace(SAMPLE, counts=type(SAMPLE.counts)(counts)))
    moved = np.abs(changed - embed(untrained)).max(axis=1) > 0.05
    assert moved[[0, 1, 7]].all()
    if method is Stagate:
        assert moved.sum() == 8  # the two corners and the three spots around each


def test_attention_is_shared_out_among_the_spots_within_the_radius() -> None:
    edges = stagate.edges_within(SAMPLE.xy, 1.5)
    degree = np.bincount(edges.spot.numpy())
    assert sorted(set(degree.tolist())) == [4, 6, 9] and len(degree) == 42
    near = np.linalg.norm(SAMPLE.xy[edges.spot] - SAMPLE.xy[edges.neighbor], axis=1)
    assert near.max() <= 1.5 and (near == 0).sum() == 42
    torch.manual_seed(0)
    weights = stagate.initial_weights(5, 8, 3)
    shares = stagate.attention(weights, torch.randn(42, 8) * 9, edges)
    sums = torch.zeros(42).index_add(0, edges.spot, shares)
    torch.testing.assert_close(sums, torch.ones(42))
    # The sigmoid keeps every neighbour of a spot within e times any other.
    first = edges.first[:-1].numpy()
    of_spots = shares.detach().numpy()
    ratio = np.maximum.reduceat(of_spots, first) / np.minimum.reduceat(of_spots, first)
    assert 1.5 < ratio.max() <= np.e


def test_a_lonely_spot_attends_to_itself() -> None:
    edges = stagate.edges_within(np.array([[0.0, 0.0], [1.0, 0.0], [9.0, 9.0]]), 1.5)
    assert edges.spot.tolist() == [0, 0, 1, 1, 2] and edges.neighbor.tolist() == [0, 1, 0, 1, 2]
    assert edges.first.tolist() == [0, 2, 4, 5]
    shares = stagate.attention(stagate.initial_weights(5, 8, 3), torch.randn(3, 8), edges)
    assert shares[-1].item() == 1


def test_stagate_is_what_its_equations_say() -> None:
    """The network with dense matrices in float64: tied weights, one attention for encoder and decoder."""
    torch.manual_seed(0)
    x = torch.rand(42, 12)
    weights = stagate.initial_weights(12, 8, 3)
    embedding, decoded = stagate.forward(weights, x, stagate.edges_within(SAMPLE.xy, 1.5))
    outer, inner, of_spot, of_neighbor = (
        weights[n].detach().double().numpy() for n in ("outer", "inner", "of_spot", "of_neighbor")
    )

    def elu(values: np.ndarray) -> np.ndarray:
        return np.where(values > 0, values, np.expm1(values))

    hidden = x.double().numpy() @ outer
    logits = hidden @ of_spot.T + (hidden @ of_neighbor.T).T
    near = np.linalg.norm(SAMPLE.xy[:, None] - SAMPLE.xy[None], axis=2) < 1.5
    share = near * np.exp(1 / (1 + np.exp(-logits)))
    share /= share.sum(axis=1, keepdims=True)
    z = elu(share @ hidden) @ inner
    np.testing.assert_allclose(embedding.detach(), z, atol=1e-5)
    np.testing.assert_allclose(decoded.detach(), elu(share @ (z @ inner.T)) @ outer.T, atol=1e-5)


def test_stagate_decodes_with_the_weights_it_encodes_with() -> None:
    """They stay one matrix, which Adam's first step moves by the learning rate for each of its two uses."""
    x = torch.rand(42, 12)
    edges = stagate.edges_within(SAMPLE.xy, 1.5)
    sizes = 12, 8, 3

    def loss(weights: torch.nn.ParameterDict, _: int) -> torch.Tensor:
        return (stagate.forward(weights, x, edges)[1] - x).square().mean()

    before, after = (
        fit_full_graph(
            lambda: stagate.initial_weights(*sizes), loss, epochs=epochs, learning_rate=0.01, seed=0
        )[0]
        for epochs in (0, 1)
    )
    for name in ("outer", "inner"):
        assert torch.equal(after[f"{name}_back"], after[name].T)
        steps = (after[name] - before[name]).abs() / 0.01
        assert 1.9 < steps.max() <= 2.01 and (steps < 0.1).any()


def test_gcn_uses_four_neighbours() -> None:
    wide = dataclasses.replace(SAMPLE, neighbors=SAMPLE.neighbors[:, :4])
    np.testing.assert_array_equal(embed(small(GcnAutoencoder), wide), embed(small(GcnAutoencoder)))
    assert not np.allclose(embed(small(GcnAutoencoder, neighbors=2)), embed(small(GcnAutoencoder)))
