"""What a JPEG file does to an image, without the file: libjpeg's losses, batched, on any device.

Published checkpoints saw their training images through JPEG. Only what loses something is done: colours to luminance
and two colour differences in libjpeg's integers, differences at half the size, blocks of 8 x 8 to frequencies, which
are rounded to multiples of a table, and all the way back with libjpeg's smooth upsampling. The cosine transform is
libjpeg's accurate one, integer by integer: an exact one would round one frequency in three hundred the other way.
TensorFlow decodes with libjpeg's fast one, which darkens an image by almost a level; so does `fast`.

N images, H and W pixels.
"""

from __future__ import annotations

import functools

import torch
from torch import Tensor
from torch.nn import functional

_LUMINANCE = (
    (16, 11, 10, 16, 24, 40, 51, 61),
    (12, 12, 14, 19, 26, 58, 60, 55),
    (14, 13, 16, 24, 40, 57, 69, 56),
    (14, 17, 22, 29, 51, 87, 80, 62),
    (18, 22, 37, 56, 68, 109, 103, 77),
    (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101),
    (72, 92, 95, 98, 112, 100, 103, 99),
)
"""ITU-T T.81, table K.1."""
_CHROMINANCE = (
    (17, 18, 24, 47, 99, 99, 99, 99),
    (18, 21, 26, 66, 99, 99, 99, 99),
    (24, 26, 56, 99, 99, 99, 99, 99),
    (47, 66, 99, 99, 99, 99, 99, 99),
    *(((99,) * 8,) * 4),
)
"""ITU-T T.81, table K.2."""
_COSINES = (
    (8192, 8192, 8192, 8192),
    (11363, 9633, 6437, 2260),
    (10703, 4433, -4433, -10703),
    (9633, -2259, -11362, -6436),
    (8192, -8192, -8192, 8192),
    (6437, -11362, 2261, 9633),
    (4433, -10704, 10704, -4433),
    (2260, -6436, 9633, -11363),
)
"""Left half of libjpeg's transform (`jfdctint.c`), multiplied out, 13 binary places; the right half mirrors it."""
_BLOCK = 8
_HALF = 1 << 15
"""Rounds numbers with 16 binary places."""


def round_trip(images_N3HW: Tensor, quality: int, fast: bool = False) -> Tensor:
    """Encode and decode uint8 images with colours at half the size (4:2:0).

    Args:
        images_N3HW: RGB.
        quality: 1 to 100.
        fast: Decode as TensorFlow does, otherwise as Pillow.
    """
    height, width = images_N3HW.shape[-2:]
    rgb = functional.pad(images_N3HW.float(), (0, -width % 16, 0, height % 2), mode="replicate").int()
    luminance, *differences = _to_ycc(rgb)
    luminance = _quantise(luminance, _table(quality, False, str(rgb.device)), fast)[:, :height, :width]
    table = _table(quality, True, str(rgb.device))
    columns = (width + 1) // 2
    blue, red = (
        _upsample(_quantise(_halve(plane), table, fast)[..., :columns])[:, :height, :width] - 128
        for plane in differences
    )
    return _to_rgb(luminance, blue, red)


