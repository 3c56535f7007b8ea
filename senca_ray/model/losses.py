"""The loss of eq. 1: two NT-Xent terms and the weighted reconstruction error."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from senca_ray.model.graph_transformer import group_mean, neighborhood_mean
from senca_ray.model.senca import Output, SectionTensors

DRAWN = 2048
"""Tiles, and spots, that a step contrasts in the large form: more than the sections of the paper have."""


class Drawn(NamedTuple):
    """The rows that one step of a large section contrasts, drawn without replacement."""

    tiles: Tensor
    """(up to DRAWN,) int64."""
    spots: Tensor
    """(up to DRAWN,) int64, whose neighbourhoods are windows."""


class LossTerms(NamedTuple):
    """The terms of eq. 1, unweighted scalars, or (S,) of S seeds; None where there is nothing to contrast,
    or it is left out."""

    pooled: Tensor | None
    """NT-Xent_g(H_p, R_p)."""
    windowed: Tensor | None
    """NT-Xent_w(H_w, R_w)."""
    reconstruction: Tensor
    """avg_i(MSE(E_i, D_i))."""

    def total(self, mse_weight: float) -> Tensor:
        """Eq. 1 with λ = `mse_weight`."""
        loss = mse_weight * self.reconstruction
        for contrast in (self.pooled, self.windowed):
            loss = loss if contrast is None else loss + contrast
        return loss


def nt_xent(first: Tensor, second: Tensor, temperature: float, drawn_from: int | None = None) -> Tensor:
    """Contrast the rows of two views, row i of one with row i of the other; both (M, E).

    Each of the 2M rows has to tell its partner from the 2M - 2 other rows, by cosine similarity.
    Returns the mean over the 2M rows. Where the M pairs were drawn from more, `drawn_from` of them, every
    other row stands for as many as it was drawn from, and the result estimates what all pairs would give.
    Source: NT-Xent of SimCLR, the paper's [5].
    """
    pairs = first.shape[-2]
    rows = functional.normalize(torch.cat([first, second], dim=-2), dim=-1)
    # Dividing the rows, not the (2M, 2M) product, by the temperature is the same and cheaper.
    scaled = rows / temperature
    logits = scaled @ rows.mT
    # No row is its own partner. Autograd need not know: the softmax is 0 there, and so is the gradient.
    logits.detach().diagonal(0, -2, -1).fill_(-torch.inf)
    partner = (scaled * rows.roll(pairs, dims=-2)).sum(dim=-1)
    if drawn_from is not None and drawn_from > pairs:
        # Others weighing w each is the partner weighing 1 / w: both differ by a constant alone.
        weight = math.log((2 * drawn_from - 2) / (2 * pairs - 2))
        for offset in (pairs, -pairs):
            logits.detach().diagonal(offset, -2, -1).sub_(weight)
        partner = partner - weight
    return (logits.logsumexp(dim=-1) - partner).mean(dim=-1)


def draw(section: SectionTensors, generator: torch.Generator) -> Drawn:
    """Draw the rows that one step of a large section contrasts."""
    device = section.tiles.device
    tiles, spots = (
        torch.randperm(n, generator=generator)[:DRAWN].to(device)
        for n in (len(section.tile_sizes), len(section.tiles))
    )
    return Drawn(tiles, spots)


def loss_terms(
    output: Output,
    section: SectionTensors,
    temperature: float,
    contrast: bool = True,
    drawn: Drawn | None = None,
) -> LossTerms:
    """Compute the terms of eq. 1; pooling and windowing as docs/model.md reads section 3.5.

    `contrast=False` leaves the two NT-Xent terms out; `drawn` has them estimated from a part of the rows.
    """
    reconstruction = (output.reconstruction - output.encoder_input).square().mean(dim=(-2, -1))
    if output.image is None or not contrast:
        return LossTerms(None, None, reconstruction)
    views, neighborhood = (output.image, output.rna), section.neighborhood
    image_p, rna_p = (group_mean(x, section.tiles, section.tile_sizes) for x in views)
    if drawn is not None:
        image_p, rna_p, neighborhood = image_p[drawn.tiles], rna_p[drawn.tiles], neighborhood[drawn.spots]
    image_w, rna_w = (neighborhood_mean(x, neighborhood) for x in views)
    pooled = nt_xent(image_p, rna_p, temperature, len(section.tile_sizes))
    windowed = nt_xent(image_w, rna_w, temperature, len(section.tiles))
    return LossTerms(pooled, windowed, reconstruction)
