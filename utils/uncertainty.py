"""How far a score can be trusted: intervals from the samples that it was measured on."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from scipy import stats
from torch import Tensor

__all__ = [
    "Interval",
    "PairedComparison",
    "bootstrap_interval",
    "compare_paired",
    "mean_interval",
    "proportion_interval",
]


@dataclass(frozen=True)
class Interval:
    """An estimate and the interval around it.

    Attributes
    ----------
    estimate
        The score on the samples at hand.
    low, high
        Ends of the interval.
    confidence
        Share of test sets, each drawn anew, whose interval holds the value that would be measured
        on endless samples.
    """

    estimate: float
    low: float
    high: float
    confidence: float

    def __contains__(self, value: float) -> bool:
        return self.low <= value <= self.high

    def __str__(self) -> str:
        return f"{self.estimate:.4f} ({self.low:.4f} to {self.high:.4f})"


@dataclass(frozen=True)
class PairedComparison:
    """Two models on the same samples; made by :func:`compare_paired`.

    Attributes
    ----------
    only_first, only_second
        Samples that one model has right and the other has wrong.
    difference
        Accuracy of the first less that of the second, with its interval.
    p_value
        Of McNemar's exact test: how often equally good models would part at least as unevenly.
    """

    only_first: int
    only_second: int
    difference: Interval
    p_value: float


def proportion_interval(successes: int, trials: int, *, confidence: float = 0.95) -> Interval:
    """Give Wilson's interval for a share: an accuracy from independent samples, a recall.

    Parameters
    ----------
    successes
        Right answers.
    trials
        Samples, independent of each other.
    confidence
        Between 0 and 1.

    Returns
    -------
    Interval
        Within [0, 1] always, also for none or all right.

    Raises
    ------
    ValueError
        If ``successes`` is not a whole number from 0 to ``trials``, ``trials`` is below 1, or
        ``confidence`` is not between 0 and 1.

    See Also
    --------
    mean_interval : For samples that come in clusters, several from one patient or speaker.

    References
    ----------
    Wilson, E. B. (1927). Probable inference, the law of succession, and statistical inference.
    Journal of the American Statistical Association 22. https://doi.org/10.1080/01621459.1927.10502953

    Examples
    --------
    >>> print(proportion_interval(351, 360))
    0.9750 (0.9532 to 0.9868)
    """
    _check_confidence(confidence)
    right, count = _whole_number("successes", successes), _whole_number("trials", trials)
    if count < 1:
        raise ValueError(f"trials is {trials}; expected a whole number, at least 1.")
    if not 0 <= right <= count:
        raise ValueError(
            f"successes is {successes}; expected a whole number from 0 to trials, {trials}."
        )
    ends = stats.binomtest(right, count).proportion_ci(confidence, method="wilson")
    return Interval(right / count, float(ends.low), float(ends.high), confidence)


def mean_interval(
    values: Tensor, *, clusters: Tensor | None = None, confidence: float = 0.95
) -> Interval:
    """Give an interval for the mean of one value for each sample: a loss, or right as 0 and 1.

    Samples of one cluster, the same patient or speaker, may depend on each other; what is taken as
    independent then is the clusters, and the interval is that of a ratio: the sum of all values
    over the number of all samples.

    Parameters
    ----------
    values
        Shape ``(N,)``: the loss or the right answers of each sample. Bool counts as 0 and 1.
    clusters
        Shape ``(N,)``, integers: which samples belong together. Each sample by itself if None.
    confidence
        Between 0 and 1.

    Returns
    -------
    Interval
        From Student's t with one degree of freedom less than clusters. It wants thirty clusters
        or so, and more where few samples carry most of the loss. Of an accuracy from independent
        samples, :func:`proportion_interval` gives a better one near 0 and 1. Where all samples are
        right, or all wrong, it is Wilson's for as many samples as there are clusters.

    Raises
    ------
    ValueError
        If ``values`` is not one-dimensional or holds what is not finite, ``clusters`` has another
        shape, or there are fewer than two clusters.

    References
    ----------
    Cochran, W. G. (1977). Sampling Techniques, third edition. Wiley. Chapter 9A.

    Examples
    --------
    >>> print(mean_interval(torch.tensor([0.1, 0.2, 0.3, 0.4])))
    0.2500 (0.0446 to 0.4554)
    """
    _check_confidence(confidence)
    sample = _as_samples("values", values).astype(np.float64)
    if not np.isfinite(sample).all():
        raise ValueError("values holds nan or inf; expected finite numbers.")
    sums, sizes = _by_cluster(sample, clusters)
    count, mean = len(sums), sample.mean()
    if mean in (0, 1) and (sample == mean).all():
        return proportion_interval(int(mean) * count, count, confidence=confidence)
    apart = sums - mean * sizes
    error = math.sqrt(count / (count - 1) * float(apart @ apart)) / len(sample)
    half = float(stats.t.ppf((1 + confidence) / 2, count - 1)) * error
    return Interval(float(mean), float(mean - half), float(mean + half), confidence)


def bootstrap_interval(
    metric: Callable[..., Tensor | float],
    *samples: Tensor,
    clusters: Tensor | None = None,
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> Interval:
    """Give an interval for any metric by drawing the test set again from itself.

    Parameters
    ----------
    metric
        From tensors like ``samples``, of other lengths too, to one number: an F1 score, an area
        under a curve. A torchmetrics function fits as it is. Scores that come out otherwise on a
        set with repetitions, such as a calibration error or a maximum, have no such interval.
    *samples
        Each of shape ``(N, ...)``, one row a sample: outputs and targets.
    clusters
        As for :func:`mean_interval`; whole clusters are drawn then.
    confidence
        Between 0 and 1.
    resamples
        How many sets are drawn.
    seed
        Of the drawing, which has a generator of its own.

    Returns
    -------
    Interval
        From the percentiles of what the drawn sets give. Its ends are too near to each other for
        small sets: from a hundred samples on they hold roughly what is said.

    Raises
    ------
    ValueError
        If the samples differ in length, there are fewer than two clusters, or ``metric`` is not
        finite on a drawn set.

    References
    ----------
    Efron, B. (1979). Bootstrap methods: another look at the jackknife. Annals of Statistics 7.
    https://doi.org/10.1214/aos/1176344552

    Examples
    --------
    >>> right = torch.tensor([1.0] * 90 + [0.0] * 10)
    >>> found = bootstrap_interval(torch.mean, right)
    >>> f"{found.estimate:.2f} ({found.low:.2f} to {found.high:.2f})"
    '0.90 (0.84 to 0.96)'
    """
    _check_confidence(confidence)
    if not callable(metric):
        raise TypeError(f"metric is a {type(metric).__name__}; expected a function.")
    if not samples:
        raise ValueError("samples is empty; expected at least one tensor.")
    if resamples < 100:
        raise ValueError(f"resamples is {resamples}; expected at least 100, better 2000.")
    samples = tuple(map(torch.as_tensor, samples))
    lengths = {len(sample) for sample in samples}
    if len(lengths) > 1:
        raise ValueError(f"samples have lengths {sorted(lengths)}; expected one length.")
    rows = np.arange(lengths.pop())
    groups = list(_groups(rows, clusters))
    draw = np.random.default_rng(seed)

    def score(chosen: np.ndarray) -> float:
        picked = torch.from_numpy(chosen)
        return float(metric(*(sample[picked.to(sample.device)] for sample in samples)))

    drawn = [
        score(np.concatenate([groups[i] for i in draw.integers(len(groups), size=len(groups))]))
        for _ in range(resamples)
    ]
    if not np.isfinite(drawn).all():
        raise ValueError(
            "metric is not finite on a set drawn from the samples; expected a number for every "
            "set, also where a class is absent."
        )
    low, high = np.quantile(drawn, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(score(rows), float(low), float(high), confidence)


def compare_paired(
    right_first: Tensor, right_second: Tensor, *, confidence: float = 0.95
) -> PairedComparison:
    """Compare two models on the same samples, by those on which only one is right.

    Parameters
    ----------
    right_first, right_second
        Bool, shape ``(N,)``: whether each model is right on each sample, in the same order.
    confidence
        Of the interval for the difference, between 0 and 1.

    Returns
    -------
    PairedComparison
        With the difference in accuracy and McNemar's exact test. The interval is an approximation;
        where the two do not say the same, the test is the one to go by.

    Raises
    ------
    TypeError
        If one is not bool: scores or predictions would give a number too.
    ValueError
        If the shapes differ or are not one-dimensional.

    References
    ----------
    McNemar, Q. (1947). Note on the sampling error of the difference between correlated proportions
    or percentages. Psychometrika 12. https://doi.org/10.1007/BF02295996

    Bonett, D. G. and Price, R. M. (2012). Adjusted Wald confidence interval for a difference of
    binomial proportions based on paired data. Journal of Educational and Behavioral Statistics 37.
    https://doi.org/10.3102/1076998611411915

    Examples
    --------
    >>> first = torch.tensor([True] * 95 + [False] * 5)
    >>> second = torch.tensor([True] * 85 + [False] * 15)
    >>> found = compare_paired(first, second)
    >>> found.only_first, found.only_second, round(found.p_value, 4)
    (10, 0, 0.002)
    """
    _check_confidence(confidence)
    right_first, right_second = torch.as_tensor(right_first), torch.as_tensor(right_second)
    for name, right in (("right_first", right_first), ("right_second", right_second)):
        if right.dtype != torch.bool:
            raise TypeError(f"{name} has dtype {right.dtype}; expected torch.bool, right or wrong.")
    first = _as_samples("right_first", right_first)
    second = _as_samples("right_second", right_second)
    if first.shape != second.shape:
        raise ValueError(
            f"right_first has {len(first)} samples, right_second {len(second)}; expected the same "
            "samples in the same order."
        )
    only_first, only_second = int((first & ~second).sum()), int((second & ~first).sum())
    apart = only_first + only_second
    p_value = float(stats.binomtest(only_first, apart).pvalue) if apart else 1.0
    # Bonett and Price: one imagined sample on either side.
    count = len(first)
    share_first, share_second = (only_first + 1) / (count + 2), (only_second + 1) / (count + 2)
    middle = share_first - share_second
    error = math.sqrt((share_first + share_second - middle**2) / (count + 2))
    half = float(stats.norm.ppf((1 + confidence) / 2)) * error
    measured = (only_first - only_second) / count
    difference = Interval(measured, max(-1.0, middle - half), min(1.0, middle + half), confidence)
    return PairedComparison(only_first, only_second, difference, p_value)


def _check_confidence(confidence: float) -> None:
    if not isinstance(confidence, (int, float)) or not 0 < confidence <= 0.999999:
        raise ValueError(f"confidence is {confidence}; expected a number between 0 and 1.")


def _whole_number(name: str, value: float | Tensor) -> int:
    """A count, whatever holds it."""
    try:
        number = float(value)
    except (TypeError, ValueError) as error:
        raise TypeError(f"{name} is a {type(value).__name__}; expected a whole number.") from error
    if not number.is_integer():
        raise ValueError(f"{name} is {value}; expected a whole number.")
    return int(number)


def _as_samples(name: str, values: Tensor) -> np.ndarray:
    values = torch.as_tensor(values)
    if values.is_complex():
        raise TypeError(f"{name} has dtype {values.dtype}; expected real numbers.")
    if values.dim() != 1 or not len(values):
        raise ValueError(
            f"{name} has shape {tuple(values.shape)}; expected one value for each sample, (N,)."
        )
    values = values.detach().cpu()
    return (values.double() if values.is_floating_point() else values).numpy()


def _groups(rows: np.ndarray, clusters: Tensor | None) -> list[np.ndarray]:
    """The rows of each cluster."""
    if clusters is None:
        groups = list(rows[:, None])
    else:
        clusters = torch.as_tensor(clusters)
        if clusters.is_floating_point():
            raise TypeError(f"clusters has dtype {clusters.dtype}; expected integers.")
        if clusters.shape != (len(rows),):
            raise ValueError(
                f"clusters has shape {tuple(clusters.shape)}; expected {(len(rows),)}, one number "
                "for each sample."
            )
        _, which = np.unique(clusters.cpu().numpy(), return_inverse=True)
        order = np.argsort(which, kind="stable")
        groups = np.split(rows[order], np.cumsum(np.bincount(which))[:-1])
    if len(groups) < 2:
        what = "sample" if clusters is None else "cluster"
        raise ValueError(
            f"there is {len(groups)} {what}; expected at least two, or nothing can be said of "
            "how they differ."
        )
    return groups


def _by_cluster(values: np.ndarray, clusters: Tensor | None) -> tuple[np.ndarray, np.ndarray]:
    """Sum and number of the values of each cluster."""
    groups = _groups(np.arange(len(values)), clusters)
    sums = np.array([values[group].sum() for group in groups])
    return sums, np.array([len(group) for group in groups])
