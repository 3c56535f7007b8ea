"""Terms of conST's objective, as functions of tensors."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def edge_loss(embedding: Tensor, edges: Tensor) -> Tensor:
    """How badly inner products of the embedding (N, D) show the edges (2, M), self loops among them.

    Pairs of spots without an edge are masked out in the original: they add a constant there, nothing here.
    """
    from torch.nn import functional

    pairs, joined = len(embedding) ** 2, edges.shape[1] - len(embedding)
    logits = (embedding[edges[0]] * embedding[edges[1]]).sum(dim=1)
    return functional.softplus(-logits).sum() / (2 * (pairs - joined))


def divergence(mean: Tensor, log_sd: Tensor) -> Tensor:
    """Kullback-Leibler divergence of normal draws (N, D) from standard ones, over N once more; a scalar."""
    terms = 1 + 2 * log_sd - mean.square() - (2 * log_sd).exp()
    return -0.5 / len(mean) * terms.sum(dim=1).mean()


def told_apart(real: Tensor, other: Tensor) -> Tensor:
    """Cross-entropy of scores that should be high for `real` (N,) and low for `other` (N,); a scalar."""
    from torch.nn import functional

    return (functional.softplus(-real).mean() + functional.softplus(other).mean()) / 2


def context_of(values: Tensor, starts: Tensor, sharpness: float, rounds: int) -> Tensor:
    """The mix of soft k-means centres to which each spot belongs, by cosine; (N, D) as `values`.

    `starts` (K, D). Gradients flow through the last round alone. Source: the paper's local-context contrast.
    """
    import torch
    from torch.nn import functional

    rows, centres = functional.normalize(values), starts
    for left in range(rounds, -1, -1):
        with torch.set_grad_enabled(left == 0 and torch.is_grad_enabled()):
            shares = (sharpness * rows @ functional.normalize(centres).T).softmax(dim=1)
            # A centre that no spot is near would be 0 / 0.
            centres = shares.T @ rows / shares.sum(dim=0).clamp(min=1e-12)[:, None]
    return shares @ centres


def memberships(embedding: Tensor, centres: Tensor) -> Tensor:
    """Share of each spot in each cluster by Student's t of its distance; (N, D), (C, D) to (N, C)."""
    near = 1 / (1 + (embedding[:, None] - centres).square().sum(dim=2))
    return near / near.sum(dim=1, keepdim=True)


def sharpened(shares: Tensor) -> Tensor:
    """What deep embedded clustering draws shares (N, C) towards: squared, large clusters weighted down."""
    weights = shares.square() / shares.sum(dim=0)
    return weights / weights.sum(dim=1, keepdim=True)
