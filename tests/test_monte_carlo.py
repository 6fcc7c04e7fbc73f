"""Dropout on purpose: which layers draw, what stays, and entropies against scipy."""

import math
import warnings

import pytest
import torch
from scipy import stats
from torch import nn
from torch.nn import functional as F

from utils.modes import mode_of
from utils.monte_carlo import mutual_information, only_dropout, predictive_entropy, sample_outputs

WORDS = torch.randn(3, 5, 8, generator=torch.Generator().manual_seed(0))


class Functional(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(8, 8)

    def forward(self, x):
        return F.dropout(self.inner(x), 0.5, self.training)


class Attends(nn.Module):
    def __init__(self, **options):
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, dropout=0.5, batch_first=True)

    def forward(self, x):
        return self.attention(x, x, x, need_weights=False)[0]


class Recurrent(nn.Module):
    def __init__(self, kind):
        super().__init__()
        self.rnn = kind(8, 8, 2, dropout=0.5, batch_first=True)

    def forward(self, x):
        return self.rnn(x)[0]


class Decodes(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.TransformerDecoderLayer(8, 2, 16, 0.5, batch_first=True)

    def forward(self, x):
        return self.layer(x, x)


def encoder(**options):
    layer = nn.TransformerEncoderLayer(8, 2, 16, 0.5, batch_first=True, **options)
    return nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)


EVERY_HOLDER = {
    "Dropout": lambda: nn.Sequential(nn.Linear(8, 8), nn.Dropout()),
    "AlphaDropout": lambda: nn.Sequential(nn.Linear(8, 8), nn.AlphaDropout()),
    "Dropout1d": lambda: nn.Dropout1d(),
    "functional": Functional,
    "attention": Attends,
    "LSTM": lambda: Recurrent(nn.LSTM),
    "GRU": lambda: Recurrent(nn.GRU),
    "RNN": lambda: Recurrent(nn.RNN),
    "encoder layer": lambda: nn.TransformerEncoderLayer(8, 2, 16, 0.5, batch_first=True),
    "encoder": encoder,
    "encoder, norm first": lambda: encoder(norm_first=True),
    "decoder layer": Decodes,
    "scripted": lambda: torch.jit.script(nn.Sequential(nn.Linear(8, 8), nn.Dropout())),
    "scripted, in a model": lambda: nn.Sequential(nn.Linear(8, 8), torch.jit.script(nn.Dropout())),
}


@pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")
@pytest.mark.parametrize("make", EVERY_HOLDER.values(), ids=EVERY_HOLDER)
def test_every_layer_that_holds_dropout_draws(make):
    torch.manual_seed(0)
    model = make().eval()
    drawn = sample_outputs(model, WORDS, 8, seed=0)
    assert drawn.shape[:2] == (8, 3) and len({tuple(d.flatten().tolist()) for d in drawn}) == 8
    assert mode_of(model) == "eval"
    with torch.no_grad():
        alone = model(WORDS)
        assert torch.equal(alone, model(WORDS))  # and nothing draws afterwards


def test_the_usual_recipe_is_silent_for_an_encoder_layer():
    """What this module is for: eval mode and the dropout layers alone."""
    layer = nn.TransformerEncoderLayer(8, 2, 16, 0.5, batch_first=True).eval()
    for module in layer.modules():
        if isinstance(module, nn.Dropout):
            module.train()
    with torch.no_grad():
        assert torch.equal(layer(WORDS), layer(WORDS))


def test_the_mean_of_many_draws_is_that_of_dropout_in_train_mode():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Dropout(0.3)).double()
    x = torch.randn(4, 8, dtype=torch.float64)
    drawn = sample_outputs(net, x, 20_000, seed=0)
    exact = net.eval()(x)  # inverted dropout keeps the mean
    assert (drawn.mean(0) - exact).abs().max() < 0.02 * exact.abs().max()
    expected = exact.abs() * math.sqrt(0.3 / 0.7)
    torch.testing.assert_close(drawn.std(0), expected, rtol=0.05, atol=1e-3)


def test_batch_norm_and_rrelu_stay_in_eval_mode_and_modes_come_back():
    net = nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8), nn.RReLU(), nn.Dropout())
    net.train()[1].eval()
    before = [module.training for module in net.modules()]
    buffers = {name: buffer.clone() for name, buffer in net.named_buffers()}
    with only_dropout(net):
        assert [layer.training for layer in net] == [False, False, False, True]
    rows = torch.randn(6, 8)
    one = sample_outputs(net, rows, 5, seed=0)
    assert torch.equal(one[:, :2], sample_outputs(net, rows, 5, seed=0)[:, :2])
    assert [module.training for module in net.modules()] == before
    assert all(torch.equal(buffer, buffers[name]) for name, buffer in net.named_buffers())


