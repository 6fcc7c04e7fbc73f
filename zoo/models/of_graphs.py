"""PyTorch Geometric: convolutions, norms, pools and models of graphs."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from zoo.entry import Builder, Family, Lazy, Through
from zoo.inputs import graph, vectors

G = Lazy("torch_geometric.nn")
OF_MODEL = torch.arange(4).repeat_interleave(5)
"""Which of four graphs a node belongs to."""

CONVOLUTIONS: dict[str, dict[str, Any]] = {
    **{
        name: dict(in_channels=8, out_channels=8)
        for name in (
            "ARMAConv",
            "ClusterGCNConv",
            "FeaStConv",
            "GATConv",
            "GATv2Conv",
            "GCNConv",
            "GENConv",
            "GeneralConv",
            "GraphConv",
            "HypergraphConv",
            "LEConv",
            "MFConv",
            "ResGatedGraphConv",
            "SAGEConv",
            "SGConv",
            "SuperGATConv",
            "TAGConv",
            "TransformerConv",
        )
    },
    "AGNNConv": {},
    "APPNP": dict(K=3, alpha=0.1, dropout=0.2),
    "AntiSymmetricConv": dict(in_channels=8),
    "ChebConv": dict(in_channels=8, out_channels=8, K=2),
    "EGConv": dict(in_channels=8, out_channels=8, num_heads=4),
    "FAConv": dict(channels=8, dropout=0.2),
    "LGConv": {},
    "MixHopConv": dict(in_channels=8, out_channels=8),
    "SSGConv": dict(in_channels=8, out_channels=8, alpha=0.1),
}
DROPPING = ("ARMAConv", "GATConv", "GATv2Conv", "HypergraphConv", "SuperGATConv", "TransformerConv")


def convolution(name: str, arguments: dict[str, Any]) -> Any:
    """A convolution of a random graph."""
    dropout = dict(dropout=0.3) if name in DROPPING else {}
    features, edges = graph()
    again = (features,) if name == "FAConv" else ()
    return getattr(G, name)(**arguments, **dropout), features, *again, edges


class Encoder(nn.Module):
    """Two convolutions, as an autoencoder wants them; with a second head a variational one."""

    def __init__(self, variational: bool) -> None:
        super().__init__()
        heads = 2 if variational else 1
        self.first = G.GCNConv(8, 16)
        self.heads = nn.ModuleList(G.GCNConv(16, 4) for _ in range(heads))

    def forward(self, features: Tensor, edges: Tensor) -> Any:
        hidden = self.first(features, edges).relu()
        answers = tuple(head(hidden, edges) for head in self.heads)
        return answers if len(answers) > 1 else answers[0]


def deep() -> nn.Module:
    """Two layers of a deep graph network."""
    layers = [
        G.DeepGCNLayer(
            G.GENConv(8, 8, aggr="softmax", learn_t=True),
            nn.BatchNorm1d(8),
            nn.ReLU(),
            block="res+",
            dropout=0.1,
        )
        for _ in range(2)
    ]

    def in_turn(model: Any, features: Tensor, edges: Tensor) -> Tensor:
        for layer in model:
            features = layer(features, edges)
        return features

    return Through(nn.ModuleList(layers), in_turn)


def memory() -> Any:
    """The memory of a temporal graph network, asked for six nodes."""
    tgn = Lazy("torch_geometric.nn.models.tgn")
    model = G.TGNMemory(
        20,
        4,
        8,
        4,
        message_module=tgn.IdentityMessage(4, 8, 4),
        aggregator_module=tgn.LastAggregator(),
    )
    return model, torch.arange(6)


def network(name: str, **more: Any) -> Any:
    """One of the usual models, on a random graph."""
    return getattr(G, name)(8, 16, num_layers=2, out_channels=3, dropout=0.5, **more), *graph()


def norm(name: str) -> Any:
    """A norm without the vector that says which graph a node is of: one graph."""
    without = ("GraphSizeNorm", "PairNorm", "MeanSubtractionNorm")
    arguments = () if name in without else (8, 2) if name == "DiffGroupNorm" else (8,)
    return getattr(G, name)(*arguments), torch.randn(20, 8)


NORMS = [
    "BatchNorm",
    "DiffGroupNorm",
    "GraphNorm",
    "GraphSizeNorm",
    "InstanceNorm",
    "LayerNorm",
    "MeanSubtractionNorm",
    "PairNorm",
]

OTHERS: dict[str, Builder] = {
    "AttentiveFP": lambda: (
        G.AttentiveFP(8, 16, 3, edge_dim=4, num_layers=2, num_timesteps=2, dropout=0.2),
        *graph(),
        torch.randn(60, 4),
        OF_MODEL,
    ),
    "DMoNPooling": lambda: (
        G.DMoNPooling([8, 8], 3, dropout=0.3),
        vectors(5, 8),
        (vectors(5, 5) > 0).float(),
    ),
    "DeepGCNLayer": lambda: (deep(), *graph()),
    "DenseGCNConv": lambda: (G.DenseGCNConv(8, 8), vectors(5, 8), (vectors(5, 5) > 0).float()),
    "EdgePooling": lambda: (
        G.EdgePooling(8, dropout=0.2),
        *graph(),
        torch.zeros(20, dtype=torch.long),
    ),
    "GAE": lambda: (Through(G.GAE(Encoder(False)), lambda m, *g: m.encode(*g)), *graph()),
    "GCN, jumping knowledge": lambda: network("GCN", jk="lstm"),
    "GPSConv": lambda: (G.GPSConv(8, G.GCNConv(8, 8), heads=2, dropout=0.2), *graph()),
    "GPSConv, performer": lambda: (
        G.GPSConv(
            8,
            G.GCNConv(8, 8),
            heads=2,
            attn_type="performer",
            attn_kwargs={"dropout": 0.2},
        ),
        *graph(),
    ),
    "GraphUNet": lambda: (G.GraphUNet(8, 16, 3, depth=2), *graph()),
    "InstanceNorm, tracking": lambda: (
        G.InstanceNorm(8, track_running_stats=True),
        torch.randn(20, 8),
        OF_MODEL,
    ),
    "LINKX": lambda: (G.LINKX(20, 8, 16, 3, num_layers=2, dropout=0.3), *graph()),
    "LabelPropagation": lambda: (
        G.LabelPropagation(3, 0.9),
        torch.randint(0, 3, (20,)),
        graph()[1],
    ),
    "MLP": lambda: (G.MLP([8, 16, 3], dropout=0.3), torch.randn(20, 8)),
    "MaskLabel": lambda: (
        G.MaskLabel(3, 8),
        torch.randn(20, 8),
        torch.randint(0, 3, (20,)),
        torch.rand(20) > 0.5,
    ),
    "PMLP": lambda: (G.PMLP(8, 16, 3, num_layers=3, dropout=0.2), *graph()),
    "PerformerAttention": lambda: (
        Lazy("torch_geometric.nn.attention").PerformerAttention(16, heads=2, dropout=0.1),
        vectors(10, 16),
    ),
    "SAGPooling": lambda: (G.SAGPooling(8), *graph()),
    "Set2Set": lambda: (G.Set2Set(8, 3), torch.randn(20, 8), OF_MODEL),
    "TGNMemory": memory,
    "TopKPooling": lambda: (G.TopKPooling(8), *graph()),
    "VGAE": lambda: (Through(G.VGAE(Encoder(True)), lambda m, *g: m.encode(*g)), *graph()),
}

MODELS: Family = {
    "torch-geometric": {
        name: lambda name=name, given=given: convolution(name, given)  # type: ignore[misc]
        for name, given in CONVOLUTIONS.items()
    }
    | {
        name: lambda name=name: network(name, norm="batch_norm")  # type: ignore[misc]
        for name in ("GCN", "GraphSAGE", "GIN", "GAT", "EdgeCNN")
    }
    | {f"norm.{name}": lambda name=name: norm(name) for name in NORMS}  # type: ignore[misc]
    | OTHERS
}
