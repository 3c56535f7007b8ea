import dataclasses
import math
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
import torch
from toys import toy_sample

from senca_ray import keys
from senca_ray.config import Setting
from senca_ray.errors import SencaError
from senca_ray.methods import congr, const, const_terms
from senca_ray.methods.base import Method
from senca_ray.methods.congr import ConGar, ConGcr
from senca_ray.methods.const import ConSt

# torch-geometric compiles functions of its own when it is imported.
METHODS: tuple[type[Method], ...] = (ConGcr, ConGar, ConSt)
SMALL: dict[str, dict[str, Any]] = {
    "congcr": {"genes": 30, "hidden": 12, "embedding": 8, "projection": 6, "image_hidden": 10, "batch": 20},
    "const": {"components": 10, "epochs_rebuilding": 4, "epochs_contrasting": 3, "cluster_interval": 2},
}
SMALL["congar"] = SMALL["congcr"]
SMALL["const"] |= {"clusters": 4, "contexts": 3, "features": 6, "graph": 3}
WITH_IMAGE, WITHOUT = (toy_sample(columns=7, rows=6, genes=40, image=image) for image in (True, False))


def small(method: type[Method], **changes: Any) -> Method:
    """The method with a small network and few epochs."""
    epochs = {} if method is ConSt else {"epochs": 3}
    own = MappingProxyType({**method.settings, **SMALL[method.name], **epochs, **changes})
    return type("Small", (method,), {"settings": own})()


@pytest.mark.parametrize(
    ("method", "image", "width"),
    [(ConGcr, True, 8), (ConGar, True, 8), (ConGar, False, 8), (ConSt, True, 15), (ConSt, False, 9)],
)
def test_every_spot_has_an_embedding_that_repeats_itself(
    method: type[Method], image: bool, width: int
) -> None:
    sample = WITH_IMAGE if image else WITHOUT
    first = small(method).embed(sample, Setting(), 0)
    state = torch.random.get_rng_state()
    torch.manual_seed(5)
    again, other = (small(method).embed(sample, Setting(), seed) for seed in (0, 1))
    torch.random.set_rng_state(state)
    assert first.values.shape == (42, width) and np.isfinite(first.values).all()
    np.testing.assert_array_equal(first.values, again.values)
    assert first.losses == again.losses
    assert not np.allclose(first.values, other.values)


@pytest.mark.parametrize(
    ("method", "image"), [(ConGcr, True), (ConGar, True), (ConGar, False), (ConSt, False)]
)
def test_training_lowers_the_loss(method: type[Method], image: bool) -> None:
    longer = {"epochs_rebuilding": 30, "epochs_contrasting": 0} if method is ConSt else {"epochs": 10}
    losses = small(method, **longer).embed(WITH_IMAGE if image else WITHOUT, Setting(), 0).losses
    assert len(losses) == (30 if method is ConSt else 10)
    assert losses[-1] < losses[0]


def test_const_lowers_the_loss_of_its_second_stage_and_moves_on_from_the_first() -> None:
    stages = {"epochs_rebuilding": 20, "cluster_interval": 40}
    first = small(ConSt, **stages, epochs_contrasting=0).embed(WITHOUT, Setting(), 0)
    both = small(ConSt, **stages, epochs_contrasting=40).embed(WITHOUT, Setting(), 0)
    assert both.losses[:20] == first.losses
    assert np.mean(both.losses[-10:]) < np.mean(both.losses[20:30])
    assert not np.allclose(first.values, both.values)


def test_congcr_refuses_a_section_that_would_leave_it_untrained() -> None:
    with pytest.raises(SencaError, match="T1: congcr needs an image and the section has none"):
        small(ConGcr).embed(WITHOUT, Setting(), 0)


