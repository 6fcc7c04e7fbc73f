"""Sentences about scores: intervals, comparisons, temperatures, the spread of many answers."""

import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from utils.calibration import fit_temperature
from utils.monte_carlo import mutual_information, predictive_entropy, sample_outputs
from utils.uncertainty import compare_paired, proportion_interval

from .registry import states

seeds = st.integers(0, 2**20)


@states(
    "12_how_sure",
    "It stays within 0 and 1",
    over="numbers of samples to a million, right answers, confidences",
)
@given(st.integers(1, 10**6), st.floats(0, 1), st.floats(0.01, 0.999))
def test_wilsons_interval_stays_in_range(count, share, confidence):
    right = round(share * count)
    found = proportion_interval(right, count, confidence=confidence)
    assert 0 <= found.low <= right / count <= found.high <= 1
    assert found.low < found.high


@states(
    "12_how_sure",
    "the test does not ask how many they are",
    over="images on which one model is right, and on which both are right or wrong",
)
@given(
    st.integers(0, 60), st.integers(0, 60), st.lists(st.integers(1, 500), min_size=4, max_size=4)
)
def test_mcnemar_asks_only_where_models_part(only_first, only_second, agreeing):
    def p_value(both, neither):
        sizes = torch.tensor([only_first, only_second, both, neither])
        kind = torch.arange(4).repeat_interleave(sizes)
        return compare_paired((kind == 0) | (kind == 2), (kind == 1) | (kind == 2)).p_value

    assert p_value(*agreeing[:2]) == p_value(*agreeing[2:])


@states(
    "12_how_sure",
    "keeps the order, in `float32` and `float64` unless two scores agree to the last digits",
    over="float32 and float64, scales of scores, temperatures from 0.05 to 50",
)
@given(
    st.sampled_from([torch.float32, torch.float64]), st.floats(0.1, 100), st.floats(0.05, 50), seeds
)
def test_a_temperature_changes_no_answer(dtype, scale, temperature, seed):
    scores = scale * torch.randn(50, 7, generator=torch.Generator().manual_seed(seed)).to(dtype)
    assert torch.equal((scores / temperature).argmax(1), scores.argmax(1))


@states(
    "12_how_sure",
    "In `1 / T` the cross-entropy is convex",
    over="scores, labels, pairs of temperatures",
)
@given(st.floats(0.1, 10), st.floats(0.01, 5), st.floats(0.01, 5), seeds)
def test_the_loss_is_convex_in_one_over_t(scale, one, other, seed):
    generator = torch.Generator().manual_seed(seed)
    scores = scale * torch.randn(40, 5, generator=generator, dtype=torch.float64)
    labels = torch.randint(5, (40,), generator=generator)
    loss = lambda beta: F.cross_entropy(beta * scores, labels).item()  # noqa: E731
    middle = loss((one + other) / 2)
    assert middle <= (loss(one) + loss(other)) / 2 + 1e-9 * abs(middle)
    apart = scores - scores.mean(dim=1, keepdim=True)
    assume((apart * F.one_hot(labels, 5)).sum() > 1)  # they know something
    best = 1 / fit_temperature(scores, labels)
    assert loss(best) <= min(loss(one), loss(other), middle) + 1e-9


@states(
    "16_monte_carlo_dropout",
    "It lies between 0 and the predictive entropy",
    over="numbers of draws, inputs and classes, how sure the draws are, float32 and float64",
)
@given(
    st.integers(1, 20),
    st.integers(1, 5),
    st.integers(2, 12),
    st.floats(0.01, 100),
    st.sampled_from([torch.float32, torch.float64]),
    seeds,
)
def test_mutual_information_lies_below_the_entropy(draws, count, classes, scale, dtype, seed):
    generator = torch.Generator().manual_seed(seed)
    scores = scale * torch.randn(draws, count, classes, generator=generator)
    p = scores.to(dtype).softmax(dim=2)
    spread, whole = mutual_information(p), predictive_entropy(p)
    assert (spread >= 0).all() and (spread <= whole + 1e-5).all()
    assert (whole <= torch.tensor(float(classes)).log() + 1e-5).all()


@states(
    "16_monte_carlo_dropout",
    "every layer of `torch.nn` that drops, and of a class of one's own that is no batch or "
    "instance norm of PyTorch's and has a plain method or property that reads `self.training`",
    over="layers that hold dropout, rates, widths, norm_first, modes before",
)
@given(
    st.sampled_from(["layer", "lstm", "gru", "attention", "encoder", "functional"]),
    st.floats(0.2, 0.8),
    st.booleans(),
    st.booleans(),
    seeds,
)
def test_everything_that_drops_is_switched_on(kind, p, norm_first, training, seed):
    torch.manual_seed(seed)
    encoder = nn.TransformerEncoderLayer(8, 2, 16, p, batch_first=True, norm_first=norm_first)
    part = {
        "layer": nn.Dropout(p),
        "lstm": nn.LSTM(8, 8, 2, dropout=p, batch_first=True),
        "gru": nn.GRU(8, 8, 2, dropout=p, batch_first=True),
        "attention": nn.MultiheadAttention(8, 2, dropout=p, batch_first=True),
        "encoder": nn.TransformerEncoder(encoder, 1, enable_nested_tensor=False),
        "functional": _Functional(p),
    }[kind]
    model = _First(part).train(training)
    drawn = sample_outputs(model, torch.randn(2, 5, 8), 6, seed=seed)
    assert all(not torch.equal(drawn[0], other) for other in drawn[1:])
    assert all(module.training == training for module in model.modules())


class _Functional(nn.Module):
    def __init__(self, p):
        super().__init__()
        self.p = p

    def forward(self, x):
        return F.dropout(x, self.p, self.training)


class _First(nn.Module):
    """The first output of a part: recurrent layers and attention return two."""

    def __init__(self, part):
        super().__init__()
        self.part = part

    def forward(self, x):
        attention = isinstance(self.part, nn.MultiheadAttention)
        out = self.part(x, x, x) if attention else self.part(x)
        return out[0] if isinstance(out, tuple) else out
