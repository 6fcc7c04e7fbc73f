"""What the survey runs: for each class of ``torch.nn`` its configurations and their inputs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

Builder = Callable[[], nn.Module]


@dataclass(frozen=True)
class Case:
    """How to build and call one class: its configurations, and what decides between them."""

    builds: dict[str, Builder]
    inputs: Callable[[], tuple[Any, ...]]
    decides: str = ""
    inputs_of: dict[str, Callable[[], tuple[Any, ...]]] = field(default_factory=dict)
    rows: bool = True
    container: bool = False


def _holding(wrap: Callable[[nn.Module], nn.Module], inside: Builder) -> nn.Module:
    return wrap(inside())


def _shape(dimensions: int, batch: int = 4, channels: int = 4) -> tuple[int, ...]:
    return (batch, channels, *[6] * dimensions)


def layer_cases() -> dict[str, Case | str]:
    """How to build and call each class of ``torch.nn``."""
    cases: dict[str, Case | str] = {}

    def add(name: str, inputs: Callable[[], tuple[Any, ...]], *args: Any, **kwargs: Any) -> None:
        """One configuration that stands for all."""
        if hasattr(nn, name):
            cases[name] = Case({"": lambda: getattr(nn, name)(*args, **kwargs)}, inputs)

    def vary(
        name: str, inputs: Callable[[], tuple[Any, ...]], decides: str, **builds: Builder
    ) -> None:
        """Two configurations, off and on, and the arguments that decide."""
        off, on = builds["off"], builds["on"]
        cases[name] = Case({f"without {decides}": off, f"with {decides}": on}, inputs, decides)

    def x(*shape: int) -> Callable[[], tuple[Tensor]]:
        return lambda: (torch.randn(shape),)

    # One tensor in, one out, any shape
    for name in [
        "CELU",
        "ELU",
        "GELU",
        "Hardshrink",
        "Hardsigmoid",
        "Hardswish",
        "Hardtanh",
        "Identity",
        "LeakyReLU",
        "LogSigmoid",
        "Mish",
        "PReLU",
        "ReLU",
        "ReLU6",
        "SELU",
        "SiLU",
        "Sigmoid",
        "Softplus",
        "Softshrink",
        "Softsign",
        "Tanh",
        "Tanhshrink",
        "Flatten",
        "AlphaDropout",
        "Dropout",
    ]:
        add(name, x(4, 8, 6))
    add("RReLU", x(4, 8, 6))
    add("GLU", x(4, 8))
    add("Threshold", x(4, 8), 0.1, 20.0)
    for name in ("LogSoftmax", "Softmax", "Softmin"):
        add(name, x(4, 8), dim=1)
    add("Softmax2d", x(*_shape(2)))
    add("Unflatten", x(4, 8), 1, (2, 4))
    add("FeatureAlphaDropout", x(*_shape(2)))
    add("ChannelShuffle", x(*_shape(2)), 2)
    add("PixelShuffle", x(*_shape(2)), 2)
    add("PixelUnshuffle", x(*_shape(2)), 2)
    add("Fold", x(4, 16, 9), (4, 4), (2, 2))
    add("Unfold", x(*_shape(2)), (2, 2))
    add("Upsample", x(*_shape(2)), scale_factor=2)
    add("UpsamplingBilinear2d", x(*_shape(2)), scale_factor=2)
    add("UpsamplingNearest2d", x(*_shape(2)), scale_factor=2)
    add("CrossMapLRN2d", x(*_shape(2)), 2)
    add("LocalResponseNorm", x(*_shape(2)), 2)
    add("GroupNorm", x(*_shape(2)), 2, 4)
    add("LayerNorm", x(4, 8), 8)
    add("RMSNorm", x(4, 8), 8)
    add("Linear", x(4, 8), 8, 3)
    add("LazyLinear", x(4, 8), 3)
    add("Bilinear", lambda: (torch.randn(4, 3), torch.randn(4, 5)), 3, 5, 2)
    for name in ("CosineSimilarity", "PairwiseDistance"):
        add(name, lambda: (torch.randn(4, 8), torch.randn(4, 8)))

    def pooled(pool: Callable[..., Any], image: Callable[[], tuple[Tensor]]) -> tuple[Any, ...]:
        return pool(*image(), 2, return_indices=True)

    # One class for each number of spatial dimensions
    for n in (1, 2, 3):
        image = x(*_shape(n))
        add(f"Dropout{n}d", image)
        add(f"Conv{n}d", image, 4, 3, 3)
        add(f"ConvTranspose{n}d", image, 4, 3, 3)
        add(f"LazyConv{n}d", image, 3, 3)
        add(f"LazyConvTranspose{n}d", image, 3, 3)
        for name in ("AvgPool", "MaxPool"):
            add(f"{name}{n}d", image, 2)
        add(f"LPPool{n}d", image, 2, 2)
        for name in ("AdaptiveAvgPool", "AdaptiveMaxPool"):
            add(f"{name}{n}d", image, 2)
        for name in ("CircularPad", "ReflectionPad", "ReplicationPad", "ZeroPad"):
            add(f"{name}{n}d", image, 1)
        add(f"ConstantPad{n}d", image, 1, 3.5)
        add(f"MaxUnpool{n}d", partial(pooled, getattr(nn.functional, f"max_pool{n}d"), image), 2)
        for lazy in ("", "Lazy"):
            size = () if lazy else (4,)
            for kind in ("BatchNorm", "InstanceNorm"):
                layer = getattr(nn, f"{lazy}{kind}{n}d")
                vary(
                    f"{lazy}{kind}{n}d",
                    image,
                    "track_running_stats",
                    on=partial(layer, *size, track_running_stats=True),
                    off=partial(layer, *size, track_running_stats=False),
                )
    for n in (2, 3):
        add(f"FractionalMaxPool{n}d", x(*_shape(n)), 2, output_ratio=0.7)

    # Indices in
    def tokens() -> tuple[Tensor]:
        return (torch.randint(0, 9, (4, 5)),)

    for name in ("Embedding", "EmbeddingBag"):
        layer = getattr(nn, name)
        vary(
            name,
            tokens,
            "max_norm",
            off=partial(layer, 9, 3),
            on=partial(layer, 9, 3, max_norm=0.1),
        )

    # Recurrent
    for name in ("RNN", "LSTM", "GRU"):
        layer = getattr(nn, name)
        vary(
            name,
            x(4, 5, 3),
            "dropout with num_layers above 1",
            off=partial(layer, 3, 6, 2, batch_first=True),
            on=partial(layer, 3, 6, 2, batch_first=True, dropout=0.5),
        )
    for name in ("RNNCell", "LSTMCell", "GRUCell"):
        add(name, x(4, 3), 3, 6)

    # Attention
    def queries() -> tuple[Tensor, ...]:
        return (torch.randn(4, 5, 8),) * 3

    attention = partial(nn.MultiheadAttention, 8, 2, batch_first=True)
    cases["MultiheadAttention"] = Case(
        {
            "without dropout": attention,
            "with need_weights=False": attention,
            "with dropout": partial(attention, dropout=0.5),
        },
        queries,
        "dropout",
        {"with need_weights=False": lambda: (*queries(), None, False)},
    )

    def encoder(dropout: float) -> nn.TransformerEncoderLayer:
        return nn.TransformerEncoderLayer(8, 2, 16, dropout, batch_first=True)

    def decoder(dropout: float) -> nn.TransformerDecoderLayer:
        return nn.TransformerDecoderLayer(8, 2, 16, dropout, batch_first=True)

    sequences = x(4, 5, 8)
    pairs = lambda: (torch.randn(4, 5, 8), torch.randn(4, 6, 8))  # noqa: E731
    makers: dict[str, tuple[Any, Callable[[float], nn.Module]]] = {
        "TransformerEncoderLayer": (sequences, encoder),
        "TransformerEncoder": (sequences, lambda p: nn.TransformerEncoder(encoder(p), 2)),
        "TransformerDecoderLayer": (pairs, decoder),
        "TransformerDecoder": (pairs, lambda p: nn.TransformerDecoder(decoder(p), 2)),
        "Transformer": (pairs, lambda p: nn.Transformer(8, 2, 1, 1, 16, p, batch_first=True)),
    }
    for name, (inputs, make) in makers.items():
        cases[name] = Case(
            {
                "with batch_first, without dropout": partial(make, 0.0),
                "with batch_first and dropout": partial(make, 0.5),
            },
            inputs,
            "dropout",
        )
    masked = "with batch_first and a padding mask, without dropout"
    whole = cases["TransformerEncoder"]
    assert isinstance(whole, Case)
    padding = torch.arange(5).expand(4, 5) >= torch.tensor([[5], [4], [3], [3]])
    cases["TransformerEncoder"] = replace(
        whole,
        builds={**whole.builds, masked: partial(makers["TransformerEncoder"][1], 0.0)},
        inputs_of={masked: lambda: (torch.randn(4, 5, 8), None, padding)},
        decides="dropout; a padding mask where no gradients are recorded",
    )

    transformer = cases["Transformer"]
    assert isinstance(transformer, Case)
    source_only = "with a source padding mask alone, without dropout"
    cases["Transformer"] = replace(
        transformer,
        builds={**transformer.builds, source_only: partial(makers["Transformer"][1], 0.0)},
        inputs_of={source_only: lambda: (*pairs(), *[None] * 3, padding)},
        decides="dropout; a source padding mask without one for the memory, where no gradients "
        "are recorded",
    )

    # Losses: one number for a batch
    def loss(name: str, inputs: Callable[[], tuple[Any, ...]], *args: Any) -> None:
        if hasattr(nn, name):
            cases[name] = Case({"": lambda: getattr(nn, name)(*args)}, inputs, rows=False)

    def two() -> tuple[Tensor, Tensor]:
        return torch.rand(4, 8), torch.rand(4, 8)

    def classes() -> tuple[Tensor, Tensor]:
        return torch.randn(4, 8).log_softmax(1), torch.randint(0, 8, (4,))

    def signs(*shape: int) -> Tensor:
        return torch.randint(0, 2, shape).float() * 2 - 1

    for name in [
        "BCELoss",
        "BCEWithLogitsLoss",
        "HuberLoss",
        "KLDivLoss",
        "L1Loss",
        "MSELoss",
        "MultiLabelSoftMarginLoss",
        "PoissonNLLLoss",
        "SmoothL1Loss",
    ]:
        loss(name, two)
    for name in ("CrossEntropyLoss", "NLLLoss", "MultiMarginLoss"):
        loss(name, classes)
    loss("NLLLoss2d", lambda: (torch.randn(4, 3, 5, 5), torch.randint(0, 3, (4, 5, 5))))
    loss("MultiLabelMarginLoss", lambda: (torch.randn(4, 8), torch.randint(0, 8, (4, 8))))
    loss("HingeEmbeddingLoss", lambda: (torch.randn(4, 8), signs(4, 8)))
    loss("SoftMarginLoss", lambda: (torch.randn(4, 8), signs(4, 8)))
    loss("MarginRankingLoss", lambda: (torch.randn(4), torch.randn(4), signs(4)))
    loss("CosineEmbeddingLoss", lambda: (torch.randn(4, 8), torch.randn(4, 8), signs(4)))
    loss("GaussianNLLLoss", lambda: (*two(), torch.rand(4, 8)))
    for name in ("TripletMarginLoss", "TripletMarginWithDistanceLoss"):
        loss(name, lambda: (*two(), torch.rand(4, 8)))
    lengths = torch.full((4,), 6), torch.full((4,), 2)
    loss(
        "CTCLoss",
        lambda: (torch.randn(6, 4, 5).log_softmax(2), torch.randint(1, 5, (4, 2)), *lengths),
    )
    loss(
        "AdaptiveLogSoftmaxWithLoss",
        lambda: (torch.randn(4, 8), torch.randint(0, 10, (4,))),
        *(8, 10, [4]),
    )
    loss("LinearCrossEntropyLoss", lambda: (torch.randn(4, 8), torch.randint(0, 5, (4,))), 8, 5)

    # Containers do what their contents do
    holds = "what is inside"
    for name in ("Sequential", "DataParallel"):
        wrap = getattr(nn, name)
        builds: dict[str, Builder] = {
            "Linear inside": partial(_holding, wrap, partial(nn.Linear, 8, 8)),
            "Dropout inside": partial(_holding, wrap, nn.Dropout),
        }
        cases[name] = Case(builds, x(4, 8), holds, container=True)
    for name in ("ModuleList", "ModuleDict", "Container"):
        cases[name] = Case({}, x(4, 8), holds, container=True)

    for name in ("ParameterList", "ParameterDict"):
        cases[name] = "holds parameters, has no forward"
    cases["Module"] = "the base class, has no forward of its own"
    for name in ("RNNBase", "RNNCellBase"):
        cases[name] = "a base class, has no forward of its own"
    vary(
        "SyncBatchNorm",
        x(*_shape(2)),
        "track_running_stats",
        on=lambda: nn.SyncBatchNorm(4),
        off=lambda: nn.SyncBatchNorm(4, track_running_stats=False),
    )
    return cases
