"""The digits against scikit-learn, and the corruptions against what they promise."""

import pytest
import torch
from sklearn.datasets import load_digits

from utils.data import CORRUPTIONS, corrupt, digits, digits_loaders


def rows(images):
    return {tuple(image.flatten().tolist()) for image in images}


def test_parts_are_disjoint_and_hold_all_of_scikit_learns_digits():
    parts = [rows(part.tensors[0] * 16) for part in digits(dtype=torch.float64)]
    source = {tuple(image.flatten()) for image in load_digits().images}
    assert set.union(*parts) == source
    assert sum(map(len, parts)) == len(source)  # no image in two parts


def test_labels_belong_to_their_images():
    source = load_digits()
    label_of = {tuple(image.flatten()): label for image, label in zip(source.images, source.target)}
    images, labels = digits(dtype=torch.float64).test.tensors
    assert [label_of[tuple((16 * image).flatten().tolist())] for image in images] == labels.tolist()


def test_classes_keep_their_proportions():
    shares = [torch.bincount(part.tensors[1]) / len(part) for part in digits()]
    for share in shares[1:]:
        torch.testing.assert_close(share, shares[0], atol=0.01, rtol=0)


def test_dtype_is_the_default_or_the_one_asked_for():
    assert digits().train.tensors[0].dtype == torch.get_default_dtype()
    assert digits(dtype=torch.float16).train.tensors[0].dtype == torch.float16
    with pytest.raises(ValueError, match=r"dtype is torch.int64; expected a floating type"):
        digits(dtype=torch.int64)


def test_loaders_neither_read_nor_move_the_global_random_state():
    loaders = digits_loaders(seed=3)
    state = torch.get_rng_state()
    first = [labels.tolist() for loader in loaders for _, labels in loader]
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(99)
    again = [labels.tolist() for loader in digits_loaders(seed=3) for _, labels in loader]
    assert first == again
    other = [labels.tolist() for loader in digits_loaders(seed=4) for _, labels in loader]
    assert first != other


def test_training_order_differs_between_epochs():
    train = digits_loaders().train
    assert [y.tolist() for _, y in train] != [y.tolist() for _, y in train]


def test_batch_size_is_checked():
    with pytest.raises(ValueError, match="batch_size is 0; expected at least 1"):
        digits_loaders(batch_size=0)


@pytest.mark.parametrize("kind", sorted(CORRUPTIONS))
def test_corruption_grows_and_leaves_its_input_alone(kind):
    images = digits().test.tensors[0]
    before = images.clone()
    damage = [(corrupt(images, kind, s) - images).abs().mean().item() for s in range(6)]
    assert damage == sorted(damage) and damage[0] == 0 and len(set(damage)) == 6
    assert torch.equal(images, before)
    spoilt = corrupt(images, kind, 5)
    assert spoilt.min() >= 0 and spoilt.max() <= 1 and spoilt.dtype == images.dtype


@pytest.mark.parametrize("kind", ["noise", "occlusion"])
def test_random_corruptions_follow_their_generator(kind):
    images = digits().test.tensors[0]
    state = torch.get_rng_state()
    one, two = (
        corrupt(images, kind, 3, generator=torch.Generator().manual_seed(seed)) for seed in (1, 2)
    )
    assert not torch.equal(one, two)
    assert torch.equal(corrupt(images, kind, 3), corrupt(images, kind, 3))
    assert torch.equal(torch.get_rng_state(), state)


def test_contrast_and_blur_by_hand():
    images = torch.zeros(1, 1, 8, 8)
    images[0, 0, 4, 4] = 1
    assert corrupt(images, "blur", 1)[0, 0, 3:6, 3:6].tolist() == [[pytest.approx(1 / 9)] * 3] * 3
    mean = 1 / 64
    expected = mean + (1 - mean) * (1 - 0.18 * 2)
    assert corrupt(images, "contrast", 2)[0, 0, 4, 4].item() == pytest.approx(expected)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("fog", 1), "kind is 'fog'; expected one of blur, contrast, noise, occlusion"),
        (("blur", 6), "severity is 6; expected a whole number from 0 to 5"),
        (("blur", 1.5), "severity is 1.5; expected a whole number"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        corrupt(torch.zeros(1, 1, 8, 8), *arguments)
    with pytest.raises(ValueError, match="expected four dimensions"):
        corrupt(torch.zeros(8, 8), "blur", 1)
