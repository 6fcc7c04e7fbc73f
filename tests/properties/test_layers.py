"""What the chapters say of single layers, over types of numbers, shapes and settings."""

import copy
import itertools

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from properties.registry import dtypes, flags, floats, rates, seeds, sizes, states, tensors
from utils.batch_norm import reestimate

DROPOUTS = {
    nn.Dropout: (1, 4),
    nn.Dropout1d: (2, 3),
    nn.Dropout2d: (4, 4),
    nn.Dropout3d: (4, 5),
    nn.AlphaDropout: (1, 4),
    nn.FeatureAlphaDropout: (3, 5),
}
"""How many dimensions the input of each may have."""
CHANNELS = 3
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


@st.composite
def dropouts(draw, p=rates):
    """A dropout of any kind, and an input for it."""
    kind = draw(st.sampled_from(sorted(DROPOUTS, key=lambda cls: cls.__name__)))
    shape = [draw(sizes(1, 4)) for _ in range(draw(st.integers(*DROPOUTS[kind])))]
    return kind(draw(p)), draw(tensors(*shape, dtype=draw(dtypes)))


@st.composite
def batch_norms(draw, dtype=floats, **settings):
    """A batch norm for one, two or three dimensions, and how to make batches for it."""
    dims, number = draw(st.integers(0, 3)), draw(dtype)
    cls = NORMS[max(dims - 1, 0)]
    layer = cls(CHANNELS, **settings).to(number)
    inner = [draw(sizes(1, 3)) for _ in range(dims)]

    def batch(rows, seed):
        generator = torch.Generator().manual_seed(seed)
        return (2 * torch.randn(rows, CHANNELS, *inner, generator=generator) + 1).to(number)

    return layer, batch


def over_channel(x):
    return x.transpose(0, 1).flatten(1)


# -- dropout -------------------------------------------------------------------------------------


@states(
    "02_dropout",
    "In eval mode nothing is dropped and nothing is divided, for every type of number",
    over="six kinds of dropout, float32, float64 and bfloat16, shapes, p, gradients on and off",
)
@given(dropouts(), flags)
def test_eval_dropout_is_the_identity(made, grad):
    layer, x = made
    with torch.set_grad_enabled(grad):
        assert torch.equal(layer.eval()(x), x)


@states(
    "02_dropout",
    "in eval mode the layer, unless it is compiled, hands back the *same memory*",
    over="six kinds of dropout, types of numbers, shapes, p",
)
@given(dropouts())
def test_eval_dropout_returns_the_same_memory(made):
    layer, x = made
    assert layer.eval()(x).data_ptr() == x.data_ptr()
    assert layer.train()(x).data_ptr() != x.data_ptr()


@states(
    "02_dropout",
    "Each survivor is divided by the probability of surviving",
    over="float32, float64 and bfloat16, shapes, p",
)
@given(st.lists(sizes(1, 5), min_size=1, max_size=3), dtypes, rates, seeds)
def test_survivors_are_divided_by_the_probability_of_surviving(shape, dtype, p, seed):
    torch.manual_seed(seed)
    x = torch.randn(shape).to(dtype)
    out = nn.Dropout(p)(x)
    survived = out != 0
    torch.testing.assert_close(out[survived], (x / (1 - p))[survived])


@states(
    "02_dropout",
    "a survivor's gradient is scaled up like its value, as long as the gradient that arrives is "
    "finite.",
    over="float32, float64 and bfloat16, shapes, p, upstream gradients",
)
@given(st.lists(sizes(1, 5), min_size=1, max_size=3), dtypes, rates, seeds)
def test_the_gradient_goes_through_the_same_mask(shape, dtype, p, seed):
    torch.manual_seed(seed)
    x = torch.ones(shape, dtype=dtype, requires_grad=True)
    upstream = torch.randn(shape).to(dtype)
    out = nn.Dropout(p)(x)
    out.backward(upstream)
    torch.testing.assert_close(x.grad, out.detach() * upstream)