@pytest.mark.parametrize("method", [ConGcr, ConSt])
def test_the_image_reaches_the_embedding(method: type[Method]) -> None:
    features = WITH_IMAGE.image_features
    assert features is not None
    mirrored = dataclasses.replace(WITH_IMAGE, image_features=features[::-1].copy())
    a, b = (small(method).embed(s, Setting(), 0).values for s in (WITH_IMAGE, mirrored))
    assert not np.allclose(a, b)


@pytest.mark.parametrize("method", METHODS)
def test_methods_say_where_they_come_from(method: type[Method]) -> None:
    assert method.kind == keys.PUBLISHED and method.source == keys.REIMPLEMENTED
    assert method.checked and method.citation


def test_congar_is_congcr_with_a_graph_to_rebuild() -> None:
    differing = {name for name in ConGar.settings if ConGar.settings[name] != ConGcr.settings[name]}
    assert differing == {"graph_weight"}
    unweighted = small(ConGar, graph_weight=0.0).embed(WITH_IMAGE, Setting(), 0).values
    np.testing.assert_array_equal(unweighted, small(ConGcr).embed(WITH_IMAGE, Setting(), 0).values)


def test_congcr_contrasts_the_spots_of_a_batch_alone() -> None:
    # A batch of one spot has nobody to be told apart from: its loss is 0 and nothing is learnt.
    alone = small(ConGcr, batch=1, epochs=1).embed(WITH_IMAGE, Setting(), 0)
    assert alone.losses == (pytest.approx(0, abs=1e-6),)


def test_contrast_of_three_spots_by_hand() -> None:
    """Without training the first loss is NT-Xent over the 6 rows of both modalities."""
    sample = WITH_IMAGE.subset(np.arange(42) < 3)
    method = small(ConGcr, neighbors=2, epochs=1, temperature=0.5, learning_rate=0.0)
    loss = method.embed(sample, Setting(), 0).losses[0]
    rows = captured_rows(method, sample)
    cosines = rows @ rows.T / 0.5
    expected = 0.0
    for i in range(6):
        others = [math.exp(cosines[i, j]) for j in range(6) if j != i]
        expected -= (cosines[i, (i + 3) % 6] - math.log(sum(others))) / 6
    assert loss == pytest.approx(expected, rel=1e-5)


def captured_rows(method: Method, sample: Any) -> np.ndarray:
    """(6, D) unit rows: the projected expression of 3 spots, then their image's."""
    from senca_ray.methods.graph_training import edge_index
    from senca_ray.model.senca import standardise

    own = method.settings
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        expression = torch.from_numpy(congr.scaled_counts(sample, own["genes"], own["expressed_in"]))
        network = congr._network(expression.shape[1], 24, own)
        encoded = congr._encode(network, expression, edge_index(sample.nearest(2), self_loops=False))
        seen, shown = (
            network["projection"](encoded),
            network["image"](standardise(torch.tensor(sample.image_features))),
        )
    rows = torch.cat([seen, shown]).numpy()
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def test_rebuilt_graph_of_three_spots_by_hand() -> None:
    embedding = torch.tensor([[1.0, 0.0], [0.5, 0.5], [0.0, 2.0]])
    edges = torch.tensor([[0, 1], [1, 0]])  # one edge in both directions: 2 of 9 pairs, and 3 self loops

    def log_sigmoid(x: float) -> float:
        return -math.log1p(math.exp(-x))

    logits = [[1.0, 0.5, 0.0], [0.5, 0.5, 1.0], [0.0, 1.0, 4.0]]
    joined = {(0, 0), (1, 1), (2, 2), (0, 1), (1, 0)}
    entropy = sum(
        -3.5 * log_sigmoid(logits[i][j]) if (i, j) in joined else -log_sigmoid(-logits[i][j])
        for i in range(3)
        for j in range(3)
    )
    expected = 9 / (2 * 7) * entropy / 9
    assert congr.graph_loss(embedding, edges).item() == pytest.approx(expected, rel=1e-5)

    # conST: self loops are among its edges, and only edges count.
    looped = torch.tensor([[0, 1, 0, 1, 2], [1, 0, 0, 1, 2]])
    expected = 9 / (2 * 7) * sum(-log_sigmoid(logits[i][j]) for i, j in joined) / 9
    assert const_terms.edge_loss(embedding, looped).item() == pytest.approx(expected, rel=1e-5)


