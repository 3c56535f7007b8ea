"""The loss of eq. 1: two NT-Xent terms and the weighted reconstruction error."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from senca_ray.model.graph_transformer import neighborhood_mean
from senca_ray.model.senca import Output, SectionTensors


class LossTerms(NamedTuple):
    """The terms of eq. 1, unweighted scalars; None where there is nothing to contrast, or it is left out."""

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


def nt_xent(first: Tensor, second: Tensor, temperature: float) -> Tensor:
    """Contrast the rows of two views, row i of one with row i of the other; both (M, E).

    Each of the 2M rows has to tell its partner from the 2M - 2 other rows, by cosine similarity.
    Returns the mean over the 2M rows. Source: NT-Xent of SimCLR, the paper's [5].
    """
    rows = functional.normalize(torch.cat([first, second]), dim=1)
    # Dividing the rows, not the (2M, 2M) product, by the temperature is the same and cheaper.
    logits = (rows / temperature) @ rows.T
    # No row is its own partner. Autograd need not know: the softmax is 0 there, and so is the gradient.
    logits.detach().diagonal().fill_(-torch.inf)
    partner = torch.arange(len(rows), device=rows.device).roll(len(first))
    return functional.cross_entropy(logits, partner)


def tile_mean(values: Tensor, tiles: Tensor, tile_sizes: Tensor) -> Tensor:
    """Pool (N, E) to the mean of each tile; tiles (N,) int64, tile_sizes (T,). Returns (T, E)."""
    sums = values.new_zeros(len(tile_sizes), values.shape[1]).index_add(0, tiles, values)
    return sums / tile_sizes[:, None]


def loss_terms(
    output: Output, section: SectionTensors, temperature: float, contrast: bool = True
) -> LossTerms:
    """Compute the terms of eq. 1; pooling and windowing as docs/model.md reads section 3.5.

    `contrast=False` leaves the two NT-Xent terms out.
    """
    reconstruction = functional.mse_loss(output.reconstruction, output.encoder_input)
    if output.image is None or not contrast:
        return LossTerms(None, None, reconstruction)
    image_p, rna_p = (tile_mean(x, section.tiles, section.tile_sizes) for x in (output.image, output.rna))
    image_w, rna_w = (neighborhood_mean(x, section.neighborhood) for x in (output.image, output.rna))
    pooled, windowed = nt_xent(image_p, rna_p, temperature), nt_xent(image_w, rna_w, temperature)
    return LossTerms(pooled, windowed, reconstruction)
