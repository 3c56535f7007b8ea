"""The image side of CONCH (Lu et al., Nature Medicine 2024): a vision transformer and an attention pooling.

No model of timm: its tokens are pooled by one learnt query. What it gives here is the embedding before the
projection into the space that images share with captions, which its authors use for tasks without text.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from senca_ray.errors import SencaError
from senca_ray.files import sha256
from senca_ray.model.encoders.checkpoints import load_state, read_checkpoint
from senca_ray.model.encoders.network import Network
from senca_ray.model.encoders.timm_models import timm_package

CONCH = "conch"

_PIXELS, _WIDTH, _DEPTH, _HEADS, _FEATURES, _POOL_HEADS = 448, 768, 12, 12, 512, 8
_VISUAL = "visual."
"""Prefix of the image side's tensors; the others are of the text."""
_CAPTIONS = ("attn_pool_caption.", "ln_caption.", "proj_contrast")
"""What only captions and the comparison with text need."""
_MEAN, _SD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


class _AttentionPool(nn.Module):
    """One learnt query that attends to all tokens; names are those of the checkpoint's tensors."""

    def __init__(self, features: int, width: int, heads: int) -> None:
        super().__init__()
        self.query = nn.Parameter(torch.zeros(1, features))
        self.attn = nn.MultiheadAttention(features, heads, kdim=width, vdim=width, batch_first=True)
        self.ln_q = nn.LayerNorm(features)
        self.ln_k = nn.LayerNorm(width)

    def forward(self, tokens: Tensor) -> Tensor:
        """Shapes: tokens (B, T, W); returns (B, F)."""
        seen = self.ln_k(tokens)
        asked = self.ln_q(self.query).expand(len(tokens), -1, -1)
        pooled, _ = self.attn(asked, seen, seen, need_weights=False)
        return pooled[:, 0]


class ConchVision(nn.Module):
    """The image side; names are those of the checkpoint's tensors."""

    def __init__(
        self, pixels: int = _PIXELS, width: int = _WIDTH, depth: int = _DEPTH, features: int = _FEATURES
    ) -> None:
        super().__init__()
        transformer = timm_package().models.vision_transformer.VisionTransformer
        self.trunk = transformer(
            img_size=pixels, patch_size=16, embed_dim=width, depth=depth, num_heads=_HEADS, num_classes=0
        )
        self.attn_pool_contrast = _AttentionPool(features, width, _POOL_HEADS)
        self.ln_contrast = nn.LayerNorm(features)

    def forward(self, images: Tensor) -> Tensor:
        """Shapes: images (B, 3, S, S); returns (B, F)."""
        pooled: Tensor = self.ln_contrast(self.attn_pool_contrast(self.trunk.forward_features(images)))
        return pooled


def conch(weights: Path | None) -> Network:
    """CONCH with the weights of its pytorch_model.bin; raises SencaError without it."""
    if weights is None:
        raise SencaError(
            "CONCH's weights are yours to download, once you have accepted its licence "
            "(https://huggingface.co/MahmoodLab/CONCH); give pytorch_model.bin with --encoder-weights "
            f"{CONCH}=FILE"
        )
    module = ConchVision()
    load_conch(module, weights)
    source = f"weights sha256:{sha256(weights)[:12]}"
    return Network(module, source, _MEAN, _SD, _PIXELS, {"network": CONCH})


def load_conch(module: nn.Module, weights: Path) -> None:
    """Give `module` the image side's tensors of a checkpoint; raises SencaError."""
    state = read_checkpoint(weights)
    visual = {n.removeprefix(_VISUAL): t for n, t in state.items() if n.startswith(_VISUAL)}
    load_state(module, visual or state, weights, "CONCH's image side", _CAPTIONS)
