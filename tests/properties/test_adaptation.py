"""Sentences about statistics that are taken anew: averaged weights, mixtures, a step of a flow."""

import copy
import math

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn, update_bn

from .registry import dtypes, flags, floats, seeds, sizes, states


def some_net(dtype, generator):
    net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 2)).to(dtype)
    for parameter in net.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator).to(dtype)
    return net


@states(
    "17_adapting_batch_norm",
    "The last model's, copied at each update",
    over="dtypes, numbers of updates, plain and exponential averages",
)
@given(dtypes, sizes(), flags, seeds)
def test_buffers_are_copied_from_the_last_model(dtype, updates, exponential, seed):
    generator = torch.Generator().manual_seed(seed)
    net = some_net(dtype, generator)
    smooth = get_ema_multi_avg_fn(0.9) if exponential else None
    average = AveragedModel(net, multi_avg_fn=smooth)
    for _ in range(updates):
        net(torch.randn(5, 3, generator=generator).to(dtype))
        average.update_parameters(net)
    for held, last in zip(average.module.buffers(), net.buffers(), strict=True):
        assert torch.equal(held, last)


@states(
    "17_adapting_batch_norm",
    "Each *batch* counts once, in float32 and float64 and where a layer is called once for it",
    over="float32 and float64, numbers and sizes of batches, momenta",
)
@given(floats, st.lists(sizes(2), min_size=1, max_size=5), st.floats(0.01, 1), seeds)
def test_each_batch_counts_once(dtype, counts, momentum, seed):
    generator = torch.Generator().manual_seed(seed)
    layer = nn.BatchNorm1d(3, momentum=momentum, dtype=dtype)
    parts = [torch.randn(count, 3, generator=generator).to(dtype) for count in counts]
    update_bn(parts, layer)
    means = torch.stack([part.mean(dim=0) for part in parts])
    variances = torch.stack([part.var(dim=0) for part in parts])
    torch.testing.assert_close(layer.running_mean, means.mean(dim=0), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(layer.running_var, variances.mean(dim=0), rtol=1e-4, atol=1e-5)
    assert layer.momentum == momentum


def mixed(model, prior):
    """As in the chapter, for channels along dimension 1."""
    model = copy.deepcopy(model).eval()

    def mix(layer, args):
        variance, mean = torch.var_mean(args[0].detach(), dim=0, correction=0)
        share = prior / (prior + len(args[0]))
        for buffer, before, now in zip(
            (layer.running_mean, layer.running_var), layer.clean, (mean, variance), strict=True
        ):
            buffer.copy_(share * before + (1 - share) * now)

    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm1d):
            layer.clean = (layer.running_mean.clone(), layer.running_var.clone())
            layer.register_forward_pre_hook(mix)
    return model


@states(
    "17_adapting_batch_norm",
    "with `N = 0` train mode's output, with a huge `N` that of eval mode",
    over="float32 and float64, numbers of rows, gradients on and off",
)
@given(floats, sizes(2, 20), flags, seeds)
def test_mixing_has_two_known_ends(dtype, rows, gradients, seed):
    generator = torch.Generator().manual_seed(seed)
    net = some_net(dtype, generator)
    net(torch.randn(32, 3, generator=generator).to(dtype))
    x = 2 + torch.randn(rows, 3, generator=generator).to(dtype)
    with torch.set_grad_enabled(gradients):
        by_batch, by_training = mixed(net, 0)(x), mixed(net, 1e15)(x)
        close = {"rtol": 1e-3, "atol": 1e-3 if dtype == torch.float32 else 1e-9}
        torch.testing.assert_close(by_batch, copy.deepcopy(net).train()(x), **close)
        torch.testing.assert_close(by_training, copy.deepcopy(net).eval()(x), **close)


@states(
    "17_adapting_batch_norm",
    "In eval mode it integrates to 1",
    over="running means and variances, weights and biases of the step",
)
@given(st.floats(-5, 5), st.floats(0.1, 9), st.floats(0.2, 3), st.floats(-2, 2))
def test_in_eval_mode_a_batch_norm_step_keeps_the_volume_of_one(mean, variance, weight, bias):
    layer = nn.BatchNorm1d(1, dtype=torch.float64).eval()
    for tensor, value in zip(layer.state_dict().values(), (weight, bias, mean, variance)):
        tensor.fill_(value)
    grid = torch.linspace(-200, 200, 40001, dtype=torch.float64)
    z = layer(grid.unsqueeze(1)).squeeze().detach()
    volume = weight / math.sqrt(variance + layer.eps)
    density = torch.exp(-z.square() / 2) / math.sqrt(2 * math.pi) * volume
    assert math.isclose(torch.trapezoid(density, grid).item(), 1, abs_tol=1e-6)
