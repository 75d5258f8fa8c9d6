"""Images to tokens."""

import dataclasses

import pytest
import torch

from vla_policy.errors import VlaError
from vla_policy.vision import SlotEncoder, shrink


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


def spot_at(row, column, size=32):
    image = torch.full((1, size, size, 3), 60, dtype=torch.uint8)
    image[0, row - 2 : row + 2, column - 2 : column + 2] = 255
    return image


@torch.no_grad()
def test_untrained_slots_already_look_at_what_stands_out(config):
    torch.manual_seed(0)
    encoder = SlotEncoder(dataclasses.replace(config, image_size=32, num_image_tokens=16))
    for row, column in ((8, 8), (8, 24), (20, 12)):
        attention = encoder._attention(encoder.layers(shrink(spot_at(row, column), 32)))
        assert torch.allclose(attention.sum(-1), torch.ones(1, 16))
        place = (attention @ encoder.grid_P2 * 16 + 16)[0]
        nearest = (place - torch.tensor([column, row])).abs().amax(-1).min()
        assert nearest < 3.0


@torch.no_grad()
def test_a_slot_tells_where_the_same_thing_is(config):
    encoder = SlotEncoder(dataclasses.replace(config, image_size=32))
    left, right = encoder(spot_at(16, 8)), encoder(spot_at(16, 24))
    assert (left - right).abs().amax(-1).max() > 0.1


@torch.no_grad()
def test_a_uniform_image_has_finite_slots(config):
    assert torch.isfinite(SlotEncoder(config)(torch.zeros(1, 8, 8, 3, dtype=torch.uint8))).all()


def test_one_encoder_serves_all_images_alike(config):
    encoder = SlotEncoder(config)
    pair = images(8)
    assert torch.allclose(encoder(pair)[1:], encoder(pair[1:]), atol=1e-5)