def test_scaled_counts_take_the_most_variable_expressed_genes() -> None:
    dense = np.zeros((200, 4), dtype=np.int32)
    dense[0, 0] = 100  # in 1 of 200 spots: too few, whatever its variance
    dense[:, 1] = 5  # in all, constant
    dense[::2, 2] = 8
    dense[::4, 3] = 2
    sample = dataclasses.replace(WITHOUT, counts=type(WITHOUT.counts)(dense))
    scaled = congr.scaled_counts(sample, 2, 0.01)
    np.testing.assert_allclose(scaled, dense[:, [2, 3]] / 8)
    assert congr.scaled_counts(sample, 10, 0.01).shape == (200, 3)


def test_told_apart_by_hand() -> None:
    found = const_terms.told_apart(torch.tensor([0.0, 2.0]), torch.tensor([-1.0, 3.0]))
    expected = (
        math.log(2) + math.log1p(math.exp(-2)) + math.log1p(math.exp(-1)) + math.log1p(math.exp(3))
    ) / 4
    assert found.item() == pytest.approx(expected)


def test_divergence_is_zero_for_standard_normal_and_by_hand() -> None:
    assert const_terms.divergence(torch.zeros(3, 2), torch.zeros(3, 2)).item() == 0
    mean, log_sd = torch.tensor([[1.0], [0.0]]), torch.tensor([[0.0], [math.log(2)]])
    expected = 0.5 / 2 * (1 + (4 - 1 - 2 * math.log(2))) / 2
    assert const_terms.divergence(mean, log_sd).item() == pytest.approx(expected)


def test_memberships_and_their_target_by_hand() -> None:
    shares = const_terms.memberships(torch.tensor([[0.0], [3.0]]), torch.tensor([[0.0], [1.0]]))
    # 1 / (1 + d^2): spot 0 has 1 and 1/2, spot 1 has 1/10 and 1/5.
    torch.testing.assert_close(shares, torch.tensor([[2 / 3, 1 / 3], [1 / 3, 2 / 3]]))
    sharp = const_terms.sharpened(shares)
    torch.testing.assert_close(sharp, torch.tensor([[0.8, 0.2], [0.2, 0.8]]))


def test_context_is_the_centre_of_the_spots_alike() -> None:
    values = torch.tensor([[1.0, 0.0], [4.0, 0.0], [0.0, 2.0]], requires_grad=True)
    # The third start is near nobody and stays without spots.
    starts = torch.tensor([[1.0, 0.2], [0.2, 1.0], [-1.0, -1.0]])
    context = const_terms.context_of(values, starts, 100.0, 10)
    torch.testing.assert_close(context.detach(), torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]]))
    assert torch.isfinite(torch.autograd.grad(context[:, 0].sum(), values)[0]).all()


def test_components_are_those_of_pca_without_the_loudest_genes_in_the_total() -> None:
    from sklearn.decomposition import PCA

    sample = toy_sample(genes=60, image=False)
    dense = sample.counts.toarray()
    found = const.components(sample, 5, 1)
    totals = dense.sum(axis=1, keepdims=True)
    quiet = (dense <= 0.05 * totals).all(axis=0)
    assert 0 < quiet.sum() < dense.shape[1]
    shares = dense / dense[:, quiet].sum(axis=1, keepdims=True)
    kept = shares[:, shares.std(axis=0) > 0]
    expected = PCA(5, svd_solver="full").fit_transform((kept - kept.mean(axis=0)) / kept.std(axis=0))
    np.testing.assert_allclose(np.abs(found), np.abs(expected), atol=1e-3)
