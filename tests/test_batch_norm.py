"""Re-estimated statistics against numpy and against PyTorch's own update_bn."""

import copy

import numpy as np
import pytest
import torch
from torch import nn
from torch.optim.swa_utils import update_bn

from utils.batch_norm import reestimate
from utils.modes import mode_table


def net(dropout=0.0):
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Dropout(dropout), nn.Linear(6, 3), nn.BatchNorm1d(3)
    )


def batches(count=5):
    generator = torch.Generator().manual_seed(1)
    return [(torch.randn(8, 4, generator=generator), torch.zeros(8)) for _ in range(count)]


def test_one_layer_against_numpy():
    layer = nn.BatchNorm1d(4, momentum=0.3)
    data = batches()
    assert reestimate(layer, data) == 5
    inputs = [x.numpy() for x, _ in data]
    mean = np.mean([x.mean(0) for x in inputs], 0)
    variance = np.mean([x.var(0, ddof=1) for x in inputs], 0)
    torch.testing.assert_close(layer.running_mean, torch.tensor(mean))
    torch.testing.assert_close(layer.running_var, torch.tensor(variance))
    assert layer.momentum == 0.3 and int(layer.num_batches_tracked) == 5


def test_equals_update_bn_without_dropout_and_not_with_it():
    for dropout, same in ((0.0, True), (0.5, False)):
        ours, theirs = net(dropout), net(dropout)
        reestimate(ours, batches())
        update_bn(batches(), theirs.train())
        assert torch.allclose(ours[4].running_var, theirs[4].running_var) is same


@pytest.mark.parametrize("loader", [[], [torch.ones(8, 4), torch.ones(8, 3)], [(1, 2, 3)]])
def test_statistics_and_modes_survive_an_error(loader):
    model = net().train()
    model[1].eval()
    before, modes = copy.deepcopy(model.state_dict()), mode_table(model)
    with pytest.raises((ValueError, RuntimeError)):
        reestimate(model, loader)
    assert mode_table(model) == modes
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
    assert [layer.momentum for layer in (model[1], model[4])] == [0.1, 0.1]


def test_no_batch_norm_is_an_error():
    with pytest.raises(ValueError, match="model has no batch norm"):
        reestimate(nn.Linear(2, 2), [torch.ones(4, 2)])


def test_dicts_and_weights_are_handled():
    model = net()
    weights = [p.clone() for p in model.parameters()]
    reestimate(model, [{"x": x, "label": y} for x, y in batches()], device="cpu")
    reestimate(model, [(y, x) for x, y in batches()], unpack=lambda b: (b[1], b[0]))
    assert all(torch.equal(a, b) for a, b in zip(weights, model.parameters(), strict=True))


class WithAuxiliaryHead(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm, self.auxiliary = nn.BatchNorm1d(2), nn.BatchNorm1d(2)

    def forward(self, x):
        return (self.norm(x), self.auxiliary(x)) if self.training else self.norm(x)


def test_a_layer_that_eval_mode_does_not_reach_keeps_its_statistics():
    torch.manual_seed(0)
    model, x = WithAuxiliaryHead(), 3 * torch.randn(64, 2) + 5
    for _ in range(100):
        model(x)
    before = [buffer.clone() for buffer in model.auxiliary.buffers()]
    with pytest.warns(UserWarning, match="'auxiliary' got no batch"):
        assert reestimate(model, [x + 1]) == 1
    assert all(torch.equal(a, b) for a, b in zip(before, model.auxiliary.buffers(), strict=True))
    torch.testing.assert_close(model.norm.running_mean, (x + 1).mean(0))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_many_batches_average_in_every_precision(dtype):
    torch.manual_seed(0)
    batches = [(torch.randn(64, 3) + 5).to(dtype) for _ in range(500)]
    norm = nn.BatchNorm1d(3).to(dtype)
    reestimate(norm, batches)
    exact = torch.stack([batch.double() for batch in batches])
    spacing = max(torch.finfo(dtype).eps, 1e-15)
    torch.testing.assert_close(
        norm.running_mean.double(), exact.mean((0, 1)), rtol=2 * spacing, atol=0
    )
    torch.testing.assert_close(
        norm.running_var.double(), exact.var(1, correction=1).mean(0), rtol=2 * spacing, atol=0
    )


def test_tracking_that_was_switched_off_afterwards_is_no_obstacle():
    norm, x = nn.BatchNorm1d(2), torch.randn(32, 2) + 4
    norm.track_running_stats = False
    reestimate(norm, [x])
    torch.testing.assert_close(norm.running_mean, x.mean(0))
