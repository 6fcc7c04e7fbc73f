"""Intervals: against closed forms, published figures, scipy, and how often they hold what is true."""

import math

import numpy as np
import pytest
import torch
from scipy import stats
from torchmetrics.functional.classification import multiclass_f1_score

from utils.uncertainty import (
    bootstrap_interval,
    compare_paired,
    mean_interval,
    proportion_interval,
)


@pytest.mark.parametrize("right, count", [(0, 10), (10, 10), (81, 263), (351, 360)])
def test_wilson_is_where_the_score_test_just_accepts(right, count):
    """Its ends are the rates p for which |right / n - p| is z standard errors *of p*."""
    found = proportion_interval(right, count)
    z = stats.norm.ppf(0.975)
    for end in {found.low, found.high} - {0.0, 1.0}:
        error = math.sqrt(end * (1 - end) / count)
        assert abs(right / count - end) == pytest.approx(z * error)
    assert 0 <= found.low <= right / count <= found.high <= 1


def test_wilson_gives_newcombes_published_figures():
    """Newcombe (1998), Statistics in Medicine 17, table I, method 3."""
    for right, count, low, high in (
        (81, 263, 0.2553, 0.3662),
        (0, 20, 0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ):
        found = proportion_interval(right, count)
        assert (round(found.low, 4), round(found.high, 4)) == (low, high)


def test_a_mean_without_clusters_is_students():
    values = torch.randn(40, generator=torch.Generator().manual_seed(0)).double()
    expected = stats.ttest_1samp(values.numpy(), 0).confidence_interval(0.9)
    found = mean_interval(values, confidence=0.9)
    assert (found.low, found.high) == pytest.approx(tuple(expected))
    alone = mean_interval(values, clusters=torch.arange(40).flip(0), confidence=0.9)
    assert (alone.low, alone.high) == pytest.approx((found.low, found.high))


def test_copies_in_a_cluster_add_nothing():
    """Each sample five times: the interval is that of the samples once."""
    values = torch.rand(50, generator=torch.Generator().manual_seed(0))
    once = mean_interval(values)
    copies = mean_interval(values.repeat(5), clusters=torch.arange(50).repeat(5))
    assert (copies.low, copies.high) == pytest.approx((once.low, once.high))
    naive = mean_interval(values.repeat(5))
    assert naive.high - naive.low < 0.5 * (once.high - once.low)


def coverage(draws, covers):
    return sum(covers(np.random.default_rng(seed)) for seed in range(draws)) / draws


@pytest.mark.parametrize("rate, count", [(0.97, 360), (0.5, 40), (0.99, 200)])
def test_wilson_covers_what_it_says(rate, count):
    """Exactly, over all numbers of right answers: within a few points of 95 %."""
    inside = [rate in proportion_interval(k, count) for k in range(count + 1)]
    share = stats.binom.pmf(np.arange(count + 1), count, rate)[inside].sum()
    assert 0.93 < share < 0.98


def test_a_mean_of_losses_covers_what_it_says():
    """Losses of deviation 1 and mean 1, skewed as losses are."""
    share = coverage(
        1000, lambda draw: 1.0 in mean_interval(torch.from_numpy(draw.exponential(1, 300)))
    )
    assert 0.925 < share < 0.97


@pytest.mark.parametrize("with_clusters", [True, False])
def test_clusters_cover_what_they_say_and_ignoring_them_does_not(with_clusters):
    """Sixty patients with 1 to 9 images each; most of the spread lies between patients."""

    def covers(draw):
        sizes = draw.integers(1, 10, 60)
        patient = np.repeat(np.arange(60), sizes)
        values = draw.normal(0, 1, 60)[patient] + 0.5 * draw.normal(0, 1, len(patient))
        clusters = torch.from_numpy(patient) if with_clusters else None
        return 0.0 in mean_interval(torch.from_numpy(values), clusters=clusters)

    share = coverage(600, covers)
    assert 0.91 < share < 0.97 if with_clusters else share < 0.75


def test_the_bootstrap_covers_what_it_says_for_f1():
    """Three classes, seven answers in ten right: the F1 of endless samples is known."""
    rates = np.full((3, 3), 0.15) + 0.55 * np.eye(3)
    truth = torch.arange(3).repeat_interleave(100_000)
    answers = torch.from_numpy(
        np.concatenate([np.random.default_rng(i).choice(3, 100_000, p=rates[i]) for i in range(3)])
    )
    f1 = lambda answer, label: multiclass_f1_score(answer, label, 3)  # noqa: E731
    true_value = f1(answers, truth).item()
    assert true_value == pytest.approx(0.7, abs=0.005)

    def covers(draw):
        labels = draw.integers(0, 3, 150)
        drawn = np.array([draw.choice(3, p=rates[label]) for label in labels])
        found = bootstrap_interval(
            f1, torch.from_numpy(drawn), torch.from_numpy(labels), resamples=150
        )
        return true_value in found

    assert 0.88 < coverage(100, covers) <= 1


def test_the_bootstrap_of_a_mean_is_near_students_and_draws_whole_clusters():
    draw = np.random.default_rng(0)
    patient = np.repeat(np.arange(80), 5)
    values = torch.from_numpy(draw.normal(0, 1, 80)[patient] + 0.3 * draw.normal(0, 1, 400))
    for clusters in (None, torch.from_numpy(patient)):
        near = mean_interval(values, clusters=clusters)
        found = bootstrap_interval(torch.mean, values, clusters=clusters)
        assert found.estimate == pytest.approx(near.estimate)
        assert found.high - found.low == pytest.approx(near.high - near.low, rel=0.1)


def test_the_bootstrap_repeats_itself_and_leaves_the_random_state_alone():
    values = torch.rand(100)
    before, numpy_before = torch.get_rng_state(), np.random.get_state()[1].copy()
    assert bootstrap_interval(torch.mean, values) == bootstrap_interval(torch.mean, values)
    assert bootstrap_interval(torch.mean, values, seed=1) != bootstrap_interval(torch.mean, values)
    assert torch.equal(before, torch.get_rng_state())
    assert (numpy_before == np.random.get_state()[1]).all()


def right(pattern):
    return torch.tensor([letter == "r" for letter in pattern])


def test_mcnemar_by_hand():
    """Eight samples apart, seven for one side: 2 (1 + 8) / 2^8."""
    found = compare_paired(right("rrrrrrrw" + "r" * 92), right("wwwwwwwr" + "r" * 92))
    assert (found.only_first, found.only_second) == (7, 1)
    assert found.p_value == pytest.approx(18 / 256)
    assert found.difference.estimate == pytest.approx(0.06)
    same = compare_paired(right("rw"), right("rw"))
    assert same.p_value == 1 and same.difference.estimate == 0 and 0 in same.difference


def test_a_paired_difference_covers_what_it_says():
    """Rates of right: 0.93 and 0.90, together in all but 7 in a hundred."""

    def covers(draw):
        case = draw.choice(4, 400, p=[0.88, 0.05, 0.02, 0.05])
        first, second = (case == 0) | (case == 1), (case == 0) | (case == 2)
        return 0.03 in compare_paired(torch.from_numpy(first), torch.from_numpy(second)).difference

    assert 0.93 < coverage(1000, covers) < 0.98


def test_all_right_is_as_sure_as_its_clusters_are_many():
    clusters = torch.arange(20).repeat(5)
    found = mean_interval(torch.ones(100, dtype=torch.bool), clusters=clusters)
    assert found == proportion_interval(20, 20) and found.low < 0.85
    assert mean_interval(torch.zeros(50)) == proportion_interval(0, 50)


def test_counts_and_arrays_of_other_kinds_are_taken():
    right = torch.tensor([True] * 9 + [False])
    assert proportion_interval(right.sum(), len(right)) == proportion_interval(9, 10)
    assert type(proportion_interval(np.int64(9), 10).estimate) is float
    values = np.random.default_rng(0).normal(size=30)
    clusters = np.arange(30) % 10
    expected = mean_interval(torch.from_numpy(values), clusters=torch.from_numpy(clusters))
    assert mean_interval(values, clusters=clusters) == expected
    listed = mean_interval(values.tolist(), clusters=clusters.tolist())
    assert listed.low == pytest.approx(expected.low, rel=1e-4)
    assert compare_paired(np.array([True, False]), [True, True]).only_second == 1


@pytest.mark.parametrize(
    "call, error, message",
    [
        (lambda: proportion_interval(5, 0), ValueError, "trials is 0; expected a whole number"),
        (lambda: proportion_interval(6, 5), ValueError, "successes is 6; expected"),
        (lambda: proportion_interval(0.9, 5), ValueError, r"successes is 0.9; expected a whole"),
        (lambda: proportion_interval(4, 5, confidence=95), ValueError, "confidence is 95; expected"),
        (lambda: mean_interval(torch.ones(2, 2)), ValueError, r"values has shape \(2, 2\)"),
        (lambda: mean_interval(torch.tensor([1.0, math.nan])), ValueError, "values holds nan"),
        (lambda: mean_interval(torch.ones(1)), ValueError, "there is 1 sample; expected at least two"),
        (lambda: mean_interval(torch.ones(2), clusters=torch.ones(2).long()), ValueError, "there is 1 cluster"),
        (lambda: mean_interval(torch.ones(2), clusters=torch.tensor([0.1, 0.2])), TypeError, "clusters has dtype"),
        (lambda: mean_interval(torch.ones(2) * 1j), TypeError, "values has dtype torch.complex64"),
        (lambda: proportion_interval(None, 5), TypeError, "successes is a NoneType"),
        (lambda: proportion_interval(math.nan, 5), ValueError, "successes is nan"),
        (lambda: bootstrap_interval(torch.mean, torch.ones(3), resamples=0), ValueError, "resamples is 0"),
        (lambda: bootstrap_interval(3, torch.ones(3)), TypeError, "metric is a int"),
        (lambda: mean_interval(torch.ones(3), clusters=torch.arange(2)), ValueError, "clusters has shape"),
        (lambda: bootstrap_interval(torch.mean), ValueError, "samples is empty"),
        (lambda: bootstrap_interval(torch.dot, torch.ones(2), torch.ones(3)), ValueError, "lengths"),
        (lambda: bootstrap_interval(lambda x: math.nan, torch.ones(3)), ValueError, "not finite"),
        (lambda: compare_paired(torch.ones(3), torch.ones(3)), TypeError, "right_first has dtype"),
        (lambda: compare_paired(right("rr"), right("r")), ValueError, "expected the same samples"),
    ],
)  # fmt: skip
def test_bad_input_is_named(call, error, message):
    with pytest.raises(error, match=message):
        call()
