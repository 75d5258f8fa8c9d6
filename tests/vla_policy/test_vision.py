"""Images to tokens."""

import dataclasses

import pytest
import torch

from vla_policy.errors import VlaError
from vla_policy.vision import ConvEncoder, shrink


def images(size, count=2):
    return torch.randint(0, 256, (count, size, size, 3), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


def test_larger_images_are_averaged_down():
    small = images(8)
    large = small.repeat_interleave(4, dim=1).repeat_interleave(4, dim=2)
    assert torch.allclose(shrink(large, 8), shrink(small, 8), atol=1e-6)


def test_pixels_become_minus_one_to_one():
    ends = torch.tensor([0, 255], dtype=torch.uint8).view(2, 1, 1, 1).expand(2, 8, 8, 3)
    planes = shrink(ends, 8)
    assert planes[0].unique().tolist() == [-1.0]
    assert planes[1].unique().tolist() == [1.0]


def test_sizes_that_are_no_multiple_are_refused():
    with pytest.raises(VlaError, match=r"12 x 12.*multiples of 8 x 8"):
        shrink(images(12), 8)


@pytest.mark.parametrize("residuals", [False, True])
def test_the_grid_is_row_by_row(config, residuals):
    encoder = ConvEncoder(dataclasses.replace(config, image_size=16, vision_residuals=residuals))
    black = torch.zeros(1, 16, 16, 3, dtype=torch.uint8)
    spot = black.clone()
    spot[0, 0, 12] = 255  # where the last token of the first row of the 4 x 4 grid looks
    change = (encoder(spot) - encoder(black)).abs().sum(-1)[0]
    assert change.shape == (16,)
    if not residuals:  # their normalisation spreads a little to everywhere
        assert change.argmax() == 3
        assert change[12] == 0


def test_one_encoder_serves_all_images_alike(config):
    encoder = ConvEncoder(config)
    pair = images(8)
    assert torch.allclose(encoder(pair)[1:], encoder(pair[1:]), atol=1e-5)
