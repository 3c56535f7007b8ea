"""Training of the image encoder together with the network, in memory that a section's size does not set.

One step of a full graph needs the features of all patches at once, the encoder's activations for all of them
would take tens of gigabytes. So the gradient is cached at the features: they are computed chunk by chunk
without keeping activations, the loss gives a gradient for each of them, and every chunk is encoded once more
to take its part of that gradient on to the weights. Source: SENCA-st sections 3.3 and 4.1.1.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from senca_ray.config import Setting
from senca_ray.data.sample import Sample
from senca_ray.errors import SencaError
from senca_ray.model.image_encoder import Encoder, load_encoder

_CHUNK_CPU, _CHUNK_GPU = 8, 128
"""Patches encoded together; fixed, because the number decides in which order gradients are summed. On a core
32 of EfficientNet-Lite0 at 224 pixels take 0.17 s a patch and epoch and 3.4 GB, 8 take 0.12 s and 1.4 GB."""


@dataclass
class TunedEncoder:
    """An encoder under training and the patches of one section: N patches, F features."""

    patches: np.ndarray
    """(N, S, S, 3) uint8."""
    encode: Callable[[np.ndarray], Tensor]
    """Some patches to their features (n, F), the same every time: no dropout, no statistics of a batch."""
    parameters: list[Tensor]
    """Its weights; those of its normalisation layers' statistics are none of them."""
    chunk: int
    _features: Tensor | None = field(default=None, init=False)

    def features(self) -> Tensor:
        """(N, F), a leaf: the loss leaves its gradient here, and `backward` takes it on to the weights."""
        with torch.no_grad():
            found = torch.cat([self.encode(self.patches[rows]) for rows in self._chunks()])
        self._features = found.requires_grad_()
        return found

    def backward(self) -> None:
        """Add the weights' gradients, after the loss of what `features` gave last went backward."""
        gradient = None if self._features is None else self._features.grad
        if gradient is None:
            raise RuntimeError("no gradient at the features; call `features`, then `backward` of the loss")
        for rows in self._chunks():
            self.encode(self.patches[rows]).backward(gradient[rows])

    def _chunks(self) -> Iterator[slice]:
        return (slice(start, start + self.chunk) for start in range(0, len(self.patches), self.chunk))


def tunes(sample: Sample, setting: Setting) -> bool:
    """Whether this setting trains the image encoder on this sample: not on one without an image."""
    return setting.tunes_encoder and sample.image_features is not None


def load_tuned(sample: Sample, device: str) -> TunedEncoder:
    """Load the encoder of the sample's features, with the weights that they were computed with.

    Its normalisation layers keep the statistics that they came with. It computes in bfloat16 on a GPU.
    Raises SencaError where the sample has no patches, or its encoder's weights came from a file.
    """
    if sample.patches is None:
        raise SencaError(
            f"{sample.name}: no patches to fine-tune the image encoder on; prepare with `senca prepare DATA "
            "--patches` and read the shard with patches=True, or set finetune=false"
        )
    encoder = _encoder(sample, device)
    network = encoder.network.module
    network.eval()  # also what keeps patches of a chunk from seeing each other, and both passes alike
    parameters: list[Tensor] = list(network.parameters())
    for parameter in parameters:
        parameter.requires_grad_(True)
    chunk = _CHUNK_CPU if device == "cpu" else _CHUNK_GPU
    return TunedEncoder(sample.patches, encoder.forward, parameters, chunk)


def _encoder(sample: Sample, device: str) -> Encoder:
    fix = "fine-tune one that is prepared without --encoder-weights, or set finetune=false"
    problem = f"{sample.name}: its features are of the encoder {sample.encoder},"
    if not sample.encoder_asked:
        raise SencaError(f"{problem} which its shard does not name; prepare it again: `senca prepare DATA`")
    precision = "float32" if device == "cpu" else "bfloat16"
    try:
        encoder = load_encoder(sample.encoder_asked, None, device, precision)
    except SencaError as error:
        raise SencaError(f"{problem} which cannot be loaded by its name ({error}); {fix}") from None
    if encoder.name != sample.encoder:
        raise SencaError(f"{problem} by its name comes {encoder.name}, other weights to start from; {fix}")
    return encoder
