"""conST: a graph autoencoder of expression (and image), then contrast at three scales and soft clusters."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from senca_ray import keys
from senca_ray.config import Setting
from senca_ray.data.sample import ALL_GENES, Sample
from senca_ray.methods.base import Embedding, Method
from senca_ray.methods.const_terms import (
    context_of,
    divergence,
    edge_loss,
    memberships,
    sharpened,
    told_apart,
)
from senca_ray.methods.smoothing import standardised

if TYPE_CHECKING:
    from torch import Tensor, nn

_HIGHLY_EXPRESSED = 0.05
"""A gene with more than this share of the counts of any spot is left out of all spots' totals."""


class ConSt(Method):
    """Trained in two stages on the section itself: rebuilding its input, then contrast and clusters."""

    name = "const"
    title = "conST: graph autoencoder, then contrast of spots, contexts and section, Leiden"
    citation = "Zong et al., conST, bioRxiv 2022"
    kind = keys.PUBLISHED
    source = keys.REIMPLEMENTED
    modality = "expression, and image where there is one"
    clusterings = ("leiden", "kmeans")
    checked = (
        "Followed, after the authors' public code and its settings: 300 principal components of z-scored "
        "shares of counts; 200 epochs of rebuilding expression and edges; 200 of contrasting a spot with "
        "itself, its context and a summary, beside deep embedded clustering; Leiden. Where code and "
        "description differ, the code is followed: the summary is of a spot's own features, and the "
        "context's term counts in full. Their image branch does not run as released (it calls a function "
        "that is not there), so it follows the description, on frozen features of the image encoder in "
        "place of a masked autoencoder's. Left out: weights trained on another tissue, refinement of the "
        "regions, and as many contexts as regions (7 instead). Without images the mean ARI over the eight "
        "annotated sections was 0.140 (Leiden, 3 seeds), that of the authors' own code trained from scratch"
        " 0.143; published: 0.149."
    )
    settings = MappingProxyType(
        {
            # Defaults of the authors' notebook, where no comment says otherwise.
            "components": 300,
            "expressed_in_spots": 5,
            # Their parser's default; the example sets 20, more than shards store.
            "neighbors": 10,
            "feature_hidden": 100,
            "features": 20,
            "graph_hidden": 32,
            "graph": 8,
            "dropout": 0.2,
            "learning_rate": 0.01,
            "weight_decay": 0.01,
            "epochs_rebuilding": 200,
            "epochs_contrasting": 200,
            "feature_weight": 10.0,
            "image_weight": 0.1,
            "graph_weight": 0.1,
            "clusters": 10,
            "cluster_weight": 10.0,
            "cluster_interval": 20,
            "local_weight": 0.3,
            "global_weight": 0.1,
            # Their setting is 0.1, but their code adds it to the loss instead of multiplying by it.
            "context_weight": 1.0,
            "context_sharpness": 100.0,
            "context_rounds": 10,
            # That of their example; they set it to the number of regions looked for, not known here.
            "contexts": 7,
            "temperature": 0.5,
            "edges_dropped": 0.1,
            "features_dropped": (0.2, 0.3),
        }
    )

    def genes_needed(self, setting: Setting) -> int:
        """All: the principal components are those of every gene."""
        return ALL_GENES

    def embed(self, sample: Sample, setting: Setting, seed: int) -> Embedding:
        """Train and return what the clusters are formed in, (N, features + graph), with an image + features.

        Raises SencaError when training diverges.
        """
        import torch

        from senca_ray.fit.determinism import one_thread
        from senca_ray.methods.graph_training import fit_full_graph

        settings = self.settings
        with one_thread():
            section = _section(sample, settings)
            network, losses = fit_full_graph(
                lambda: _network(section, settings),
                _Objective(section, settings, seed),
                epochs=settings["epochs_rebuilding"] + settings["epochs_contrasting"],
                learning_rate=settings["learning_rate"],
                weight_decay=settings["weight_decay"],
                seed=seed,
            )
            with torch.no_grad():
                values = network(section).embedding.numpy()
        return Embedding(values, losses)


class _Section(NamedTuple):
    """A section as the network reads it: N spots, M edges in both directions with self loops."""

    expression: Tensor
    """(N, P) principal components."""
    image: Tensor | None
    """(N, F) image features at the scale of `expression`; None without an image."""
    edges: Tensor
    """(2, M) int64"""
    weights: Tensor
    """(M,) of the edges, normalised by the degrees of both ends."""


