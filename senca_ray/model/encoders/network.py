"""A network without its classifier, and what it wants to see."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import nn

Colours = tuple[float, float, float]

IMAGENET_MEAN, IMAGENET_SD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Network:
    """Images (B, 3, S, S) in, features (B, F) out."""

    module: nn.Module
    source: str
    """Where its weights come from, in the words of tables."""
    mean: Colours = IMAGENET_MEAN
    """Mean of each colour channel (0 to 1) that the network expects to be subtracted."""
    sd: Colours = IMAGENET_SD
    pixels: int | None = None
    """Side S of the images it takes; None where it takes any."""
    built: Mapping[str, Any] = field(default_factory=dict)
    """What else than its weights decides what it computes: architecture, arguments. JSON values only."""

    def identity(self) -> str:
        """Hex digest of everything that its features follow from: the same network, wherever it came from."""
        about = {"mean": self.mean, "sd": self.sd, "pixels": self.pixels, **self.built}
        found = hashlib.sha256(json.dumps(about, sort_keys=True).encode())
        for name, tensor in sorted(self.module.state_dict().items()):
            found.update(f"\n{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
            found.update(tensor.detach().cpu().contiguous().numpy().ravel().data)
        return found.hexdigest()
