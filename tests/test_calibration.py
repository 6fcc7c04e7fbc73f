"""Temperature scaling, against closed forms and another optimiser."""

import math

import pytest
import torch
from torch.nn import functional as F

from utils.calibration import fit_temperature


@pytest.mark.parametrize("gap", [0.1, 3.0, 500.0])
@pytest.mark.parametrize("right", [6, 9])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_two_classes_by_hand(gap, right, dtype):
    """The same gap ten times, right in some: sigmoid(gap / T) is the share of right ones."""
    logits = torch.tensor([[gap, 0.0]] * 10).to(dtype)
    labels = torch.tensor([0] * right + [1] * (10 - right))
    share = right / 10
    own_gap = logits[0, 0].item()
    assert fit_temperature(logits, labels) == pytest.approx(own_gap / math.log(share / (1 - share)))


def noisy(scale, seed=0):
    generator = torch.Generator().manual_seed(seed)
    honest = 2 * torch.randn(2000, 5, generator=generator, dtype=torch.float64)
    labels = torch.multinomial(honest.softmax(1), 1, generator=generator).squeeze(1)
    return scale * honest, labels


@pytest.mark.parametrize("scale", [0.2, 1, 5])
def test_honest_scores_that_were_scaled_are_scaled_back(scale):
    found = fit_temperature(*noisy(scale))
    assert found == pytest.approx(scale, rel=0.1)
    assert found / scale == pytest.approx(fit_temperature(*noisy(1)))  # it scales with them


def test_no_step_to_either_side_is_better():
    logits, labels = noisy(3)
    best = fit_temperature(logits, labels)
    loss = lambda T: F.cross_entropy(logits / T, labels).item()  # noqa: E731
    assert loss(best) < min(loss(best * 1.001), loss(best / 1.001), loss(1))


def test_adam_arrives_at_the_same_place():
    logits, labels = noisy(4)
    log_T = torch.zeros((), dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.Adam([log_T], lr=0.05)
    for _ in range(500):
        optimizer.zero_grad()
        F.cross_entropy(logits / log_T.exp(), labels).backward()
        optimizer.step()
    assert fit_temperature(logits, labels) == pytest.approx(log_T.exp().item(), rel=1e-4)


@pytest.mark.parametrize(
    "logits, labels, message",
    [
        (torch.eye(3), torch.arange(3), "every answer is right"),
        (torch.eye(3), torch.tensor([1, 2, 0]), "no more than chance"),
        (torch.eye(3), torch.arange(2), r"logits has shape \(3, 3\) and labels \(2,\)"),
        (torch.zeros(3, 3), torch.arange(3), "no more than chance"),
        (torch.full((20, 5), 0.1), torch.arange(20) % 5, "no more than chance"),
        (torch.ones(3, 1), torch.zeros(3).long(), "are the two columns 0 and s"),
        (torch.eye(3) * math.inf, torch.arange(3), "holds nan or inf"),
        (torch.eye(3), torch.tensor([0, 1, 3]), "from 0 to 3; expected whole numbers from 0 to 2"),
        (torch.eye(3), torch.zeros(3), "labels is torch.float32"),
        (torch.ones(0, 3), torch.ones(0).long(), "expected"),
    ],
)  # fmt: skip
def test_where_no_temperature_is_best_it_says_why(logits, labels, message):
    with pytest.raises(ValueError, match=message):
        fit_temperature(logits, labels)
