"""A plain graph-convolution autoencoder: what a graph network does without any further idea."""

from __future__ import annotations

from types import MappingProxyType

from senca_ray import keys
from senca_ray.config import Setting
from senca_ray.data.sample import Sample
from senca_ray.fit.determinism import one_thread
from senca_ray.methods.base import Embedding, Method
from senca_ray.methods.graph_training import edge_index, fit_full_graph
from senca_ray.methods.smoothing import standardised


class GcnAutoencoder(Method):
    """Two graph convolutions over 4 neighbours into the bottleneck, a linear layer back to expression.

    The neural control of the published graph networks. Its settings are round numbers of the field, set once
    before any score was seen.
    """

    name = "gcn-autoencoder"
    title = "expression only: 2,000 HVGs, z-score, graph-convolution autoencoder over 4 neighbours, k-means"
    citation = "graph convolution: Kipf & Welling, ICLR 2017; graph autoencoder: Kipf & Welling, arXiv 2016"
    kind = keys.PUBLISHED
    source = keys.OURS
    settings = MappingProxyType(
        {
            "hvgs": 2000,
            "neighbors": 4,
            "hidden": 128,
            "bottleneck": 32,
            "epochs": 200,
            "learning_rate": 1e-3,
        }
    )
    clusterings = ("kmeans",)

    def genes_needed(self, setting: Setting) -> int:
        """2,000, whatever the setting."""
        return self.settings["hvgs"]

    @one_thread()
    def embed(self, sample: Sample, setting: Setting, seed: int) -> Embedding:
        """Train on the section and return the bottleneck, (N, 32)."""
        import torch
        from torch_geometric.nn import GAE, GCN

        own = self.settings
        expression = sample.expression(min(own["hvgs"], len(sample.genes)))
        scores = torch.from_numpy(standardised(expression))
        edges = edge_index(sample.nearest(own["neighbors"]), self_loops=False)  # GCN adds them
        genes = scores.shape[1]

        def make() -> GAE:
            # `cached`: one section has one graph, whose normalisation does not change.
            encoder = GCN(genes, own["hidden"], num_layers=2, out_channels=own["bottleneck"], cached=True)
            return GAE(encoder, torch.nn.Linear(own["bottleneck"], genes))

        def loss(network: GAE, _: int) -> torch.Tensor:
            return torch.nn.functional.mse_loss(network.decode(network.encode(scores, edges)), scores)

        network, losses = fit_full_graph(
            make, loss, epochs=own["epochs"], learning_rate=own["learning_rate"], seed=seed
        )
        with torch.no_grad():
            return Embedding(network.encode(scores, edges).numpy(), losses)
