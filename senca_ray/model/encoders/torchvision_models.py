"""ResNets of torchvision, and importing torchvision at all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from senca_ray.errors import SencaError
from senca_ray.files import sha256
from senca_ray.model.encoders.checkpoints import load_state, read_checkpoint
from senca_ray.model.encoders.network import Network

_FAMILIES = ("resnet", "resnext", "wide_resnet")

_operators: torch.library.Library | None = None


def torchvision_models() -> Any:
    """Import torchvision's models, also beside a torch without CUDA libraries; timm needs it done first.

    torchvision 0.28.0 fails to import there because its binary part, which defines two detection
    operators, cannot be loaded; declaring the two makes everything that we use work.
    """
    global _operators
    try:
        from torchvision import models
    except RuntimeError as error:
        if "torchvision::nms" not in str(error):
            raise
        _operators = torch.library.Library("torchvision", "DEF")
        _operators.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _operators.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        from torchvision import models
    return models


def resnets() -> tuple[str, ...]:
    """Names of torchvision's ResNets, ResNeXts and wide ResNets."""
    models = torchvision_models()
    return tuple(name for name in models.list_models(module=models) if name.startswith(_FAMILIES))


def resnet(name: str, weights: Path | None, instead: str) -> Network:
    """One of `resnets()`, with ImageNet's weights (downloaded) or those of a file.

    `instead` says what else can be done where nothing can be downloaded. Raises SencaError.
    """
    models = torchvision_models()
    network = getattr(models, name)(weights=None)
    network.fc = nn.Identity()
    if weights is None:
        url = models.get_model_weights(name).DEFAULT.url
        try:
            state = torch.hub.load_state_dict_from_url(url, map_location="cpu", weights_only=True)
        except OSError as error:  # URLError among them
            raise SencaError(
                f"the ImageNet weights of {name} cannot be downloaded ({error}): fetch {url} by hand and "
                f"give it with --encoder-weights, or {instead}"
            ) from None
        file, source = Path(url.rpartition("/")[2]), "ImageNet, torchvision"
    else:
        state, file = read_checkpoint(weights), weights
        source = f"weights sha256:{sha256(weights)[:12]}"
    load_state(network, state, file, name, ignored=("fc.",))
    return Network(network, source, built={"torchvision": name})


def random_resnet() -> Network:
    """ResNet18 with weights drawn from seed 0: a control, and for trying things out."""
    models = torchvision_models()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = models.resnet18(weights=None)
    network.fc = nn.Identity()
    return Network(network, "random weights, seed 0", built={"torchvision": "resnet18"})
