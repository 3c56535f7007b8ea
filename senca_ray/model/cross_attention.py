"""Neighbourhood cross-attention between the two modalities (section 3.4, eqs. 3-4)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from senca_ray.config import Attention, Softmax
from senca_ray.model.graph_transformer import MADE_AGAIN_FROM, made_again, neighborhood_mean
from senca_ray.model.layers import Linear

_PARTS = 8
"""Parts in which the neighbourhoods of many spots are attended to."""


def neighborhood_attention(
    query: Tensor, key: Tensor, value: Tensor, neighborhood: Tensor, softmax: Softmax
) -> Tensor:
    """Attend from every spot to its own neighbourhood.

    Shapes: query, key (N, E); value (N, D); neighborhood (N, K+1) int64, column 0 is the spot itself.
    Returns (N, D): only the row of the spot itself, the one that the paper extracts.
    Source: eqs. 3-4, with the softmax over the neighbours' weights ("neighbours") or, as the
    parentheses are set in print, over the features of the weighted sum ("product").
    """
    if query.shape[-2] < MADE_AGAIN_FROM:
        return _attended(query, key, value, neighborhood, softmax)
    # Every spot's neighbours side by side are K + 1 times the section: a part at a time.
    parts = zip(query.chunk(_PARTS, dim=-2), neighborhood.chunk(_PARTS), strict=True)
    return torch.cat([made_again(_attended, q, key, value, near, softmax) for q, near in parts], dim=-2)


def _attended(query: Tensor, key: Tensor, value: Tensor, neighborhood: Tensor, softmax: Softmax) -> Tensor:
    scores = (query[..., None, :] * key[..., neighborhood, :]).sum(dim=-1) / math.sqrt(key.shape[-1])
    weights = scores.softmax(dim=-1) if softmax == "neighbours" else scores
    attended = (weights[..., None] * value[..., neighborhood, :]).sum(dim=-2)
    return attended if softmax == "neighbours" else attended.softmax(dim=-1)


class AttentionLayer(nn.Module):
    """One of the two attention layers, with its weights W^q, W^k, W^v."""

    def __init__(self, embedding: int, softmax: Softmax, attention: Attention) -> None:
        super().__init__()
        self.softmax, self.attention = softmax, attention
        # Without attention weights W^q and W^k stand idle; they are there all the same, so that a seed
        # starts every other layer as it does with them, and the two stay a pair.
        self.query = Linear(embedding, embedding, bias=False)
        self.key = Linear(embedding, embedding, bias=False)
        self.value = Linear(embedding, embedding, bias=False)

    def forward(self, queries: Tensor, keys: Tensor, values: Tensor, neighborhood: Tensor) -> Tensor:
        """Weigh `values` by how `queries` meet `keys`: all (N, E), neighborhood (N, K+1). Returns (N, E)."""
        if self.attention == "uniform":
            attended = neighborhood_mean(self.value(values), neighborhood)
            return attended if self.softmax == "neighbours" else attended.softmax(dim=-1)
        return neighborhood_attention(
            self.query(queries), self.key(keys), self.value(values), neighborhood, self.softmax
        )


class NeighborhoodCrossAttention(nn.Module):
    """E_i = A¹_i + A²_i of eqs. 2-4, or attention within the RNA embeddings of a section without image."""

    def __init__(
        self, embedding: int, softmax: Softmax, image: bool, attention: Attention = "learned"
    ) -> None:
        super().__init__()
        self.project_rna = Linear(embedding, embedding)
        self.attend_rna = AttentionLayer(embedding, softmax, attention)
        if image:
            self.project_image = Linear(embedding, embedding)
            self.attend_image = AttentionLayer(embedding, softmax, attention)

    def forward(self, rna: Tensor, image: Tensor | None, neighborhood: Tensor) -> Tensor:
        """Fuse R and H spot by spot; rna, image (N, E), neighborhood (N, K+1). Returns E (N, E)."""
        rna_p = self.project_rna(rna)
        if image is None:
            return self.attend_rna(rna_p, rna_p, rna, neighborhood)
        image_p = self.project_image(image)
        a1 = self.attend_rna(image_p, rna_p, rna, neighborhood)
        a2 = self.attend_image(rna_p, image_p, image, neighborhood)
        return a1 + a2
