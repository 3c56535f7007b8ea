"""The documented shapes, checked at run time; jaxtyping is needed by this file alone."""

# ruff: noqa: F722 - jaxtyping writes shapes as strings inside annotations

import torch
from beartype import beartype
from jaxtyping import Float, Int64, jaxtyped
from torch import Tensor

from senca_ray.config import Setting
from senca_ray.model.cross_attention import NeighborhoodCrossAttention, neighborhood_attention
from senca_ray.model.graph_transformer import (
    GraphTransformer,
    group_mean,
    neighborhood_mean,
    self_attention,
)
from senca_ray.model.losses import nt_xent
from senca_ray.model.senca import SectionTensors, Senca

checked = jaxtyped(typechecker=beartype)

N, G, F, E, K, T = 7, 10, 6, 8, 2, 3


@checked
def attend(
    query: Float[Tensor, "N E"],
    key: Float[Tensor, "N E"],
    value: Float[Tensor, "N D"],
    neighborhood: Int64[Tensor, "N K"],
) -> Float[Tensor, "N D"]:
    return neighborhood_attention(query, key, value, neighborhood, "neighbours")


@checked
def attend_all(
    query: Float[Tensor, "N E"], key: Float[Tensor, "N E"], value: Float[Tensor, "N E"]
) -> Float[Tensor, "N E"]:
    return self_attention(query, key, value)


@checked
def mean(values: Float[Tensor, "N E"], neighborhood: Int64[Tensor, "N K"]) -> Float[Tensor, "N E"]:
    return neighborhood_mean(values, neighborhood)


@checked
def pool(
    values: Float[Tensor, "N E"], tiles: Int64[Tensor, " N"], sizes: Float[Tensor, " T"]
) -> Float[Tensor, "T E"]:
    return group_mean(values, tiles, sizes)


@checked
def contrast(first: Float[Tensor, "M E"], second: Float[Tensor, "M E"]) -> Float[Tensor, ""]:
    return nt_xent(first, second, 0.5)


@checked
def fuse(
    rna: Float[Tensor, "N E"], image: Float[Tensor, "N E"], neighborhood: Int64[Tensor, "N K"]
) -> Float[Tensor, "N E"]:
    return NeighborhoodCrossAttention(E, "neighbours", image=True)(rna, image, neighborhood)


@checked
def embed_rna(
    expression: Float[Tensor, "N G"], neighborhood: Int64[Tensor, "N K"], mask: Float[Tensor, "N G"]
) -> Float[Tensor, "N 8"]:
    return GraphTransformer(G, E, 5)(expression, neighborhood, mask)


def test_shapes_are_the_documented_ones() -> None:
    torch.manual_seed(0)
    rna, image = torch.randn(2, N, E)
    neighborhood = torch.stack([torch.arange(N), *torch.randint(N, (K, N))], dim=1)
    attend(rna, image, torch.randn(N, 3), neighborhood)
    attend_all(rna, image, rna)
    mean(rna, neighborhood)
    pool(rna, torch.arange(N) % T, torch.tensor([3.0, 2.0, 2.0]))
    contrast(rna, image)
    fuse(rna, image, neighborhood)
    embed_rna(torch.rand(N, G), neighborhood, torch.ones(N, G))


def test_the_network_gives_every_output_its_documented_shape() -> None:
    section = SectionTensors(
        expression=torch.rand(N, G),
        neighborhood=torch.arange(N)[:, None].repeat(1, K + 1),
        tiles=torch.arange(N) % T,
        tile_sizes=torch.tensor([3.0, 2.0, 2.0]),
        image_features=torch.randn(N, F),
    )
    output = Senca(G, F, Setting(hvgs=G, embedding=E, hidden=5, bottleneck=4))(section)

    @checked
    def check(
        rna: Float[Tensor, "7 8"],
        image: Float[Tensor, "7 8"],
        encoder_input: Float[Tensor, "7 8"],
        embedding: Float[Tensor, "7 4"],
        reconstruction: Float[Tensor, "7 8"],
    ) -> None: ...

    check(*output)
