import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torch import Tensor, nn

from senca_ray.errors import SencaError
from senca_ray.fit.determinism import one_thread
from senca_ray.methods.graph_training import edge_index, fit_full_graph

X = torch.linspace(-1, 1, 40).reshape(20, 2)
Y = X @ torch.tensor([[2.0], [-1.0]]) + 0.5


def make() -> nn.Linear:
    return nn.Linear(2, 1)


def squares(network: nn.Linear, _: int) -> Tensor:
    return (network(X) - Y).square().mean()


def noisy(network: nn.Linear, _: int) -> Tensor:
    return squares(network, 0) + network(torch.randn(5, 2)).square().mean()


def test_training_lowers_the_loss_to_the_solution() -> None:
    network, losses = fit_full_graph(make, squares, epochs=400, learning_rate=0.05, seed=0)
    assert len(losses) == 400 and losses[-1] < 1e-4 < losses[0]
    torch.testing.assert_close(network(X), Y, atol=0.05, rtol=0)
    assert not network.training


def test_first_loss_is_that_of_the_network_as_made_and_epochs_count_from_one() -> None:
    seen: list[int] = []

    def loss(network: nn.Linear, epoch: int) -> Tensor:
        seen.append(epoch)
        return squares(network, epoch)

    untrained, none = fit_full_graph(make, loss, epochs=0, learning_rate=0.1, seed=4)
    _, losses = fit_full_graph(make, loss, epochs=3, learning_rate=0.1, seed=4)
    assert none == () and seen == [1, 2, 3]
    assert losses[0] == squares(untrained, 1).item()


def test_numbers_depend_on_the_seed_alone_and_the_global_stream_is_untouched() -> None:
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = fit_full_graph(make, noisy, epochs=5, learning_rate=0.1, seed=3)[1]
    assert torch.equal(before, torch.get_rng_state())
    torch.manual_seed(2)
    assert fit_full_graph(make, noisy, epochs=5, learning_rate=0.1, seed=3)[1] == first
    assert fit_full_graph(make, noisy, epochs=5, learning_rate=0.1, seed=4)[1] != first


def test_gradients_are_clipped_together() -> None:
    norms = []
    for clip in (None, 0.01):
        network, _ = fit_full_graph(make, squares, epochs=1, learning_rate=0.1, clip=clip, seed=0)
        norms.append(torch.stack([p.grad.norm() for p in network.parameters() if p.grad is not None]).norm())
    assert norms[0] > 0.1
    torch.testing.assert_close(norms[1], torch.tensor(0.01), atol=1e-5, rtol=0)


def test_weight_decay_shrinks_what_the_loss_does_not_hold() -> None:
    sizes = []
    for decay in (0.0, 0.1):
        network, _ = fit_full_graph(
            make, lambda n, _: 0 * n(X).sum(), epochs=5, learning_rate=0.01, weight_decay=decay, seed=0
        )
        sizes.append(network.weight.abs().sum().item())
    assert sizes[1] < sizes[0]


def test_a_loss_that_is_not_finite_names_epoch_and_fix() -> None:
    def loss(network: nn.Linear, epoch: int) -> Tensor:
        return squares(network, epoch) / (0 if epoch == 2 else 1)

    with pytest.raises(SencaError, match=r"seed 7: the loss is inf in epoch 2; expected finite.*now 0\.5"):
        fit_full_graph(make, loss, epochs=3, learning_rate=0.5, seed=7)


def test_a_last_step_that_breaks_the_weights_is_told() -> None:
    with pytest.raises(SencaError, match="a weight is not finite after epoch 1"):
        # The slope of the square root at 0 is infinite: a finite loss with gradients that are not.
        fit_full_graph(make, lambda n, _: (0 * n(X)).sqrt().sum(), epochs=1, learning_rate=0.1, seed=0)


def test_one_thread_is_for_the_block_only() -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with pytest.raises(KeyError), one_thread():
            assert torch.get_num_threads() == 1
            raise KeyError
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)


def test_edges_by_hand() -> None:
    neighbors = np.array([[1], [0], [0]], dtype=np.int32)
    assert edge_index(neighbors, self_loops=False).tolist() == [[0, 0, 1, 2], [1, 2, 0, 0]]
    assert edge_index(neighbors, self_loops=True).tolist() == [[0, 0, 0, 1, 1, 2, 2], [0, 1, 2, 0, 1, 0, 2]]


@given(st.data(), st.integers(2, 12), st.integers(1, 4), st.booleans())
@settings(max_examples=40, deadline=None)
def test_edges_are_symmetric_unique_and_complete(data: st.DataObject, n: int, k: int, loops: bool) -> None:
    steps = data.draw(arrays(np.int64, (n, k), elements=st.integers(1, n - 1)))
    neighbors = (np.arange(n)[:, None] + steps) % n  # never the spot itself
    edges = list(map(tuple, edge_index(neighbors, loops).T.tolist()))
    wanted = {(i, int(j)) for i in range(n) for j in neighbors[i]}
    assert edges == sorted(wanted | {(j, i) for i, j in wanted} | {(i, i) for i in range(n) if loops})
