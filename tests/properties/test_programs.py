"""Sentences about programs that are made from a model, and about threads that share one."""

import copy
from concurrent.futures import ThreadPoolExecutor

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval

from .registry import FLOATS, states

seeds = st.integers(0, 2**20)
floats = st.sampled_from(FLOATS)


def settled(layer, norm, x):
    """A layer and a batch norm with statistics, scale and shift of its own, in eval mode."""
    for _ in range(3):
        norm(layer(x))
    nn.init.uniform_(norm.weight, 0.5, 2)
    nn.init.normal_(norm.bias)
    return layer.eval(), norm.eval()


@states(
    "14_export",
    "weights times the scale, and a new shift",
    over="linear and convolutional layers, with and without a shift, float32 and float64",
)
@given(st.booleans(), st.booleans(), st.integers(1, 6), floats, seeds)
def test_a_folded_batch_norm_answers_the_same(convolution, bias, width, dtype, seed):
    torch.manual_seed(seed)
    if convolution:
        pair = nn.Conv2d(2, width, 3, bias=bias), nn.BatchNorm2d(width)
        fold, x = fuse_conv_bn_eval, torch.randn(8, 2, 6, 5)
    else:
        pair = nn.Linear(5, width, bias=bias), nn.BatchNorm1d(width)
        fold, x = fuse_linear_bn_eval, torch.randn(8, 5)
    x = x.to(dtype)
    layer, norm = settled(*(part.to(dtype) for part in pair), x)
    with torch.no_grad():
        expected = norm(layer(x))
        torch.testing.assert_close(fold(layer, norm)(x), expected, rtol=1e-3, atol=1e-4)


@states(
    "14_export",
    "agrees for any number of rows",
    over="numbers of rows in the example and afterwards, from 2 and from 1, widths",
)
@given(st.integers(2, 9), st.integers(1, 40), st.integers(1, 6), seeds)
def test_an_export_agrees_for_any_number_of_rows(example, rows, width, seed):
    torch.manual_seed(seed)
    net = nn.Sequential(nn.Linear(4, width), nn.BatchNorm1d(width), nn.Dropout()).eval()
    shapes = ({0: torch.export.Dim("batch")},)
    program = torch.export.export(net, (torch.randn(example, 4),), dynamic_shapes=shapes)
    x = torch.randn(rows, 4)
    torch.testing.assert_close(program.module()(x), net(x))


@states(
    "14_export",
    "The program holds the very tensors of the model, no copies",
    over="either mode, layers with and without buffers",
)
@given(st.booleans(), st.booleans(), seeds)
def test_a_program_holds_the_tensors_of_its_model(training, norm, seed):
    torch.manual_seed(seed)
    net = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3) if norm else nn.ReLU()).train(training)
    program = torch.export.export(copy.deepcopy(net), (torch.randn(5, 4),))
    own = torch.export.export(net, (torch.randn(5, 4),))
    held = {tensor.data_ptr() for tensor in net.state_dict().values()}
    assert {tensor.data_ptr() for tensor in own.state_dict.values()} == held
    assert not {tensor.data_ptr() for tensor in program.state_dict.values()} & held


@states(
    "15_serving",
    "a mode belongs to the *model*, and all threads share it",
    over="the three gradient switches, either mode, numbers of threads",
)
@given(
    st.sampled_from([torch.no_grad, torch.inference_mode, torch.enable_grad]),
    st.booleans(),
    st.integers(1, 4),
)
def test_a_mode_belongs_to_the_model_a_gradient_switch_to_its_thread(switch, training, threads):
    net = nn.Sequential(nn.Linear(2, 2), nn.Dropout()).train(not training)
    with ThreadPoolExecutor(threads) as pool, switch():
        net.train(training)
        asked = [pool.submit(lambda: (torch.is_grad_enabled(), net[1].training)) for _ in range(4)]
        assert {future.result() for future in asked} == {(True, training)}
