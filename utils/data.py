"""The data of the book: scikit-learn's handwritten digits, split once, corrupted on demand."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

SIDE = 8
"""Height and width of a digit, in pixels."""

CLASSES = 10
"""Number of classes, the digits 0 to 9."""


class DigitsSplits(NamedTuple):
    """The three parts of the digits; made by :func:`digits`."""

    train: TensorDataset
    validation: TensorDataset
    test: TensorDataset


class DigitsLoaders(NamedTuple):
    """A loader for each part of the digits; made by :func:`digits_loaders`."""

    train: DataLoader[tuple[Tensor, ...]]
    validation: DataLoader[tuple[Tensor, ...]]
    test: DataLoader[tuple[Tensor, ...]]


def digits(*, dtype: torch.dtype | None = None) -> DigitsSplits:
    """Load the handwritten digits that scikit-learn ships, in three fixed parts.

    1797 images: 1077 to train on, 360 to validate, 360 to test, each with the classes in the same
    proportions. The split never changes and nothing is downloaded.

    Parameters
    ----------
    dtype
        Floating type of the images; torch's default type if None.

    Returns
    -------
    DigitsSplits
        ``train``, ``validation`` and ``test``. Each is a dataset of images of shape ``(1, 8, 8)``,
        with values from 0 (paper) to 1 (ink), and integer labels of shape ``()``.

    References
    ----------
    Alpaydin, E. and Kaynak, C. (1998). Optical Recognition of Handwritten Digits. UCI Machine
    Learning Repository. The copy in ``sklearn.datasets.load_digits`` is its test part.

    Examples
    --------
    >>> parts = digits()
    >>> [len(part) for part in parts]
    [1077, 360, 360]
    >>> image, label = parts.test[0]
    >>> image.shape, label.dtype
    (torch.Size([1, 8, 8]), torch.int64)
    """
    if dtype is not None and not dtype.is_floating_point:
        raise ValueError(f"dtype is {dtype}; expected a floating type such as torch.float32.")
    source = load_digits()
    images = torch.as_tensor(source.images, dtype=dtype or torch.get_default_dtype())
    images = images.div(16).unsqueeze(1)
    labels = torch.as_tensor(source.target, dtype=torch.int64)

    def split(rows: list[int], held_out: int) -> tuple[list[int], list[int]]:
        kept, out = train_test_split(
            rows, test_size=held_out, stratify=labels[rows], random_state=0
        )
        return kept, out

    rest, test = split(list(range(len(labels))), 360)
    train, validation = split(rest, 360)
    return DigitsSplits(
        *(TensorDataset(images[rows], labels[rows]) for rows in (train, validation, test))
    )


def digits_loaders(
    *, batch_size: int = 64, seed: int = 0, dtype: torch.dtype | None = None
) -> DigitsLoaders:
    """Make a loader for each part of the digits.

    The training part is shuffled anew each epoch by a generator of its own, so that neither the
    global random state nor an evaluation in between changes the order. The last, smaller batch of
    each part is kept.

    Parameters
    ----------
    batch_size
        Images in a batch, at least 1.
    seed
        Seed of the order in which training images come.
    dtype
        As in :func:`digits`.

    Returns
    -------
    DigitsLoaders
        ``train``, ``validation`` and ``test``; batches are ``(images, labels)`` of shapes
        ``(N, 1, 8, 8)`` and ``(N,)``.

    Raises
    ------
    ValueError
        If ``batch_size`` is below 1 or ``dtype`` is not a floating type.

    Examples
    --------
    >>> loaders = digits_loaders(batch_size=100)
    >>> [len(labels) for images, labels in loaders.test]
    [100, 100, 100, 60]
    """
    if batch_size < 1:
        raise ValueError(f"batch_size is {batch_size}; expected at least 1.")
    parts = digits(dtype=dtype)
    return DigitsLoaders(
        train=DataLoader(
            parts.train, batch_size, shuffle=True, generator=torch.Generator().manual_seed(seed)
        ),
        # A generator of its own here too: a loader without one draws from the global state
        # each time it is iterated, even where it does not shuffle.
        validation=DataLoader(parts.validation, batch_size, generator=torch.Generator()),
        test=DataLoader(parts.test, batch_size, generator=torch.Generator()),
    )


def corrupt(
    images: Tensor, kind: str, severity: int, *, generator: torch.Generator | None = None
) -> Tensor:
    """Spoil images in one of a few ways, from slightly to badly.

    After the fashion of ImageNet-C (Hendrycks and Dietterich, 2019), for images of 8 by 8 pixels.

    Parameters
    ----------
    images
        Shape ``(N, C, H, W)``, values in [0, 1]. Not changed.
    kind
        One of :data:`CORRUPTIONS`: ``"noise"`` adds Gaussian noise, ``"blur"`` mixes each pixel
        with its neighbours, ``"contrast"`` draws values towards the mean of their image,
        ``"occlusion"`` covers a square with paper.
    severity
        From 1 to 5. Severity 0 returns the images as they are.
    generator
        Source of randomness for noise and occlusion; a new one with seed 0 if None, so that the
        same call spoils the same images in the same way.

    Returns
    -------
    Tensor
        Same shape and type, values in [0, 1].

    Raises
    ------
    ValueError
        If ``kind`` or ``severity`` is not one of the above, or ``images`` has not four dimensions.

    References
    ----------
    Hendrycks, D. and Dietterich, T. (2019). Benchmarking Neural Network Robustness to Common
    Corruptions and Perturbations. ICLR. https://arxiv.org/abs/1903.12261

    Examples
    --------
    >>> images = torch.ones(2, 1, 8, 8)
    >>> [int((corrupt(images, "occlusion", severity) == 0).sum()) for severity in range(4)]
    [0, 2, 8, 18]
    """
    if kind not in CORRUPTIONS:
        raise ValueError(f"kind is {kind!r}; expected one of {', '.join(sorted(CORRUPTIONS))}.")
    if severity not in range(6):
        raise ValueError(f"severity is {severity!r}; expected a whole number from 0 to 5.")
    if images.dim() != 4:
        raise ValueError(
            f"images has shape {tuple(images.shape)}; expected four dimensions, (N, C, H, W)."
        )
    if severity == 0:
        return images.clone()
    generator = generator or torch.Generator().manual_seed(0)
    return CORRUPTIONS[kind](images, severity, generator).clamp(0, 1)


def _add_noise(images: Tensor, severity: int, generator: torch.Generator) -> Tensor:
    noise = torch.randn(images.shape, generator=generator, dtype=torch.float64)
    return images + 0.1 * severity * noise.to(images)


def _blur(images: Tensor, severity: int, generator: torch.Generator) -> Tensor:
    channels = images.shape[1]
    kernel = torch.full((channels, 1, 3, 3), 1 / 9, dtype=images.dtype, device=images.device)
    for _ in range(severity):
        padded = F.pad(images, (1, 1, 1, 1), mode="replicate")
        images = F.conv2d(padded, kernel, groups=channels)
    return images


def _lower_contrast(images: Tensor, severity: int, generator: torch.Generator) -> Tensor:
    mean = images.mean(dim=(1, 2, 3), keepdim=True)
    return mean + (images - mean) * (1 - 0.18 * severity)


def _occlude(images: Tensor, severity: int, generator: torch.Generator) -> Tensor:
    height, width = images.shape[-2:]
    size = min(severity, height, width)
    count = len(images)
    top = torch.randint(height - size + 1, (count, 1, 1, 1), generator=generator)
    left = torch.randint(width - size + 1, (count, 1, 1, 1), generator=generator)
    rows = torch.arange(height).view(1, 1, -1, 1)
    columns = torch.arange(width).view(1, 1, 1, -1)
    covered = (rows >= top) & (rows < top + size) & (columns >= left) & (columns < left + size)
    return images.masked_fill(covered.to(images.device), 0)


CORRUPTIONS: dict[str, Callable[[Tensor, int, torch.Generator], Tensor]] = {
    "noise": _add_noise,
    "blur": _blur,
    "contrast": _lower_contrast,
    "occlusion": _occlude,
}
"""The kinds of :func:`corrupt`, by name."""
