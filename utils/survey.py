"""A survey of ``torch.nn``: which layers listen to the mode, measured by running each."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from .modes import evaluating
from .survey_cases import Case, layer_cases

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
    differs_by_rounding
        Whether they differ by rounding: eval mode takes another path to the same result.
    rounds_without_gradients
        Whether eval mode rounds differently where no gradients are recorded.
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
    differs_by_rounding: bool
    rounds_without_gradients: bool
    random_in: tuple[str, ...]
    moves_in: dict[str, tuple[str, ...]]
    mixes_rows_in: tuple[str, ...] | None


@dataclass(frozen=True)
class LayerBehaviour:
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
    def differs_by_rounding(self) -> bool:
        """Whether eval mode takes another path that rounds differently, in some configuration."""
        return any(m.differs_by_rounding for m in self.measurements)

    @property
    def rounds_without_gradients(self) -> bool:
        """Whether eval mode rounds differently without gradients, in some configuration."""
        return any(m.rounds_without_gradients for m in self.measurements)

    def where(self, of: Callable[[Measurement], Collection[str]]) -> str:
        """Say in which modes something holds, and in which configurations if not in all.

        Examples
        --------
        >>> made = survey_class("BatchNorm1d", layer_cases()["BatchNorm1d"])
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


def survey() -> list[LayerBehaviour]:
    """Build and run every public module class of ``torch.nn``, in both modes.

    A class that this table does not know, because a later PyTorch has added it, is in the result
    with ``differs=None`` and ``reason="not yet surveyed"``.

    Returns
    -------
    list of LayerBehaviour
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
    cases = layer_cases()
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


def survey_class(name: str, case: Case | str | None) -> LayerBehaviour:
    """Measure one class.

    Parameters
    ----------
    name
        The class, an attribute of ``torch.nn``.
    case
        How to measure it, a sentence that says why it cannot be measured, or None if unknown.

    Returns
    -------
    LayerBehaviour
        With ``differs=None`` and a reason where it could not be measured.

    Examples
    --------
    >>> survey_class("Brandnew", None).reason
    'not yet surveyed'
    """
    if case is None:
        return LayerBehaviour(name, None, "not yet surveyed")
    if isinstance(case, str):
        return LayerBehaviour(name, None, case)
    try:
        measured = tuple(
            measure(build, case.inputs_of.get(arguments, case.inputs), arguments, rows=case.rows)
            for arguments, build in case.builds.items()
        )
    except Exception as error:
        return LayerBehaviour(name, None, f"{type(error).__name__}: {str(error).splitlines()[0]}")
    answers = {m.differs for m in measured}
    if case.container:
        return LayerBehaviour(name, "inherits", case.decides, measured)
    if len(answers) == 2:
        return LayerBehaviour(name, "by configuration", case.decides, measured)
    return LayerBehaviour(name, "always" if answers == {True} else "never", "", measured)


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
        layer.load_state_dict(start)
        torch.manual_seed(1)
        with torch.enable_grad():
            recorded = _flat(layer(*given)).detach()
    same = torch.equal(outputs["train"], outputs["eval"])
    close = _close(outputs["train"], outputs["eval"])
    return Measurement(
        arguments=arguments,
        differs=not close,
        differs_by_rounding=close and not same,
        rounds_without_gradients=_close(recorded, outputs["eval"])
        and not torch.equal(recorded, outputs["eval"]),
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