@states(
    "02_dropout",
    "flip one coin for each channel of each sample",
    over="batches, channels and inner shapes of the three variants, p",
)
@given(st.integers(1, 3), sizes(1, 4), sizes(1, 4), sizes(2, 4), rates, seeds)
def test_channels_are_dropped_whole(dims, rows, channels, inner, p, seed):
    torch.manual_seed(seed)
    layer = (nn.Dropout1d, nn.Dropout2d, nn.Dropout3d)[dims - 1](p)
    out = layer(torch.ones(rows, channels, *[inner] * dims)).flatten(2)
    assert torch.equal(out, out[:, :, :1].expand_as(out))


@states(
    "02_dropout",
    "acts *between* stacked layers, on the outputs of each but the last.",
    over="LSTM, GRU and RNN, one direction and two, one layer and more, p",
)
@given(st.sampled_from([nn.LSTM, nn.GRU, nn.RNN]), sizes(1, 3), flags, st.floats(0.5, 0.9), seeds)
@pytest.mark.filterwarnings("ignore:dropout option")
def test_recurrent_dropout_acts_between_layers(cls, layers, both_ways, p, seed):
    torch.manual_seed(seed)
    layer = cls(4, 16, layers, dropout=p, bidirectional=both_ways)
    x = torch.randn(3, 4, 4)
    one, other = layer(x)[0], layer(x)[0]
    assert torch.equal(one, other) == (layers == 1)
    assert (one != 0).all()  # the outputs of the last layer are not dropped


@states(
    "02_dropout",
    "averaged scores mean averaged log-probabilities",
    over="widths, numbers of classes, weights",
)
@given(sizes(1, 7), sizes(2, 5), seeds)
def test_eval_mode_is_the_geometric_mean_of_all_masks(width, classes, seed):
    torch.manual_seed(seed)
    head, features = nn.Linear(width, classes).double(), torch.rand(width).double()
    masks = torch.tensor(list(itertools.product([0.0, 2.0], repeat=width))).double()
    average = head(features * masks).log_softmax(1).mean(0).softmax(0)
    torch.testing.assert_close(average, head(features).softmax(0))


# -- batch norm ----------------------------------------------------------------------------------


@states(
    "03_batch_norm",
    "The unbiased one (by *n* − 1) is remembered",
    over="one to three dimensions, batch sizes, momentum, float32 and float64",
)
@given(batch_norms(), st.integers(2, 9), st.floats(0.01, 1.0), seeds)
def test_one_variance_normalises_and_another_is_remembered(made, rows, momentum, seed):
    layer, batch = made
    layer.momentum = momentum
    x = batch(rows, seed)
    values = over_channel(x)
    out = over_channel(layer(x).detach())
    biased = (values - values.mean(1, keepdim=True)) / (
        values.var(1, unbiased=False, keepdim=True) + layer.eps
    ).sqrt()
    torch.testing.assert_close(out, biased, rtol=1e-3, atol=1e-4)
    remembered = (1 - momentum) + momentum * values.var(1)
    torch.testing.assert_close(layer.running_var, remembered, rtol=1e-4, atol=1e-5)


@states(
    "03_batch_norm",
    "a share $(1 - m)^k$ of the first distance is left after $k$ batches",
    over="momentum, numbers of batches, float32 and float64",
)
@given(floats, st.floats(0.01, 1.0), st.integers(0, 40), st.floats(-5, 5))
def test_the_share_of_the_first_distance_that_is_left(dtype, momentum, count, mean):
    layer = nn.BatchNorm1d(1, momentum=momentum).to(dtype)
    x = torch.tensor([[mean - 1], [mean + 1]], dtype=dtype)
    for _ in range(count):
        layer(x)
    expected = mean + (1 - momentum) ** count * (0 - mean)
    torch.testing.assert_close(layer.running_mean.item(), expected, rtol=1e-3, atol=1e-4)


