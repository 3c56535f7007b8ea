"""Training that the graph networks of other papers share: full graph, the same numbers every time."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from senca_ray.errors import SencaError
from senca_ray.fit.determinism import one_thread

if TYPE_CHECKING:
    from torch import Tensor, nn

    Network = TypeVar("Network", bound=nn.Module)


def fit_full_graph(
    make: Callable[[], Network],
    loss: Callable[[Network, int], Tensor],
    *,
    epochs: int,
    learning_rate: float,
    weight_decay: float = 0.0,
    clip: float | None = None,
    seed: int,
) -> tuple[Network, tuple[float, ...]]:
    """Build a network and train it with Adam, a step an epoch; returns it in evaluation mode with its losses.

    `make` draws the weights. `loss` gives the scalar to lower in an epoch, counted from 1; it may draw random
    numbers. Both draw from the seed's own stream, the global one is untouched. `clip`: largest norm of all
    gradients together. Each loss was taken before that epoch's step.
    Raises SencaError when a loss or, at the end, a weight is not finite.
    """
    import torch

    with one_thread(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = make().train()
        parameters = list(network.parameters())
        # Fused: the same steps, and a tenth of their time on a CPU.
        optimizer = torch.optim.Adam(parameters, lr=learning_rate, weight_decay=weight_decay, fused=True)
        losses: list[float] = []
        for epoch in range(1, epochs + 1):
            optimizer.zero_grad()
            value = loss(network, epoch)
            losses.append(value.item())
            if not math.isfinite(losses[-1]):
                raise _diverged(f"the loss is {losses[-1]} in epoch {epoch}", learning_rate, seed)
            value.backward()
            if clip is not None:
                torch.nn.utils.clip_grad_norm_(parameters, clip)
            optimizer.step()
        if not all(torch.isfinite(parameter).all() for parameter in parameters):
            raise _diverged(f"a weight is not finite after epoch {epochs}", learning_rate, seed)
    return network.eval(), tuple(losses)


def _diverged(finding: str, learning_rate: float, seed: int) -> SencaError:
    return SencaError(
        f"seed {seed}: {finding}; expected finite numbers. Run `senca inspect` on the shard; if it is sound, "
        f"lower the method's learning rate (now {learning_rate:g})"
    )


def edge_index(neighbors: np.ndarray, self_loops: bool) -> Tensor:
    """Edges of the graph that joins two spots when either is a neighbour of the other.

    Shapes: neighbors (N, K) indices without the spot itself. Returns (2, M) int64, each edge once in each
    direction, ordered by source, then target; with `self_loops` every spot is joined to itself too.
    """
    import torch

    spots, width = neighbors.shape
    index = np.arange(spots)
    pairs = np.stack([np.repeat(index, width), neighbors.ravel()])
    both = [pairs, pairs[::-1]] + [np.stack([index, index])] * self_loops
    return torch.from_numpy(np.unique(np.concatenate(both, axis=1), axis=1).astype(np.int64))