class _Output(NamedTuple):
    """What the losses look at: N spots."""

    features: Tensor
    """(N, features), of the image too where there is one: what does not see the graph."""
    mean: Tensor
    log_sd: Tensor
    """(N, graph), both of what the graph convolutions say."""
    embedding: Tensor
    """(N, D) `features` beside a draw of what the graph convolutions say, in evaluation its mean."""


class _Objective:
    """The loss of an epoch: rebuilding in the first stage, contrast and clusters in the second."""

    def __init__(self, section: _Section, settings: Mapping[str, Any], seed: int) -> None:
        self.section, self.settings, self.seed = section, settings, seed
        self.target: Any = None

    def __call__(self, network: Any, epoch: int) -> Tensor:
        """The loss of an epoch, counted from 1; at the start of the second stage the clusters are found."""
        done = epoch - 1 - self.settings["epochs_rebuilding"]
        if done < 0:
            return self._rebuilding(network)
        if done % self.settings["cluster_interval"] == 0:
            self._aim(network, first=done == 0)
        return self._contrasting(network)

    def _rebuilding(self, network: Any) -> Tensor:
        """Errors of the rebuilt expression, image and edges."""
        from torch.nn import functional

        section, settings = self.section, self.settings
        output = network(section)
        loss = settings["feature_weight"] * functional.mse_loss(
            network.expression_decoder(output.embedding), section.expression
        )
        if section.image is not None:
            rebuilt = network.image_decoder(output.embedding)
            loss = loss + settings["image_weight"] * functional.mse_loss(rebuilt, section.image)
        dropped = functional.dropout(output.embedding, settings["dropout"])
        graph = edge_loss(dropped, section.edges) + divergence(output.mean, output.log_sd)
        return loss + settings["graph_weight"] * graph

    def _aim(self, network: Any, first: bool) -> None:
        """Set what the clusters are drawn towards, in evaluation; the first time find their centres, too."""
        import torch
        from sklearn.cluster import KMeans

        network.eval()
        with torch.no_grad():
            embedding = network(self.section).embedding
            if first:
                clusters = self.settings["clusters"]
                found = KMeans(clusters, n_init=2 * clusters, random_state=self.seed).fit(embedding.numpy())
                network.centres.copy_(torch.from_numpy(found.cluster_centers_))
            self.target = sharpened(memberships(embedding, network.centres))
        network.train()

    def _contrasting(self, network: Any) -> Tensor:
        """Contrast of a spot with itself, with its context and with a summary, and the clusters' loss."""
        import torch

        from senca_ray.model.losses import nt_xent

        section, settings = self.section, self.settings
        # Projected twice, as their code has it.
        first, second = (
            network.project(network.project(self._view(network, share)))
            for share in settings["features_dropped"]
        )
        local = nt_xent(first, second, settings["temperature"])

        output = network(section)
        shuffled = section.expression[torch.randperm(len(section.expression))]
        spots = _contrasted(output, section)
        strangers = _contrasted(network(section._replace(expression=shuffled)), section)
        context = context_of(
            spots, network.contexts, settings["context_sharpness"], settings["context_rounds"]
        ).sigmoid()
        # The mean over a spot's features, as the authors' code has it, not over the spots of the section.
        summary = spots.mean(dim=1, keepdim=True).sigmoid().expand_as(spots)
        contextual = told_apart((spots * context).sum(dim=1), (strangers * context).sum(dim=1))
        globally = told_apart(network.judge(spots, summary), network.judge(strangers, summary))
        found = memberships(output.embedding, network.centres)
        return (
            settings["local_weight"] * local
            + settings["context_weight"] * contextual
            + settings["global_weight"] * globally
            + settings["cluster_weight"] * (self.target * (self.target / found).log()).mean()
        )

    def _view(self, network: Any, share: float) -> Tensor:
        """What is contrasted, without a share of the features and, where they matter, of the edges."""
        import torch

        section = self.section
        kept = torch.rand(section.expression.shape[1]) >= share
        view = section._replace(expression=section.expression * kept)
        if section.image is not None:
            shown = torch.rand(section.image.shape[1]) >= share
            edges = torch.rand(section.edges.shape[1]) >= self.settings["edges_dropped"]
            view = view._replace(
                image=section.image * shown,
                edges=section.edges[:, edges],
                weights=section.weights[edges],
            )
        return _contrasted(network(view), section)


def _contrasted(output: _Output, section: _Section) -> Tensor:
    """What their code contrasts: with an image the whole embedding, without the features alone."""
    return output.features if section.image is None else output.embedding


