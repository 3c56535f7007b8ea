"""The whole network: two branches, neighbourhood cross-attention, shared encoder and decoder (Figure 1)."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor, nn

from senca_ray.config import Setting
from senca_ray.model.cross_attention import NeighborhoodCrossAttention
from senca_ray.model.graph_transformer import Blocks, GraphTransformer
from senca_ray.model.layers import LayerNorm, Linear


class SectionTensors(NamedTuple):
    """One section as the network and the loss read it: N spots, T tiles."""

    expression: Tensor
    """(N, G) float32, log-normalised."""
    neighborhood: Tensor
    """(N, K+1) int64; column 0 is the spot itself, then its neighbours, nearest first."""
    tiles: Tensor
    """(N,) int64, the tile in which a spot is pooled."""
    tile_sizes: Tensor
    """(T,) float32, spots in each tile."""
    image_features: Tensor | None
    """(N, F) float32 features of the image encoder, standardised over the section; None without an image."""
    blocks: Blocks | None = None
    """Of a section in its large form; None in the exact one, where spots meet all spots."""


class Output(NamedTuple):
    """Everything that the loss or a caller looks at."""

    rna: Tensor
    """R (N, E)."""
    image: Tensor | None
    """H (N, E); None without an image."""
    encoder_input: Tensor
    """E_i (N, E), as the encoder receives it and the decoder has to give it back."""
    embedding: Tensor
    """S (N, bottleneck), the shared embedding that is clustered."""
    reconstruction: Tensor
    """D_i (N, E)."""


def standardise(values: Tensor) -> Tensor:
    """Give every column of (N, D) mean 0 and variance 1 over the N spots; constant columns become 0."""
    centred = values - values.mean(dim=-2, keepdim=True)
    return centred * (centred.square().mean(dim=-2, keepdim=True) + 1e-8).rsqrt()


class Senca(nn.Module):
    """SENCA-st on features of the image encoder, or on expression alone where a section has no image.

    It holds no state besides its weights and draws no random numbers, so that it can be run through
    `torch.func.functional_call` with the stacked weights and masks of S seeds, (S, ...) each: every output
    then has S before its shape.
    """

    def __init__(self, genes: int, features: int | None, setting: Setting) -> None:
        """`features` is the length F of the image features; None leaves the image branch out."""
        super().__init__()
        embedding = setting.embedding
        self.target = setting.target
        self.rna_branch = GraphTransformer(genes, embedding, setting.hidden)
        if features is not None:
            self.image_branch = Linear(features, embedding)
        self.cross_attention = NeighborhoodCrossAttention(
            embedding, setting.softmax, features is not None, setting.attention
        )
        self.encoder = Linear(embedding, setting.bottleneck)
        self.decoder = Linear(setting.bottleneck, embedding)

    def draw_weights(self) -> None:
        """Draw all weights anew from the process's generator, as building the network does."""
        for layer in self.modules():
            if isinstance(layer, Linear | LayerNorm):
                layer.reset_parameters()

    def forward(self, section: SectionTensors, mask: Tensor | None = None) -> Output:
        """Embed every spot of a section; mask (N, G) drops expression in training. Source: eq. 2."""
        rna = self.rna_branch(section.expression, section.neighborhood, mask, section.blocks)
        image = None if section.image_features is None else self.image_branch(section.image_features)
        fused = self.cross_attention(rna, image, section.neighborhood)
        encoder_input = standardise(fused) if self.target == "standardised" else fused
        embedding = self.encoder(encoder_input)
        return Output(rna, image, encoder_input, embedding, self.decoder(embedding))