@states(
    "03_batch_norm",
    "The plain average of all batches so far, with nothing left of the initial 0.",
    over="one to three dimensions, numbers and sizes of batches, float32 and float64",
)
@given(batch_norms(momentum=None), st.lists(st.integers(2, 5), min_size=1, max_size=6), seeds)
def test_without_momentum_batches_are_averaged(made, counts, seed):
    layer, batch = made
    batches = [batch(rows, seed + index) for index, rows in enumerate(counts)]
    for x in batches:
        layer(x)
    means = torch.stack([over_channel(x).mean(1) for x in batches]).mean(0)
    variances = torch.stack([over_channel(x).var(1) for x in batches]).mean(0)
    torch.testing.assert_close(layer.running_mean, means, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(layer.running_var, variances, rtol=1e-4, atol=1e-4)


@states(
    "03_batch_norm",
    "so `no_grad` has nothing to say about them.",
    over="one to three dimensions, either mode, each gradient switch, float32 and float64",
)
@given(
    batch_norms(),
    flags,
    st.sampled_from([torch.enable_grad, torch.no_grad, torch.inference_mode]),
    seeds,
)
def test_statistics_follow_the_mode_alone(made, training, switch, seed):
    layer, batch = made
    before = layer.running_mean.clone()
    with switch():
        layer.train(training)(batch(4, seed))
    assert torch.equal(before, layer.running_mean) == (not training)


@states(
    "03_batch_norm",
    "In eval mode mean and variance are constants and rows are independent.",
    over="one to three dimensions, batch sizes, memory layouts, float32, float64 and bfloat16",
)
@given(batch_norms(dtype=dtypes), st.integers(2, 9), st.integers(0, 8), flags, seeds)
def test_rows_are_independent_in_eval_mode(made, rows, index, channels_last, seed):
    layer, batch = made
    layer(batch(8, seed + 1))
    x = batch(rows, seed)
    if channels_last and x.dim() == 4:
        x = x.to(memory_format=torch.channels_last)
    index %= rows
    together = layer.eval()(x)[index]
    torch.testing.assert_close(layer(x[index : index + 1])[0], together)


@states(
    "03_batch_norm",
    "What counts is not the batch size but the number of values in each *channel*",
    over="one to three dimensions, inner shapes, batch sizes",
)
@given(batch_norms(), st.integers(1, 2), seeds)
def test_a_single_value_a_channel_is_refused(made, rows, seed):
    layer, batch = made
    x = batch(rows, seed)
    if x.numel() // CHANNELS == 1:
        with pytest.raises(ValueError, match="more than 1 value per channel"):
            layer(x)
    else:
        assert layer(x).isfinite().all()


@states(
    "03_batch_norm",
    "And a batch that a batch norm in train mode has refused for this, uncompiled, has been "
    "*counted*",
    over="momentum and none, numbers of refused batches",
)
@given(st.sampled_from([0.1, None]), st.integers(0, 4))
def test_refused_batches_are_counted(momentum, count):
    layer = nn.BatchNorm1d(2, momentum=momentum)
    for _ in range(count):
        with pytest.raises(ValueError, match="more than 1 value per channel"):
            layer(torch.ones(1, 2))
    assert layer.num_batches_tracked == count and not layer.running_mean.any()


@states(
    "03_batch_norm",
    "The modes agree because both are train mode in disguise.",
    over="one to three dimensions, batch sizes, float32, float64 and bfloat16",
)
@given(batch_norms(dtype=dtypes, track_running_stats=False), st.integers(2, 9), seeds)
def test_modes_agree_without_running_statistics(made, rows, seed):
    layer, batch = made
    x = batch(rows, seed)
    assert torch.equal(layer.train()(x), layer.eval()(x))
    assert list(layer.buffers()) == []


@states(
    "03_batch_norm",
    "In eval mode batch norm is `a * x + b` with fixed `a` and `b` for each feature.",
    over="numbers of features, weights, statistics, float32 and float64",
)
@given(sizes(1, 6), floats, seeds)
def test_eval_batch_norm_is_a_scale_and_a_shift(features, dtype, seed):
    torch.manual_seed(seed)
    layer = nn.BatchNorm1d(features).to(dtype)
    nn.init.normal_(layer.weight)
    nn.init.normal_(layer.bias)
    layer(torch.randn(5, features, dtype=dtype))
    scale = layer.weight / (layer.running_var + layer.eps).sqrt()
    shift = layer.bias - scale * layer.running_mean
    x = torch.randn(4, features, dtype=dtype)
    torch.testing.assert_close(layer.eval()(x), scale * x + shift)


@states(
    "03_batch_norm",
    "If they are well apart, one comes out as −1 and the other as +1",
    over="pairs of values at least one apart",
)
@given(st.floats(-1e3, 1e3), st.floats(1, 1e3))
def test_a_batch_of_two_keeps_only_the_order(value, gap):
    out = nn.BatchNorm1d(1).double()(torch.tensor([[value], [value + gap]]).double())
    torch.testing.assert_close(out.flatten().tolist(), [-1.0, 1.0], atol=1e-3, rtol=0)


@states(
    "07_worse_in_eval",
    "A running mean that has taken in a `nan` never gets rid of it",
    over="momentum below 1, numbers of good batches, float32, float64 and bfloat16",
)
@given(dtypes, st.floats(0.01, 0.99), st.integers(0, 30))
def test_nan_stays_in_a_running_mean(dtype, momentum, good):
    layer = nn.BatchNorm1d(1, momentum=momentum).to(dtype)
    layer(torch.tensor([[1.0], [torch.nan]], dtype=dtype))
    for _ in range(good):
        layer(torch.tensor([[0.0], [2.0]], dtype=dtype))
    assert layer.running_mean.isnan().all()


@states(
    "07_worse_in_eval",
    "which begins by resetting them.",
    over="what was there before, numbers and sizes of batches, float32 and float64",
)
@given(floats, st.lists(st.integers(2, 5), min_size=1, max_size=5), st.floats(-1e3, 1e3), seeds)
def test_reestimation_forgets_what_was_there(dtype, counts, left, seed):
    torch.manual_seed(seed)
    net = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2)).to(dtype)
    batches = [torch.randn(rows, 3, dtype=dtype) for rows in counts]
    net[1].running_mean.fill_(left)
    reestimate(net, batches)
    with torch.no_grad():
        means = torch.stack([net[0](x).mean(0) for x in batches]).mean(0)
    torch.testing.assert_close(net[1].running_mean, means, rtol=1e-4, atol=1e-5)


