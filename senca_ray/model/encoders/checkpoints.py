"""Reading a file of weights into a network: tensors only, never code."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from senca_ray.errors import SencaError

_INSIDE = ("state_dict", "model", "teacher")
"""Under what names training programs keep the tensors beside other things."""
_NAMED = 3
"""How many names of tensors a message gives."""


def read_checkpoint(file: Path) -> dict[str, Tensor]:
    """The tensors of a .safetensors, .pth or .bin file by name; raises SencaError."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    found: Any
    try:
        if file.suffix == ".safetensors":
            found = load_file(file)
        else:
            found = torch.load(file, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, ValueError, pickle.UnpicklingError, SafetensorError) as error:
        raise SencaError(
            f"{file}: cannot be read as a state dict of tensors ({_short(error)}); expected .safetensors, or "
            "what torch.save writes of a state dict: download it again, or save it as such"
        ) from None
    while isinstance(found, dict) and (inside := [n for n in _INSIDE if isinstance(found.get(n), dict)]):
        found = found[inside[0]]
    if not isinstance(found, dict) or not any(isinstance(value, Tensor) for value in found.values()):
        raise SencaError(
            f"{file}: expected a state dict of tensors, found {type(found).__name__} without any"
        )
    return {str(name): value for name, value in found.items() if isinstance(value, Tensor)}


def load_state(
    module: nn.Module,
    state: dict[str, Tensor],
    file: Path,
    what: str,
    ignored: Sequence[str] = (),
    fix: str = "",
) -> None:
    """Give `module` the tensors of `state`, read from `file`; raises SencaError naming what does not fit.

    `what` is the network in words. Tensors whose names begin with one of `ignored` are left out where the
    network has none of that name: those of a classifier. `fix` says what to do.
    """
    own = module.state_dict()
    state = _without_prefix(state, own)
    given = {n: t for n, t in state.items() if n in own or not n.startswith(tuple(ignored))}
    missing = [name for name in own if name not in given]
    unexpected = [name for name in given if name not in own]
    shapes = [
        f"{name} {tuple(given[name].shape)} instead of {tuple(tensor.shape)}"
        for name, tensor in own.items()
        if name in given and given[name].shape != tensor.shape
    ]
    listed = (("missing", missing), ("unexpected", unexpected), ("of another shape", shapes))
    wrong = [f"{len(names)} {word}: {_some(names)}" for word, names in listed if names]
    if wrong:
        raise SencaError(
            f"{file}: not the weights of {what}: of its {len(own)} tensors {'; '.join(wrong)}. "
            f"{fix or 'Name the encoder that these weights are of, or give its own file'}"
        )
    module.load_state_dict(given)


def _without_prefix(state: dict[str, Tensor], wanted: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors without a prefix that all names share and the network does not know, as 'module.'."""
    while state and not state.keys() & wanted.keys():
        heads = {name.partition(".")[0] for name in state}
        if len(heads) > 1 or not all("." in name for name in state):
            break
        state = {name.partition(".")[2]: tensor for name, tensor in state.items()}
    return state


def _some(names: Sequence[str]) -> str:
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more} more" if more > 0 else "")


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
