"""The book's network."""

import pytest
import torch

from utils.models import digits_mlp


def test_maps_images_to_ten_scores_for_any_batch():
    net = digits_mlp(hidden=16).eval()
    x = torch.rand(5, 1, 8, 8)
    torch.testing.assert_close(net(x), torch.cat([net(row) for row in x.split(1)]))
    assert net(x).shape == (5, 10)


def test_arguments_reach_the_layers_and_are_checked():
    assert digits_mlp(p=0.2)[4].p == 0.2
    with pytest.raises(ValueError, match="hidden is 0; expected at least 1"):
        digits_mlp(hidden=0)
    with pytest.raises(ValueError, match="between 0 and 1"):
        digits_mlp(p=2)
