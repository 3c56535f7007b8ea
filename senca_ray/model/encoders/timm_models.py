"""Any model of timm: its own weights by name, or a local checkpoint with the config.json that came with it.

Names of Hugging Face repositories are not taken: many pathology models ask for a licence to be accepted, so
the user downloads them and gives the file.
"""

from __future__ import annotations

import difflib
import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from senca_ray.errors import SencaError
from senca_ray.model.encoders.checkpoints import load_state, read_checkpoint
from senca_ray.model.encoders.files import CONFIG_FILE, weights_digest
from senca_ray.model.encoders.network import IMAGENET_MEAN, IMAGENET_SD, Colours, Network
from senca_ray.model.encoders.torchvision_models import torchvision_models

PREFIX = "timm:"

_FETCHING = ("pretrained", "pretrained_cfg", "pretrained_cfg_overlay", "checkpoint_path", "cache_dir")
"""Arguments that would load or download something else than the file given."""


def timm_package() -> Any:
    """Import timm, which imports torchvision; raises SencaError where it is not installed."""
    torchvision_models()
    try:
        import timm
    except ImportError as error:
        raise SencaError(f"timm cannot be imported ({error}); install it: pip install timm==1.0.31") from None
    return timm


def close_names(name: str) -> list[str]:
    """Models of timm whose names are like `name`, the closest first."""
    timm = timm_package()
    return [PREFIX + n for n in difflib.get_close_matches(name.partition(".")[0], timm.list_models(), 3, 0.5)]


def timm_network(name: str, weights: Path | None) -> Network:
    """The network timm:ARCHITECTURE or timm:ARCHITECTURE.TAG, with `weights` or those that timm downloads.

    With a file the tag is free: it tells apart two checkpoints of one architecture. Raises SencaError.
    """
    timm, wanted = timm_package(), name.removeprefix(PREFIX)
    architecture = wanted.partition(".")[0]
    if set(wanted) & set("/:\\"):
        raise SencaError(
            f"encoder {name!r}: names of Hugging Face repositories and paths are not taken; download the "
            "checkpoint yourself (you may have to accept a licence) and give it with --encoder-weights: "
            "see docs/encoders.md"
        )
    if not timm.is_model(architecture):
        like = close_names(architecture)
        raise SencaError(
            f"encoder {name!r}: timm {timm.__version__} has no model {architecture!r}"
            + (f"; close to it: {', '.join(like)}" if like else "; timm.list_models() lists them")
        )
    return _downloaded(timm, wanted) if weights is None else _from_file(timm, wanted, weights)


def _downloaded(timm: Any, wanted: str) -> Network:
    architecture, _, tag = wanted.partition(".")
    known = timm.list_pretrained(f"{architecture}.*")
    if not known or (tag and wanted not in known):
        found = f"timm has weights {', '.join(known)}" if known else "timm has no weights of it"
        raise SencaError(
            f"encoder {PREFIX}{wanted}: {found}; choose one, or give a file with --encoder-weights"
        )
    try:
        module = timm.create_model(wanted, pretrained=True, num_classes=0)
    except Exception as error:  # the hub's client raises what it likes
        raise SencaError(
            f"the weights of {PREFIX}{wanted} cannot be downloaded ({' '.join(str(error).split())[:200]}): "
            "fetch model.safetensors of https://huggingface.co/timm by hand and give it with "
            "--encoder-weights, or use --encoder efficientnet-lite0 (its weights are installed)"
        ) from error
    tag = tag or module.pretrained_cfg.get("tag", "")
    return _network(module, f"timm, {tag}" if tag else "timm", {"timm": architecture}, {}, {})


def _from_file(timm: Any, wanted: str, weights: Path) -> Network:
    architecture = wanted.partition(".")[0]
    path = weights.parent / CONFIG_FILE
    config = read_config(path) if path.is_file() else {}
    meant = str(config.get("architecture", architecture)).partition(".")[0]
    if meant != architecture:
        raise SencaError(f"{path}: of {meant}, not {architecture}; use --encoder {PREFIX}{meant}")
    arguments, expected = config.get("model_args", {}), config.get("pretrained_cfg", config)
    module = build(architecture, arguments, path)
    fix = (
        "Where the network was built with other arguments than timm's, they belong into model_args of "
        f"{path}: see docs/encoders.md"
    )
    classifier = module.pretrained_cfg.get("classifier") or ()  # of one layer the name, of several a tuple
    names = [classifier] if isinstance(classifier, str) else list(classifier)
    load_state(module, read_checkpoint(weights), weights, f"timm's {wanted}", [f"{n}." for n in names], fix)
    source = f"weights sha256:{weights_digest(weights)[:12]}"
    return _network(module, source, {"timm": architecture, "arguments": arguments}, arguments, expected)