# -- other layers --------------------------------------------------------------------------------


@states(
    "04_every_layer",
    "They normalise each sample by itself",
    over="group, layer, RMS and instance norm, batch sizes, float32, float64 and bfloat16",
)
@given(st.integers(0, 3), st.integers(2, 5), dtypes, seeds)
def test_other_norms_do_not_listen_and_mix_no_rows(kind, rows, dtype, seed):
    torch.manual_seed(seed)
    layers = nn.GroupNorm(2, 4), nn.LayerNorm([4, 3]), nn.RMSNorm([4, 3]), nn.InstanceNorm1d(4)
    layer, x = layers[kind].to(dtype), torch.randn(rows, 4, 3).to(dtype)
    in_eval = layer.eval()(x)
    assert torch.equal(layer.train()(x), in_eval)
    torch.testing.assert_close(layer(x[:1])[0], in_eval[0])


@states(
    "04_every_layer",
    "In eval mode it uses their mean",
    over="bounds, values, float32 and float64",
)
@given(st.floats(0.0, 0.5), st.floats(0.0, 0.5), floats, seeds)
def test_rrelu_uses_the_mean_slope(lower, width, dtype, seed):
    layer, x = nn.RReLU(lower, lower + width), torch.randn(9).to(dtype)
    expected = torch.where(x < 0, x * (lower + lower + width) / 2, x)
    torch.testing.assert_close(layer.eval()(x), expected)
    torch.manual_seed(seed)
    slopes = (layer.train()(x) / x)[x < 0]
    assert ((slopes >= lower - 1e-5) & (slopes <= lower + width + 1e-5)).all()