@pytest.mark.filterwarnings("ignore:all 6 draws are equal")
@pytest.mark.parametrize("rows", [1, 7, 4096])
def test_common_batches_change_no_answer(rows):
    """A dropout that drops next to nothing: every draw is the answer in eval mode."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8), nn.Dropout(1e-9)).eval()
    x = torch.randn(5, 8)
    drawn = sample_outputs(net, x, 6, seed=0, rows=rows)
    torch.testing.assert_close(drawn, net(x).detach().expand(6, 5, 8))


def test_the_random_state_is_left_alone_where_a_seed_is_given():
    net = nn.Dropout()
    before = torch.get_rng_state()
    one, other = (sample_outputs(net, torch.ones(4), 9, seed=3) for _ in range(2))
    assert torch.equal(one, other) and torch.equal(before, torch.get_rng_state())
    assert not torch.equal(*(sample_outputs(net, torch.ones(4), 9) for _ in range(2)))


def test_entropies_are_scipys():
    draws = torch.rand(7, 4, 5, dtype=torch.float64).softmax(-1)
    total = torch.tensor([stats.entropy(p) for p in draws.mean(0).numpy()])
    each = torch.tensor([[stats.entropy(p) for p in d] for d in draws.numpy()]).mean(0)
    torch.testing.assert_close(predictive_entropy(draws), total)
    torch.testing.assert_close(mutual_information(draws), total - each)
    sure = F.one_hot(torch.tensor([[0], [1]]), 3).double()
    torch.testing.assert_close(mutual_information(sure), torch.tensor([math.log(2)]).double())
    assert mutual_information(draws[:1]).tolist() == [0] * 4


class OwnNorm(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.zeros(8))

    def forward(self, x):
        if self.training:
            self.mean += x.mean(0)
        return F.dropout(x - self.mean, 0.5, self.training)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: sample_outputs(nn.Linear(2, 2), torch.ones(1, 2), 3), ValueError, "nothing drops"),
        (lambda: sample_outputs(nn.Dropout(0.0), torch.ones(2), 3), ValueError, "nothing drops"),
        (lambda: sample_outputs(nn.Dropout(), torch.ones(2), 0), ValueError, "draws is 0"),
        (lambda: sample_outputs(nn.Dropout(), torch.ones(0, 2), 3), ValueError, "inputs has shape"),
        (lambda: sample_outputs(3, torch.ones(2), 3), TypeError, "model is a int"),
        (lambda: sample_outputs(OwnNorm(), torch.ones(2, 8), 3), ValueError, "moves its buffer mean"),
        (lambda: predictive_entropy(torch.ones(3, 4)), ValueError, "expected .draws, N, C."),
        (lambda: mutual_information(torch.randn(3, 4, 5)), ValueError, "the softmax of scores"),
    ],
)  # fmt: skip
def test_bad_input_is_named_and_nothing_is_changed(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_what_moved_is_put_back():
    model = OwnNorm()
    with pytest.raises(ValueError):
        sample_outputs(model, torch.ones(2, 8), 3)
    assert not model.mean.any() and model.training


class NeverCalled(nn.Module):
    def __init__(self):
        super().__init__()
        self.drop, self.line = nn.Dropout(), nn.Linear(3, 2)

    def forward(self, x):
        return self.line(x)


class DropsTheWeight(nn.Module):
    def __init__(self):
        super().__init__()
        self.line = nn.Linear(64, 2)

    def forward(self, x):
        return F.linear(x, F.dropout(self.line.weight, 0.5, self.training))


@pytest.mark.parametrize(("model", "width"), [(NeverCalled(), 3), (DropsTheWeight(), 64)])
def test_equal_draws_are_said(model, width):
    with pytest.warns(UserWarning, match="all 20 draws are equal"):
        sample_outputs(model, torch.ones(4, width), 20)


def test_a_weight_that_drops_has_draws_where_each_has_a_batch_of_its_own():
    drawn = sample_outputs(DropsTheWeight(), torch.ones(4, 64), 20, rows=4)
    assert len({draw[0, 0].item() for draw in drawn}) == 20


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("rows", [1, 3])
def test_rounding_between_rows_does_not_pass_for_a_spread(rows, dtype):
    class NeverCalled(nn.Module):
        def __init__(self):
            super().__init__()
            self.drop, self.body = nn.Dropout(), nn.Sequential(nn.Linear(64, 64), nn.Linear(64, 9))

        def forward(self, x):
            return self.body(x)

    torch.manual_seed(0)
    model = NeverCalled().to(dtype)
    for draws in (10, 50, 100):
        with pytest.warns(UserWarning, match="draws are equal"):
            sample_outputs(model, torch.rand(rows, 64, dtype=dtype), draws, seed=0)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_spread_in_half_precision_is_no_rounding(dtype):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 64), nn.Dropout(0.05), nn.Linear(64, 9)).to(dtype)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        drawn = sample_outputs(model, torch.rand(3, 64).to(dtype), 20, seed=0)
    assert drawn.float().std(dim=0).max() > 0
