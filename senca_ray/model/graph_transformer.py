"""The transcriptomic branch: from expression and the spatial graph to RNA embeddings (section 3.2).

Shape suffixes throughout `model`: N spots, G genes, F image features, K neighbours, E embedding. What is
computed with weights may have the dimension of S seeds before these: see `layers`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from senca_ray.model.layers import LayerNorm, Linear

HEADS = 4
MADE_AGAIN_FROM = 30_000
"""From so many spots on memory is worth more than time: see `made_again`."""


class Blocks(NamedTuple):
    """The spots of a large section in L blocks, of which self-attention sees the means."""

    block: Tensor
    """(N,) int64, the block of each spot."""
    sizes: Tensor
    """(L,) float32, spots in each block."""


def dropout_masks(shape: tuple[int, ...], rate: float, generators: Sequence[torch.Generator]) -> Tensor:
    """Draw a dropout mask from each of S generators: 0 with probability `rate`, else 1 / (1 - rate).

    Returns (S, *shape) on the generators' device.
    """
    # Drawn from generators of the caller's, never from the process's own state: what other seeds or
    # trials run beside this one cannot change it. Drawn where it is used: fifteen masks of a small section
    # would take a CPU five times as long as the rest of a GPU's step.
    drawn = torch.empty(len(generators), *shape, device=generators[0].device)
    for mask, generator in zip(drawn, generators, strict=True):
        mask.uniform_(generator=generator)
    return (drawn >= rate) / (1 - rate)


def neighborhood_mean(values: Tensor, neighborhood: Tensor) -> Tensor:
    """Multiply with the row-normalised adjacency: the mean over every spot's neighbourhood.

    Shapes: values (N, E); neighborhood (N, K+1) int64, column 0 is the spot itself. Returns (N, E).
    """
    return values[..., neighborhood, :].mean(dim=-2)


def group_mean(values: Tensor, groups: Tensor, sizes: Tensor) -> Tensor:
    """Pool (N, E) to the mean of each group of spots; groups (N,) int64, sizes (T,). Returns (T, E)."""
    sums = values.new_zeros(*values.shape[:-2], len(sizes), values.shape[-1])
    return sums.index_add(-2, groups, values) / sizes[:, None]


def self_attention(query: Tensor, key: Tensor, value: Tensor, blocks: Blocks | None = None) -> Tensor:
    """Attend from every spot to all spots; all shapes (N, E), heads are slices of E.

    Four heads, or one where E does not divide by four. The only place where spots meet all spots: with
    `blocks` they meet the mean key and value of each block instead, which weighs as much as its spots.
    """
    n_spots, embedding = query.shape[-2:]
    heads = HEADS if embedding % HEADS == 0 else 1
    bias = None
    if blocks is not None:
        key, value = (group_mean(x, *blocks) for x in (key, value))
        bias = blocks.sizes.log().expand(n_spots, -1)

    def split(x: Tensor) -> Tensor:
        return x.view(-1, x.shape[-2], heads, embedding // heads).transpose(1, 2)

    attended = functional.scaled_dot_product_attention(split(query), split(key), split(value), bias)
    return attended.transpose(1, 2).reshape(query.shape)


def made_again(function: Callable[..., Tensor], spots: Tensor, *others: object) -> Tensor:
    """Apply a function to (N, E) and others; for a gradient it is run again on the way back.

    What it computes in between would else be kept: gigabytes of a section of 500,000 spots.
    """
    if not spots.requires_grad:
        return function(spots, *others)
    return cast(Tensor, checkpoint(function, spots, *others, use_reentrant=False))


class GraphTransformer(nn.Module):
    """The graph transformer g, R = g(G) (section 3.2)."""

    def __init__(self, genes: int, embedding: int, hidden: int) -> None:
        super().__init__()
        self.embed = Linear(genes, embedding)
        self.query_key_value = Linear(embedding, 3 * embedding, bias=False)
        self.heads_out = Linear(embedding, embedding)
        self.norm = LayerNorm(embedding)
        self.feed_forward = nn.Sequential(Linear(embedding, hidden), nn.ELU(), Linear(hidden, embedding))

    def forward(
        self,
        expression: Tensor,
        neighborhood: Tensor,
        mask: Tensor | None = None,
        blocks: Blocks | None = None,
    ) -> Tensor:
        """Embed every spot's expression in its spatial context.

        Shapes: expression (N, G); neighborhood (N, K+1) int64, column 0 is the spot itself; mask (N, G)
        from `dropout_masks`, None outside training; blocks as in `self_attention`. Returns R (N, E).
        """
        masked = expression if mask is None else expression * mask
        spots = neighborhood_mean(self.embed(masked), neighborhood)
        if spots.shape[-2] < MADE_AGAIN_FROM:
            return self._transformed(spots, blocks)
        return made_again(self._transformed, spots, blocks)

    def _transformed(self, spots: Tensor, blocks: Blocks | None) -> Tensor:
        query, key, value = self.query_key_value(spots).chunk(3, dim=-1)
        attended = self.heads_out(self_attention(query, key, value, blocks))
        block = self.feed_forward(self.norm(attended))
        return functional.elu(spots + block)
