"""Layers whose weights may be those of many seeds at once, so that one network trains them side by side.

With the weights of S seeds stacked, (S, ...) in place of (...), a layer gives (S, N, D) where it gave (N, D):
as many kernels are launched for S seeds as for one, and launching them is most of what a small network costs
on a GPU.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional


class Linear(nn.Linear):
    """`nn.Linear`, also with weight (S, out, in) and bias (S, out)."""

    def forward(self, values: Tensor) -> Tensor:
        """Map (N, in) or (S, N, in) to (N, out), or to (S, N, out) with the weights of S seeds."""
        if self.weight.ndim == 2:
            return super().forward(values)
        mapped = values @ self.weight.mT
        return mapped if self.bias is None else mapped + self.bias[:, None]


class LayerNorm(nn.LayerNorm):
    """`nn.LayerNorm` over the last dimension, also with weight and bias (S, D)."""

    def forward(self, values: Tensor) -> Tensor:
        """Normalise every row of (N, D), or of (S, N, D) with the weights of S seeds."""
        if self.weight.ndim == 1:
            return super().forward(values)
        rows = functional.layer_norm(values, self.normalized_shape, eps=self.eps)
        return rows * self.weight[:, None] + self.bias[:, None]
