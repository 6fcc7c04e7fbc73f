"""A survey of ``torch.nn``: which layers listen to the mode, measured by running each."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn

from utils.modes import evaluating

Builder = Callable[[], nn.Module]
Differs = Literal["always", "by configuration", "never", "inherits"]
MODES = ("train", "eval")


@dataclass(frozen=True)
class Measurement:
    """What one configuration of a layer did when it was run in both modes.

    Attributes
    ----------
    arguments
        The arguments that make this configuration, as one would write them.
    differs
        Whether the outputs of the two modes differ by more than rounding.
    rounds
        Whether they differ by rounding: eval mode takes another path to the same result.
    random_in
        The modes in which two calls on one input differ.
    moves_in
        The buffers, or parameters, that a call changes, by mode.
    mixes_rows_in
        The modes in which a row of the output depends on the other rows of its batch; None where
        the output has no rows.
    """

    arguments: str
    differs: bool
    rounds: bool
    random_in: tuple[str, ...]
    moves_in: dict[str, tuple[str, ...]]
    mixes_rows_in: tuple[str, ...] | None


@dataclass(frozen=True)
class Record:
    """What the survey found of one class; made by :func:`survey`.

    Attributes
    ----------
    name
        The class, such as ``"BatchNorm1d"``.
    differs
        Whether the switch changes the output: ``"always"`` or ``"never"`` in the configurations
        that were measured, ``"by configuration"`` where arguments decide, ``"inherits"`` for a
        container that does what its contents do, None where it could not be measured.
    reason
        Why it could not be measured, or which arguments decide.
    measurements
        One for each configuration.
    """

    name: str
    differs: Differs | None
    reason: str
    measurements: tuple[Measurement, ...] = ()

    @property
    def random_in(self) -> tuple[str, ...]:
        """The modes in which some configuration is random."""
        return self._modes(lambda m: m.random_in)

    @property
    def moves_in(self) -> tuple[str, ...]:
        """The modes in which some configuration changes its own buffers or parameters."""
        return self._modes(lambda m: tuple(mode for mode in MODES if m.moves_in[mode]))

    @property
    def mixes_rows_in(self) -> tuple[str, ...]:
        """The modes in which a row depends on the rest of its batch, in some configuration."""
        return self._modes(lambda m: m.mixes_rows_in or ())

    @property
    def rounds(self) -> bool:
        """Whether eval mode takes another path that rounds differently, in some configuration."""
        return any(m.rounds for m in self.measurements)

    def where(self, of: Callable[[Measurement], Collection[str]]) -> str:
        """Say in which modes something holds, and in which configurations if not in all.

        Examples
        --------
        >>> made = survey_class("BatchNorm1d", _cases()["BatchNorm1d"])
        >>> made.where(lambda m: m.mixes_rows_in or ())
        'train; eval without track_running_stats'
        """
        found = []
        for mode in MODES:
            holds = [m.arguments for m in self.measurements if mode in of(m)]
            everywhere = len(holds) == len(self.measurements)
            found += [mode if everywhere else f"{mode} {' or '.join(holds)}"] if holds else []
        return "; ".join(found)

    def _modes(self, of: Callable[[Measurement], tuple[str, ...]]) -> tuple[str, ...]:
        return tuple(mode for mode in MODES if any(mode in of(m) for m in self.measurements))


def survey() -> list[Record]:
    """Build and run every public module class of ``torch.nn``, in both modes.

    A class that this table does not know, because a later PyTorch has added it, is in the result
    with ``differs=None`` and ``reason="not yet surveyed"``.

    Returns
    -------
    list of Record
        One for each class, by name. The global random state is left as it was.

    References
    ----------
    https://docs.pytorch.org/docs/stable/nn.html

    Examples
    --------
    >>> records = {record.name: record for record in survey()}
    >>> records["Linear"].differs, records["Dropout"].differs, records["Sequential"].differs
    ('never', 'always', 'inherits')
    >>> records["LSTM"].differs, records["LSTM"].reason
    ('by configuration', 'dropout with num_layers above 1')
    """
    cases = _cases()
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return [survey_class(name, cases.get(name)) for name in public_modules()]


def public_modules() -> list[str]:
    """Name the public module classes of the installed ``torch.nn``.

    Examples
    --------
    >>> "BatchNorm1d" in public_modules(), "Parameter" in public_modules()
    (True, False)
    """
    return sorted(
        name
        for name, value in vars(nn).items()
        if inspect.isclass(value) and issubclass(value, nn.Module) and not name.startswith("_")
    )


@dataclass(frozen=True)
class Case:
    """How to build and call one class: its configurations, and what decides between them."""

    builds: dict[str, Builder]
    inputs: Callable[[], tuple[Any, ...]]
    decides: str = ""
    inputs_of: dict[str, Callable[[], tuple[Any, ...]]] = field(default_factory=dict)
    rows: bool = True
    container: bool = False


def survey_class(name: str, case: Case | str | None) -> Record:
    """Measure one class.

    Parameters
    ----------
    name
        The class, an attribute of ``torch.nn``.
    case
        How to measure it, a sentence that says why it cannot be measured, or None if unknown.

    Returns
    -------
    Record
        With ``differs=None`` and a reason where it could not be measured.

    Examples
    --------
    >>> survey_class("Brandnew", None).reason
    'not yet surveyed'
    """
    if case is None:
        return Record(name, None, "not yet surveyed")
    if isinstance(case, str):
        return Record(name, None, case)
    try:
        measured = tuple(
            measure(build, case.inputs_of.get(arguments, case.inputs), arguments, rows=case.rows)
            for arguments, build in case.builds.items()
        )
    except Exception as error:
        return Record(name, None, f"{type(error).__name__}: {str(error).splitlines()[0]}")
    answers = {m.differs for m in measured}
    if case.container:
        return Record(name, "inherits", case.decides, measured)
    if len(answers) == 2:
        return Record(name, "by configuration", case.decides, measured)
    return Record(name, "always" if answers == {True} else "never", "", measured)


def measure(
    build: Callable[[], nn.Module],
    inputs: Callable[[], tuple[Any, ...]],
    arguments: str = "",
    *,
    rows: bool = True,
) -> Measurement:
    """Run a fresh layer in both modes and note what differs, moves, mixes and is random.

    Parameters
    ----------
    build
        Makes the layer.
    inputs
        Makes the positional arguments of a call; the first dimension of tensors is the batch.
    arguments
        What to call this configuration.
    rows
        Whether the output has a row for each sample.

    Returns
    -------
    Measurement

    Examples
    --------
    >>> made = measure(lambda: nn.BatchNorm1d(3), lambda: (torch.randn(4, 3),))
    >>> made.differs, made.mixes_rows_in, made.moves_in["train"]
    (True, ('train',), ('running_mean', 'running_var', 'num_batches_tracked'))
    """
    torch.manual_seed(0)
    layer, given = build(), inputs()
    with torch.no_grad():
        tensors = [*layer.parameters(), *layer.buffers()]
        if any(nn.parameter.is_lazy(tensor) for tensor in tensors):
            with evaluating(layer):
                layer(*given)
        start = {key: value.clone() for key, value in layer.state_dict().items()}
        outputs: dict[str, Tensor] = {}
        random_in, moves_in, mixes = [], {}, []
        for mode in MODES:
            layer.train(mode == "train")

            def call(seed: int, *values: Any) -> Tensor:
                layer.load_state_dict(start)
                torch.manual_seed(seed)
                return _flat(layer(*values))

            # The seed is one at which a random layer does change something.
            outputs[mode] = call(1, *given)
            moves_in[mode] = tuple(
                name
                for name, now in layer.state_dict().items()
                if not torch.equal(now, start[name])
            )
            if any(not torch.equal(outputs[mode], call(seed, *given)) for seed in (2, 3, 4)):
                random_in.append(mode)
            alone, in_company = outputs[mode], call(1, *_other_rows(given))
            if rows and not _close(alone[0], in_company[0]):
                mixes.append(mode)
    same = torch.equal(outputs["train"], outputs["eval"])
    close = _close(outputs["train"], outputs["eval"])
    return Measurement(
        arguments=arguments,
        differs=not close,
        rounds=close and not same,
        random_in=tuple(random_in),
        moves_in=moves_in,
        mixes_rows_in=tuple(mixes) if rows else None,
    )


def _flat(output: Any) -> Tensor:
    """All tensors of an output, rows first, as one tensor of floats."""
    if isinstance(output, Tensor):
        return output.reshape(len(output), -1).float() if output.dim() else output.float()
    return _flat(output[0])


def _close(one: Tensor, two: Tensor) -> bool:
    """Equal but for rounding."""
    return torch.allclose(one, two, rtol=1e-4, atol=1e-5)


def _other_rows(given: tuple[Any, ...]) -> tuple[Any, ...]:
    """The same first row in other company."""

    def change(value: Any) -> Any:
        if not isinstance(value, Tensor) or not value.is_floating_point() or value.dim() < 1:
            return value
        return torch.cat([value[:1], value[1:].flip(0) * 0.5 + 0.25])

    return tuple(change(value) for value in given)


def _holding(wrap: Callable[[nn.Module], nn.Module], inside: Builder) -> nn.Module:
    return wrap(inside())


def _shape(dimensions: int, batch: int = 4, channels: int = 4) -> tuple[int, ...]:
    return (batch, channels, *[6] * dimensions)


def _cases() -> dict[str, Case | str]:
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
            "without dropout and need_weights": attention,
            "with dropout": partial(attention, dropout=0.5),
        },
        queries,
        "dropout",
        {"without dropout and need_weights": lambda: (*queries(), None, False)},
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