def _section(sample: Sample, settings: Mapping[str, Any]) -> _Section:
    import torch
    from torch_geometric.nn.conv.gcn_conv import gcn_norm

    from senca_ray.methods.graph_training import edge_index

    expression = components(sample, settings["components"], settings["expressed_in_spots"])
    image = None
    if sample.image_features is not None:
        seen = sample.image_features
        scaled = (seen - seen.mean()) / max(seen.std(), 1e-8) * expression.std() + expression.mean()
        image = torch.from_numpy(scaled.astype(np.float32))
    edges = edge_index(sample.nearest(settings["neighbors"]), self_loops=True)
    edges, weights = gcn_norm(edges, num_nodes=len(expression), add_self_loops=False)
    return _Section(torch.from_numpy(expression), image, edges, weights)


def components(sample: Sample, number: int, expressed_in: int) -> np.ndarray:
    """Principal components of z-scored shares of counts, no logarithm; (N, number) float32, or fewer.

    Genes expressed in fewer spots than `expressed_in` are left out. A spot's total leaves out genes that
    make up more than 5 % of any spot.
    """
    from sklearn.decomposition import KernelPCA

    counts = sample.counts[:, sample.counts.getnnz(axis=0) >= expressed_in].astype(np.float64)
    totals = np.maximum(np.asarray(counts.sum(axis=1)), 1)
    common = np.asarray((counts > _HIGHLY_EXPRESSED * totals).sum(axis=0)).ravel() == 0
    dense = counts.toarray() / np.maximum(np.asarray(counts[:, common].sum(axis=1)), 1)
    dense = standardised(dense)
    # Of N spots and many more genes: the same as PCA, from the (N, N) products.
    pca = KernelPCA(min(number, *(d - 1 for d in dense.shape)), kernel="linear", eigen_solver="dense")
    return pca.fit_transform(dense).astype(np.float32)


def _network(section: _Section, settings: Mapping[str, Any]) -> nn.Module:
    import torch
    from torch import nn
    from torch.nn import functional
    from torch_geometric.nn import GCNConv

    genes, hidden, width = section.expression.shape[1], settings["feature_hidden"], settings["features"]
    graph, dropout = settings["graph"], settings["dropout"]

    def block(given: int, returned: int) -> nn.Sequential:
        norm = nn.BatchNorm1d(returned, momentum=0.01, eps=0.001)
        return nn.Sequential(nn.Linear(given, returned), norm, nn.ELU(), nn.Dropout(dropout))

    def convolution(given: int, returned: int) -> GCNConv:
        return GCNConv(given, returned, bias=False, normalize=False)

    class Network(nn.Module):
        """Encoders of each modality, graph convolutions on both, decoders, and the parts of the losses."""

        def __init__(self) -> None:
            super().__init__()
            images = 0 if section.image is None else section.image.shape[1]
            features = width * (2 if images else 1)
            embedding = features + graph
            contrasted = embedding if images else features
            self.expression_encoder = nn.Sequential(block(genes, hidden), block(hidden, width))
            self.expression_decoder = block(embedding, genes)
            if images:
                self.image_encoder = nn.Sequential(block(images, hidden), block(hidden, width))
                self.image_decoder = block(embedding, images)
            self.first = convolution(features, settings["graph_hidden"])
            self.mean, self.log_sd = (convolution(settings["graph_hidden"], graph) for _ in range(2))
            self.centres = nn.Parameter(torch.zeros(settings["clusters"], embedding))
            self.project = nn.Sequential(
                nn.Linear(contrasted, 2 * contrasted), nn.ELU(), nn.Linear(2 * contrasted, contrasted)
            )
            self.judge = nn.Bilinear(contrasted, contrasted, 1)
            nn.init.xavier_uniform_(self.judge.weight)
            nn.init.zeros_(self.judge.bias)
            self.contexts: Tensor
            self.register_buffer("contexts", torch.rand(settings["contexts"], contrasted))

        def forward(self, section: _Section) -> _Output:
            features = self.expression_encoder(section.expression)
            if section.image is not None:
                features = torch.cat([features, self.image_encoder(section.image)], dim=1)
            joined = self._convolve(self.first, features, section).relu()
            mean, log_sd = (self._convolve(layer, joined, section) for layer in (self.mean, self.log_sd))
            drawn = mean + torch.randn_like(mean) * log_sd.exp() if self.training else mean
            return _Output(features, mean, log_sd, torch.cat([features, drawn], dim=1))

        def _convolve(self, layer: GCNConv, values: Tensor, section: _Section) -> Tensor:
            return layer(functional.dropout(values, dropout, self.training), section.edges, section.weights)

    return Network()
