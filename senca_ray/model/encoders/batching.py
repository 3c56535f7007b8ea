"""How many patches are encoded together."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from senca_ray.errors import SencaError

_FIRST = 32
"""On a CPU also the last: larger batches are no faster on a core and cost memory, and with one size the same
patches always give the same features, bit by bit."""
_MOST = 1024
"""Beyond this no encoder was seen to get faster."""


class Batches:
    """Cuts patches into batches; on a GPU as large as memory allows, found by trying and remembered."""

    def __init__(self, device: str) -> None:
        self.size = _FIRST
        self._growing = device != "cpu"

    def run(self, patches: np.ndarray, encode: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
        """Encode all patches, (N, ...) to (N, F); raises SencaError when memory is too little for one."""
        found, start = [], 0
        while start < len(patches):
            batch = patches[start : start + self.size]
            try:
                features = encode(batch)
            except torch.OutOfMemoryError:
                # What failed is freed only after this block, with the error that refers to it.
                self._growing, features = False, None
            if features is None:
                self._shrink(len(batch))
                continue
            found.append(features)
            start += len(batch)
            if self._growing and len(batch) == self.size:
                self.size = min(2 * self.size, _MOST)
        return np.concatenate(found)

    def _shrink(self, failed: int) -> None:
        if failed == 1:
            raise SencaError(
                "the GPU's memory is too little for one patch; use a smaller encoder, --set "
                "precision=bfloat16 or smaller patches (--set patch_pixels=...), or end what else runs there"
            )
        self.size = failed // 2
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
