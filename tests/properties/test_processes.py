"""Sentences about work that is shared among processes, without the processes."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F
from torchmetrics.classification import MulticlassF1Score

from utils.evaluation import evaluate
from utils.scores import Scores

from .registry import states

seeds = st.integers(0, 2**20)


@states(
    "13_many_processes",
    "is a share of which each sample is in exactly one",
    over="numbers of samples and processes",
)
@given(st.integers(0, 300), st.integers(1, 50))
def test_every_sample_is_in_one_share(count, size):
    shares = [range(rank, count, size) for rank in range(size)]
    assert sorted(row for share in shares for row in share) == list(range(count))


@states(
    "13_many_processes",
    "and each gets the numbers of the whole set",
    over="numbers of samples, processes and classes, batch sizes, losses with and without weights",
)
@given(st.integers(1, 60), st.integers(1, 9), st.integers(2, 5), st.integers(1, 17), seeds)
def test_shares_do_not_change_a_score(count, size, classes, batch, seed):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(count, classes, generator=generator, dtype=torch.float64)
    y = torch.randint(classes, (count,), generator=generator)
    loss = nn.CrossEntropyLoss(torch.rand(classes, generator=generator, dtype=torch.float64) + 0.1)
    metrics = {"F1": MulticlassF1Score(classes), "squares": lambda out, y: out.square().mean(1)}
    parts = []
    for rank in range(size):
        share = Scores(metrics, loss, x.device)
        for a, b in zip(x[rank::size].split(batch), y[rank::size].split(batch)):
            if len(b):
                share.add(a, b)
        share.score_held()
        parts.append(share.known())
    whole = Scores(metrics, loss, x.device)
    whole.merge(parts)
    assert whole.result() == pytest.approx(
        evaluate(nn.Identity(), [(x, y)], loss=loss, metrics=metrics), rel=1e-12, abs=1e-6
    )
    by_hand = F.cross_entropy(x, y, loss.weight).item()
    assert whole.result()["loss"] == pytest.approx(by_hand, rel=1e-12)


@states(
    "13_many_processes",
    "The mean variance, plus the variance of the means, keeps it",
    over="numbers of places, means and variances, equal numbers of samples",
)
@given(st.integers(2, 6), st.integers(2, 40), st.floats(0, 5), seeds)
def test_variances_are_pooled_with_their_means(places, samples, apart, seed):
    generator = torch.Generator().manual_seed(seed)
    centres = apart * torch.randn(places, 1, generator=generator, dtype=torch.float64)
    data = centres + torch.randn(places, samples, generator=generator, dtype=torch.float64)
    means, variances = data.mean(dim=1), data.var(dim=1, correction=0)
    pooled = variances.mean() + means.var(correction=0)
    torch.testing.assert_close(pooled, data.flatten().var(correction=0))