def read_config(path: Path) -> dict[str, Any]:
    """A config.json as Hugging Face's timm repositories ship it; raises SencaError when it is none."""
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SencaError(f"{path}: cannot be read as JSON ({error}); download it again") from None
    parts = (
        (config, config.get("model_args", {}), config.get("pretrained_cfg", {}))
        if isinstance(config, dict)
        else ()
    )
    if not parts or not all(isinstance(part, dict) for part in parts) or "architecture" not in config:
        raise SencaError(
            f"{path}: expected an object with architecture, model_args and pretrained_cfg, as timm writes "
            "it; where it is of another library, move the weights to a folder of their own"
        )
    return config


def build(architecture: str, arguments: dict[str, Any], path: Path) -> Any:
    """timm's network without classifier, built with the model_args of the config.json at `path`.

    Layers may be given by their name in timm.layers, as "mlp_layer": "SwiGLUPacked". Raises SencaError.
    """
    timm = timm_package()
    if refused := sorted(set(arguments) & set(_FETCHING)):
        raise SencaError(f"{path}: model_args {', '.join(refused)} found; expected none that loads anything")
    given = {**arguments, "num_classes": 0}
    if isinstance(layer := given.get("mlp_layer"), str):
        kind = getattr(timm.layers, layer, None)  # a class, or one with arguments bound
        if not (layer[:1].isupper() and callable(kind)):
            raise SencaError(
                f"{path}: mlp_layer {layer!r} found; expected a layer of timm.layers: SwiGLUPacked"
            )
        given["mlp_layer"] = kind
    try:
        return timm.create_model(architecture, pretrained=False, **given)
    except Exception as error:  # timm checks no argument by itself
        raise SencaError(
            f"{path}: timm's {architecture} cannot be built with model_args {json.dumps(arguments)[:200]}: "
            f"{type(error).__name__}: {error}"
        ) from error


def _network(
    module: Any, source: str, built: dict[str, Any], arguments: dict[str, Any], expected: dict[str, Any]
) -> Network:
    """`expected` is the pretrained_cfg of a config.json; what it leaves out is timm's own."""
    config = {**module.pretrained_cfg, **expected}
    side = arguments.get("img_size") or config["input_size"][-1]
    side = side if isinstance(side, int) else side[-1]
    # A convolutional network takes any size; what cuts the image into tokens was trained for one.
    fixed = config.get("fixed_input_size") or hasattr(module, "patch_embed")
    mean = _colours(config.get("mean", IMAGENET_MEAN), "mean")
    sd = _colours(config.get("std", IMAGENET_SD), "std")
    return Network(Pooled(module), source, mean, sd, side if fixed else None, built)


def _colours(values: Any, name: str) -> Colours:
    match values:
        case [int() | float() as red, int() | float() as green, int() | float() as blue]:
            return float(red), float(green), float(blue)
        case _:
            raise SencaError(f"{CONFIG_FILE}: {name} {values!r} found; expected three numbers, one a colour")


class Pooled(nn.Module):
    """A network of timm, its tokens pooled where it gives them as they are (global_pool "").

    Then the class token and the mean of the patch tokens side by side, register tokens left out, as the
    makers of Virchow use theirs.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        """Shapes: images (B, 3, S, S); returns (B, F)."""
        found: Tensor = self.network(images)
        if found.ndim == 3:
            patches = found[:, int(getattr(self.network, "num_prefix_tokens", 0)) :].mean(dim=1)
            has_class = getattr(self.network, "has_class_token", False)
            found = torch.cat([found[:, 0], patches], dim=1) if has_class else patches
        if found.ndim != 2:
            raise SencaError(
                f"the encoder gives {tuple(found.shape)} for a batch of images; expected a vector for each: "
                f"leave global_pool out of the model_args of its {CONFIG_FILE}"
            )
        return found