def _to_ycc(rgb_N3HW: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    red, green, blue = rgb_N3HW.unbind(1)
    offset = (128 << 16) + _HALF - 1
    return (
        (19595 * red + 38470 * green + 7471 * blue + _HALF) >> 16,
        (-11059 * red - 21709 * green + 32768 * blue + offset) >> 16,
        (32768 * red - 27439 * green - 5329 * blue + offset) >> 16,
    )


def _to_rgb(luminance_NHW: Tensor, blue_NHW: Tensor, red_NHW: Tensor) -> Tensor:
    channels = (
        luminance_NHW + ((91881 * red_NHW + _HALF) >> 16),
        luminance_NHW + ((-22554 * blue_NHW - 46802 * red_NHW + _HALF) >> 16),
        luminance_NHW + ((116130 * blue_NHW + _HALF) >> 16),
    )
    return torch.stack(channels, dim=1).clamp(0, 255).to(torch.uint8)


def _halve(plane_NHW: Tensor) -> Tensor:
    """Average squares of four; libjpeg rounds down and up in turn along a row."""
    sums = plane_NHW.unflatten(1, (-1, 2)).unflatten(3, (-1, 2)).sum((2, 4))
    bias = 1 + torch.arange(sums.shape[-1], device=sums.device) % 2
    return (sums + bias).int() >> 2


def _upsample(plane_NHW: Tensor) -> Tensor:
    """Double both sides, three parts of the nearer neighbour to one of the farther, in libjpeg's rounding."""
    above, below = (torch.cat(parts, 1) for parts in _neighbours(plane_NHW, 1))
    sums = torch.stack((3 * plane_NHW + above, 3 * plane_NHW + below), dim=2).flatten(1, 2)
    left, right = (torch.cat(parts, 2) for parts in _neighbours(sums, 2))
    return torch.stack(((3 * sums + left + 8) >> 4, (3 * sums + right + 7) >> 4), dim=3).flatten(2, 3)


def _neighbours(plane: Tensor, dim: int) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """What lies before and after every row (1) or column (2); the edge is its own neighbour."""
    size = plane.shape[dim]
    first, last = plane.narrow(dim, 0, 1), plane.narrow(dim, size - 1, 1)
    return (first, plane.narrow(dim, 0, size - 1)), (plane.narrow(dim, 1, size - 1), last)


def _quantise(plane_NHW: Tensor, table: Tensor, fast: bool) -> Tensor:
    """Round every frequency of every block to a multiple of its entry in the table, libjpeg's transform both ways."""
    transform, height = _transform(str(plane_NHW.device)), plane_NHW.shape[1]
    padded = torch.cat((plane_NHW, plane_NHW[:, -1:].expand(-1, -height % _BLOCK, -1)), dim=1)
    blocks = padded.unflatten(2, (-1, _BLOCK)).unflatten(1, (-1, _BLOCK)).transpose(2, 3) - 128
    rows = _shift(blocks.to(transform.dtype) @ transform.T, 11)
    frequencies = _shift(rows.mT @ transform.T, 15)  # eight times what the name says, and on their side
    steps = ((frequencies.abs() + 4 * table.T) / (8 * table.T)).floor()
    if fast:
        kept = (frequencies.sign() * steps).int() * _fast_table(table)
        pixels = (_fast_inverse(_fast_inverse(kept, -1), -2) >> 5).mT + 128
    else:
        columns = _shift((frequencies.sign() * steps * table.T) @ transform, 11)
        pixels = _shift(columns.mT @ transform, 18) + 128
    return pixels.transpose(2, 3).flatten(3, 4).flatten(1, 2)[:, :height].clamp(0, 255).int()


def _fast_table(table: Tensor) -> Tensor:
    """Steps with the factors that the fast transform leaves out, on their side, two binary places."""
    angles = torch.arange(_BLOCK, dtype=torch.float64, device=table.device) * torch.pi / 16
    factors = torch.cos(angles) * 2**0.5
    factors[0] = 1.0
    scaled = table.T.int() * (factors[:, None] * factors * 2**14).round().int()
    return (scaled + (1 << 11)) >> 12


def _fast_inverse(numbers: Tensor, dim: int) -> Tensor:
    """Eight frequencies along a dimension to eight places: libjpeg's fast transform (`jidctfst.c`), which truncates."""
    even, odd = numbers.unbind(dim)[::2], numbers.unbind(dim)[1::2]
    outer, inner, sums = even[0] + even[2], even[0] - even[2], even[1] + even[3]
    turned = ((even[1] - even[3]) * 362 >> 8) - sums
    front = (outer + sums, inner + turned, inner - turned, outer - sums)
    near, far = odd[2] + odd[1], odd[0] + odd[3]
    middle, edge = odd[2] - odd[1], odd[0] - odd[3]
    shared = (middle + edge) * 473 >> 8
    first = far + near
    second = (middle * -669 >> 8) + shared - first
    third = ((far - near) * 362 >> 8) - second
    fourth = (edge * 277 >> 8) - shared + third
    back = (first, second, third, -fourth)
    before = [one + other for one, other in zip(front, back, strict=True)]
    after = [one - other for one, other in zip(front, back, strict=True)]
    return torch.stack((*before, *after[::-1]), dim=dim)


def _shift(numbers: Tensor, bits: int) -> Tensor:
    """Drop binary places, rounding half up; exact, for doubles hold integers of 53 bits."""
    return ((numbers + 2 ** (bits - 1)) / 2**bits).floor()


@functools.lru_cache(maxsize=8)
def _transform(device: str) -> Tensor:
    left = torch.tensor(_COSINES, dtype=torch.float64)
    signs = torch.tensor([1.0, -1.0] * 4, dtype=torch.float64)[:, None]
    return torch.cat((left, signs * left.flip(1)), dim=1).to(device)


@functools.lru_cache(maxsize=8)
def _table(quality: int, is_colour: bool, device: str) -> Tensor:
    """Steps of the frequencies at a quality of 1 to 100, libjpeg's way."""
    scale = 5000 // quality if quality < 50 else 200 - 2 * quality
    base = torch.tensor(_CHROMINANCE if is_colour else _LUMINANCE)
    return ((base * scale + 50) // 100).clamp(1, 255).to(device, torch.float64)
