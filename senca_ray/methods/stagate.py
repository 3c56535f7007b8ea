"""STAGATE: an autoencoder whose spots attend to the spots around them (Dong & Zhang 2022), reimplemented.

Its weights: `outer` (G, H) and `inner` (H, B) of the encoder, `inner_back` (B, H) and `outer_back` (H, G) of
the decoder, which are these transposed, and the attention's vectors `of_spot` and `of_neighbor` (1, H).
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from senca_ray import keys
from senca_ray.config import Setting
from senca_ray.data.sample import Sample
from senca_ray.fit.threads import one_thread
from senca_ray.methods.base import Embedding, Method
from senca_ray.methods.graph_training import fit_full_graph

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import ParameterDict

_GAIN = 1.414
"""Of the first weights, as in the authors' PyTorch release."""


class Stagate(Method):
    """Graph attention autoencoder on 3,000 HVGs: a spot attends to itself and the spots within a radius."""

    name = "stagate"
    title = "STAGATE: graph attention autoencoder, spots within 1.5 spot distances, Gaussian mixture"
    citation = "Dong & Zhang, Nature Communications 13:1739, 2022"
    kind = keys.PUBLISHED
    source = keys.REIMPLEMENTED
    checked = (
        "Read: the authors' TensorFlow and PyTorch releases (sigmoid before the softmax, one attention for "
        "encoder and decoder). Run beside the PyTorch one (stagate-modern 1.0.0.post1) from the same first "
        "weights on HER2ST B1 and C1: losses of the first 190 epochs agree to 1e-6 of themselves; then they "
        "part, for training magnifies rounding, so scores of single sections differ between programs. Mean "
        "ARI on the eight annotated sections, one seed each: Gaussian mixture 0.196 (authors' code 0.171), "
        "k-means 0.196 (0.196). Differs: genes in the shard's order of dispersion; sklearn's mixture for "
        "mclust's EEE; no cell-type-aware network, which the PyTorch release has not either."
    )
    modality = "expression and coordinates"
    slow = True
    settings = MappingProxyType(
        {
            "hvgs": 3000,
            "radius": 1.5,
            "hidden": 512,
            "bottleneck": 30,
            "epochs": 1000,
            "learning_rate": 1e-3,
            "weight_decay": 1e-4,
            "clip": 5.0,
        }
    )
    clusterings = ("gmm-tied", "kmeans")

    def genes_needed(self, setting: Setting) -> int:
        """3,000, whatever the setting."""
        return self.settings["hvgs"]

    @one_thread()
    def embed(self, sample: Sample, setting: Setting, seed: int) -> Embedding:
        """Train on the section and return the bottleneck, (N, 30)."""
        import torch

        own = self.settings
        expression = torch.from_numpy(sample.expression(min(own["hvgs"], len(sample.genes))))
        edges = edges_within(sample.xy, own["radius"])

        def make() -> ParameterDict:
            return initial_weights(expression.shape[1], own["hidden"], own["bottleneck"])

        def loss(weights: ParameterDict, _: int) -> Tensor:
            return torch.nn.functional.mse_loss(forward(weights, expression, edges)[1], expression)

        weights, losses = fit_full_graph(
            make,
            loss,
            epochs=own["epochs"],
            learning_rate=own["learning_rate"],
            weight_decay=own["weight_decay"],
            clip=own["clip"],
            seed=seed,
        )
        with torch.no_grad():
            return Embedding(forward(weights, expression, edges)[0].numpy(), losses)


class Edges(NamedTuple):
    """Whom each of N spots attends to, itself included: M edges, those of a spot one after the other."""

    neighbor: Tensor
    """(M,) int64."""
    spot: Tensor
    """(M,) int64, ascending."""
    first: Tensor
    """(N + 1,) int64: where the edges of each spot begin, and M."""


def edges_within(xy: np.ndarray, radius: float) -> Edges:
    """Join every spot to itself and to all spots at most `radius` away; xy (N, 2) in the radius's unit."""
    import torch
    from scipy.spatial import cKDTree

    pairs = cKDTree(xy).query_pairs(radius, output_type="ndarray").T
    itself = np.arange(len(xy))
    spot, neighbor = np.concatenate([pairs, pairs[::-1], [itself, itself]], axis=1).astype(np.int64)
    order = np.lexsort([neighbor, spot])
    first = np.searchsorted(spot[order], np.arange(len(xy) + 1))
    return Edges(*(torch.from_numpy(part) for part in (neighbor[order], spot[order], first)))


def initial_weights(genes: int, hidden: int, bottleneck: int) -> ParameterDict:
    """Draw the network's weights from torch's global generator."""
    import torch
    from torch.nn import Parameter, ParameterDict

    shapes = {
        "of_spot": (1, hidden),
        "of_neighbor": (1, hidden),
        "outer": (genes, hidden),
        "inner": (hidden, bottleneck),
    }
    weights = ParameterDict({name: Parameter(torch.empty(shape)) for name, shape in shapes.items()})
    for name in ("outer", "inner"):
        torch.nn.init.xavier_normal_(weights[name], _GAIN)
    for name in ("of_spot", "of_neighbor"):
        # The release keeps them as (1, 1, H), for which fan-in and fan-out are H each.
        torch.nn.init.normal_(weights[name], std=_GAIN / hidden**0.5)
    # Tied as in the release: parameters of their own on the memory of the encoder's. So the matrices are the
    # same at every moment, and take a step of Adam for the encoder's gradient and one for the decoder's,
    # which trains otherwise than one step for the sum of both.
    for name in ("inner", "outer"):
        weights[f"{name}_back"] = Parameter(weights[name].data.T)
    return weights


def attention(weights: ParameterDict, hidden: Tensor, edges: Edges) -> Tensor:
    """How much each edge counts: hidden (N, H), returns (M,); the edges of a spot add up to 1."""
    from torch_geometric.utils import softmax

    of_spot, of_neighbor = ((hidden * weights[name]).sum(1) for name in ("of_spot", "of_neighbor"))
    logits = (of_spot[edges.spot] + of_neighbor[edges.neighbor]).sigmoid()
    return softmax(logits, ptr=edges.first)


def forward(weights: ParameterDict, expression: Tensor, edges: Edges) -> tuple[Tensor, Tensor]:
    """Encode and decode: expression (N, G); returns the embedding (N, B) and the reconstruction (N, G)."""
    from torch.nn.functional import elu, embedding_bag

    def attend(values: Tensor) -> Tensor:
        # A weighted sum of rows a spot, without the (M, H) messages in between: several times faster.
        starts = edges.first[:-1]
        return embedding_bag(edges.neighbor, values, starts, mode="sum", per_sample_weights=shares)

    hidden = expression @ weights["outer"]
    shares = attention(weights, hidden, edges)
    embedding = elu(attend(hidden)) @ weights["inner"]
    decoded = elu(attend(embedding @ weights["inner_back"]))
    return embedding, decoded @ weights["outer_back"]
