"""What the chapters use to set a claim beside a measurement."""

import pytest
import torch

from utils.checks import check_prediction, compare, expect_error


@pytest.mark.parametrize(
    ("guess", "measured", "tolerance", "agree"),
    [
        (1.0, 1.004, 0.005, True),
        (1.0, 1.006, 0.005, False),
        (90, 74, 20, True),
        ("yes", "yes", 0.005, True),
        ("yes", "no", 0.005, False),
        ("1", 1, 0.005, False),
        (True, 1, 0.005, True),
        (None, 3, 0.005, False),
    ],
)
def test_check_prediction_judges_and_never_raises(guess, measured, tolerance, agree, capsys):
    check_prediction(guess, measured, tolerance=tolerance)
    first, second, verdict = capsys.readouterr().out.splitlines()
    assert first == f"your guess: {guess}"
    assert second.startswith(f"measured:   {measured}")
    assert verdict == ("as you said" if agree else "not this time")


def test_a_tolerance_is_told(capsys):
    check_prediction(1, 2, tolerance=3)
    assert "measured:   2 (give or take 3)" in capsys.readouterr().out


def test_expect_error_lets_the_named_error_through(capsys):
    with expect_error(ValueError, "wrong"):
        raise ValueError("quite wrong\nand a second line")
    assert capsys.readouterr().out.startswith("ValueError: quite wrong")


def test_a_message_is_printed_without_the_terminals_colours(capsys):
    with expect_error(ValueError, "wrong"):
        raise ValueError("\x1b[1mquite\x1b[0m wrong")
    assert capsys.readouterr().out == "ValueError: quite wrong\n"


def test_expect_error_does_not_hide_a_typo():
    with pytest.raises(NameError), expect_error(ValueError, "wrong"):
        undefined_name  # noqa: B018, F821


def test_expect_error_wants_the_message():
    with pytest.raises(AssertionError, match="in its message"), expect_error(ValueError, "wrong"):
        raise ValueError("something else")


def test_expect_error_wants_an_error():
    with pytest.raises(AssertionError, match="nothing was raised"), expect_error(ValueError, "x"):
        pass


def test_compare_has_three_grades(capsys):
    x = torch.rand(5, dtype=torch.float64)
    assert compare("same", x, x.clone()) == "equal to the bit"
    assert compare("rounding", x, x * (1 + 1e-12)) == "close"
    assert compare("wrong", x, x * 1.01) == "different"
    assert compare("none", None, None) == "equal to the bit"
    assert compare("one", x, None) == "different"
    assert len(capsys.readouterr().out.splitlines()) == 5


def test_compare_refuses_to_broadcast():
    with pytest.raises(
        ValueError, match=r"ours has shape \(1,\); expected that of reference, \(3,\)"
    ):
        compare("shapes", torch.ones(1), torch.ones(3))