@states(
    "04_every_layer",
    "At real positions, with no other mask and ReLU or exact GELU, they agree up to rounding",
    over="lengths of sequences, heads, activation, norm_first, weights",
)
@given(
    st.lists(st.integers(1, 5), min_size=2, max_size=4),
    st.sampled_from([1, 2, 4]),
    st.sampled_from(["relu", "gelu"]),
    flags,
    seeds,
)
@pytest.mark.filterwarnings("ignore")
def test_the_fast_path_agrees_at_real_positions(lengths, heads, activation, norm_first, seed):
    torch.manual_seed(seed)
    layer = nn.TransformerEncoderLayer(
        8, heads, 16, 0.0, activation, batch_first=True, norm_first=norm_first
    )
    encoder, longest = nn.TransformerEncoder(layer, 2).eval(), max(lengths)
    padding = torch.arange(longest) >= torch.tensor(lengths).unsqueeze(1)
    x = torch.randn(len(lengths), longest, 8)
    slow = encoder(x, src_key_padding_mask=padding)
    with torch.no_grad():
        fast = encoder(x, src_key_padding_mask=padding)
    torch.testing.assert_close(slow[~padding], fast[~padding], rtol=1e-3, atol=1e-4)


@states(
    "04_every_layer",
    "an embedding shortens those of the vectors looked up that are longer, in place, in any "
    "mode, unless it is scripted.",
    over="either mode, norms, tokens",
)
@given(flags, st.floats(0.05, 0.5), st.sets(st.integers(0, 9), min_size=1), seeds)
def test_max_norm_shortens_what_is_looked_up(training, norm, tokens, seed):
    torch.manual_seed(seed)
    layer = nn.Embedding(10, 4, max_norm=norm).train(training)
    with torch.no_grad():
        layer.weight[::3] *= 0.01
    before = layer.weight.detach().clone()
    longer = [token for token in sorted(tokens) if before[token].norm() > norm]
    assume(all(abs(before[token].norm() - norm) > 1e-4 for token in tokens))
    with torch.no_grad():
        layer(torch.tensor(sorted(tokens)))
    changed = (before != layer.weight).any(dim=1).nonzero().flatten().tolist()
    assert changed == longer
    assert (layer.weight[changed].norm(dim=1) <= norm + 1e-5).all()


@states(
    "04_every_layer",
    "The mode survives it",
    over="four lazy layers, either mode",
)
@given(
    st.sampled_from([nn.LazyBatchNorm1d, nn.LazyInstanceNorm1d, nn.LazyConv1d, nn.LazyLinear]),
    flags,
)
def test_a_lazy_layer_keeps_its_mode(cls, training):
    layer = (cls() if "Norm" in cls.__name__ else cls(*[2] * (1 + ("Conv" in cls.__name__)))).train(
        training
    )
    layer(torch.randn(3, 4, 5))
    assert layer.training == training


@states(
    "04_every_layer",
    "eval mode uses what is stored.",
    over="weights, either side of the layer, numbers of calls",
)
@given(sizes(2, 6), sizes(2, 6), st.integers(1, 3), seeds)
def test_spectral_norm_stands_still_in_eval_mode(inside, outside, calls, seed):
    torch.manual_seed(seed)
    layer = nn.utils.parametrizations.spectral_norm(nn.Linear(inside, outside)).eval()
    before, x = copy.deepcopy(layer.state_dict()), torch.randn(3, inside)
    outputs = [layer(x) for _ in range(calls + 1)]
    assert all(torch.equal(outputs[0], out) for out in outputs)
    assert all(torch.equal(before[name], value) for name, value in layer.state_dict().items())


@states(
    "02_dropout",
    "`F.multi_head_attention_forward`. Three others default to `False`, and forgetting the "
    "argument means that they never drop at all",
    over="shapes, p",
)
@given(st.integers(40, 80), st.floats(0.3, 0.7), seeds)
def test_defaults_of_the_functions(length, p, seed):
    torch.manual_seed(seed)
    x = torch.randn(2, length)
    for function in (F.dropout, F.dropout1d):
        assert not torch.equal(function(x, p), x)
    for function in (F.alpha_dropout, F.feature_alpha_dropout):
        assert torch.equal(function(x, p), x)
    assert torch.equal(F.rrelu(x), F.rrelu(x))
