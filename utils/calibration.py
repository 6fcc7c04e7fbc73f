"""Temperature scaling: probabilities that mean what they say, without another answer."""

from __future__ import annotations

import torch
from scipy.optimize import brentq
from torch import Tensor

__all__ = ["fit_temperature"]


def fit_temperature(logits: Tensor, labels: Tensor) -> float:
    """Find the temperature ``T`` for which ``logits / T`` have the lowest cross-entropy.

    Divide the logits of new samples by it before the softmax. Which class comes first does not
    change, so accuracy stays. Fit it on validation data: on training data, which the model knows
    by heart, it comes out too small, and on test data the test is no test any more.

    Parameters
    ----------
    logits
        Shape ``(N, C)``: scores of a model in eval mode, before any softmax.
    labels
        Shape ``(N,)``, integers: the classes.

    Returns
    -------
    float
        Above 1 for a model that is too sure of itself. In ``1 / T`` the loss is convex, so there
        is one minimum and the search needs no step size.

    Raises
    ------
    ValueError
        If the shapes or labels do not fit, the logits are not finite, or no temperature is best:
        all answers are right, so that the loss falls for ever towards ``T = 0``, or the scores
        know less than chance.

    References
    ----------
    Guo, C., Pleiss, G., Sun, Y. and Weinberger, K. Q. (2017). On Calibration of Modern Neural
    Networks. ICML. https://arxiv.org/abs/1706.04599

    Examples
    --------
    >>> labels = torch.tensor([0, 0, 0, 1])
    >>> logits = torch.tensor([[8.0, 0.0]] * 4)  # too sure: right three times in four
    >>> T = fit_temperature(logits, labels)
    >>> f"{T:.2f}", f"{(logits / T).softmax(1)[0, 0]:.2f}"
    ('7.28', '0.75')
    """
    logits, labels = torch.as_tensor(logits), torch.as_tensor(labels)
    if (
        logits.dim() != 2
        or logits.shape[1] < 2
        or labels.shape != logits.shape[:1]
        or not len(labels)
    ):
        raise ValueError(
            f"logits has shape {tuple(logits.shape)} and labels {tuple(labels.shape)}; expected "
            "(N, C) with C at least 2, and (N,). Scores of one class s are the two columns 0 and s."
        )
    scores, labels = logits.detach().double(), labels.to(logits.device)
    if not scores.isfinite().all():
        raise ValueError("logits holds nan or inf; expected finite numbers.")
    if labels.is_floating_point() or not 0 <= labels.min() <= labels.max() < scores.shape[1]:
        raise ValueError(
            f"labels is {labels.dtype} from {labels.min()} to {labels.max()}; expected whole "
            f"numbers from 0 to {scores.shape[1] - 1}."
        )
    own = scores.gather(1, labels.long()[:, None]).squeeze(1)

    def slope(coldness: float) -> float:
        """Of the cross-entropy in ``1 / T``; it rises with ``1 / T``."""
        weighted = (coldness * scores).softmax(dim=1) * scores
        return (weighted.sum(dim=1) - own).mean().item()

    if slope(0) >= -1e-12 * scores.abs().max():
        raise ValueError("no temperature is best: the scores say no more than chance does.")
    if not (scores.amax(dim=1) > own).any():
        raise ValueError(
            "no temperature is best: every answer is right, no score lies above that of the right "
            "class, so that the loss falls for ever as T goes to 0. Fit on samples of which some "
            "are answered wrong."
        )
    coldest = 1 / scores.abs().max().item()
    while slope(coldest) < 0:
        coldest *= 2
    return 1 / brentq(slope, 0, coldest)
