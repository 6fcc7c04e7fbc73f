"""Setting a claim beside a measurement: guesses, expected errors, and layers written by hand."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from numbers import Real
from textwrap import fill, shorten

import torch
from torch import Tensor

TOLERANCE = 0.005
"""How far apart two numbers may be and still agree, where nothing else is said."""


def check_prediction(guess: object, measured: object, *, tolerance: float = TOLERANCE) -> None:
    """Print a guess, the measured value, and whether they agree. A wrong guess never raises.

    The pages of the book read the printed lines: a reader's own guess is judged by them.

    Parameters
    ----------
    guess
        What the reader expected.
    measured
        What the code showed.
    tolerance
        Two numbers agree when they are at most this far apart.

    Examples
    --------
    >>> check_prediction(0.8, 0.0)
    your guess: 0.8
    measured:   0.0
    not this time
    """
    if _is_number(guess) and _is_number(measured):
        agree = abs(float(guess) - float(measured)) <= tolerance  # type: ignore[arg-type]
        allowed = f" (give or take {tolerance})" if tolerance != TOLERANCE else ""
    else:
        agree, allowed = guess == measured, ""
    print(f"your guess: {guess}")
    print(f"measured:   {measured}{allowed}")
    print("as you said" if agree else "not this time")


def check_answer(conditions: Mapping[str, Callable[[], object]]) -> None:
    """Say of each condition on a reader's own answer whether it holds yet. Nothing is raised.

    Parameters
    ----------
    conditions
        What must hold, and a function that says whether it does. One that raises an error does
        not hold yet, and the error is named: a name that is missing, for one.

    Examples
    --------
    >>> answer = [2, 3]
    >>> check_answer({"two numbers": lambda: len(answer) == 2, "sorted": lambda: answer[0] > 2})
    right:   two numbers
    not yet: sorted
    1 of 2
    """
    right = 0
    for condition, holds in conditions.items():
        reason = ""
        try:
            held = bool(holds())
        except Exception as error:
            held = False
            reason = shorten(f" ({type(error).__name__}: {error}", WIDTH, placeholder=" ...") + ")"
            reason = f" {reason}"
        right += held
        print(f"{'right:  ' if held else 'not yet:'} {condition}{reason}")
    print(f"{right} of {len(conditions)}")


WIDTH = 90
"""Characters in a line of an error that :func:`expect_error` prints; it prints two at most."""
COLOUR = re.compile(r"\x1b\[[0-9;]*m")
"""What switches a terminal's colours and weights."""


@contextmanager
def expect_error(error: type[BaseException], message: str) -> Iterator[None]:
    """Let one named error through, print the start of its message, and carry on.

    Parameters
    ----------
    error
        The type that the block is expected to raise.
    message
        A part of its message.

    Raises
    ------
    AssertionError
        If the block raises nothing, or the type fits and the message does not. Any other error
        passes as it is.

    Examples
    --------
    >>> with expect_error(ZeroDivisionError, "by zero"):
    ...     1 / 0
    ZeroDivisionError: division by zero
    """
    try:
        yield
    except error as raised:
        if message not in str(raised):
            raise AssertionError(
                f"expected {error.__name__} with {message!r} in its message, got: {raised}"
            ) from raised
        plain = COLOUR.sub("", f"{type(raised).__name__}: {raised}")
        print(fill(shorten(plain, 2 * WIDTH - 10, placeholder=" ..."), WIDTH))
    else:
        raise AssertionError(f"expected {error.__name__} with {message!r}, but nothing was raised")


def compare(name: str, ours: Tensor | None, reference: Tensor | None) -> str:
    """Say how near a tensor of one's own comes to the reference, in three grades.

    Parameters
    ----------
    name
        What is compared; starts the printed line.
    ours, reference
        Tensors of the same shape, or None where there is none to compare.

    Returns
    -------
    str
        ``"equal to the bit"``, ``"close"`` (differs by rounding, in the sense of
        :func:`torch.testing.assert_close` for the dtype) or ``"different"``. It is printed too.

    Raises
    ------
    ValueError
        If the shapes differ: a tensor that broadcasts would hide the mistake.

    Examples
    --------
    >>> verdict = compare("output", torch.tensor([0.1 + 0.2]), torch.tensor([0.4]))
    output: different, by up to 1e-01
    >>> verdict
    'different'
    """
    if ours is None or reference is None:
        verdict = "equal to the bit" if ours is reference else "different"
        print(f"{name}: {'both None' if ours is reference else 'only one of them is None'}")
        return verdict
    if ours.shape != reference.shape:
        raise ValueError(
            f"ours has shape {tuple(ours.shape)}; expected that of reference, "
            f"{tuple(reference.shape)}."
        )
    if torch.equal(ours, reference):
        verdict = "equal to the bit"
        print(f"{name}: {verdict}")
        return verdict
    try:
        torch.testing.assert_close(ours, reference)
        verdict = "close"
        print(f"{name}: close, rounding apart")
    except AssertionError:
        verdict = "different"
        gap = (ours.detach().double() - reference.detach().double()).abs().max().item()
        print(f"{name}: different, by up to {gap:.0e}")
    return verdict


def _is_number(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)
