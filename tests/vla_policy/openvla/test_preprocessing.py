"""The images against libjpeg, Pillow and sums written out."""

import dataclasses
import hashlib
import io
import math

import numpy as np
import pytest
import torch
from PIL import Image

from vla_policy.errors import VlaError
from vla_policy.openvla import jpeg, resampling
from vla_policy.openvla.config import LIBERO_IMAGES, ROBOTWIN_IMAGES, ImagePipeline
from vla_policy.openvla.preprocessing import prepare

NO_GPU = "no CUDA device on this computer: its CPU is held to the same vectors; run this again where there is one"
GPU = (pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason=NO_GPU))
DEVICES = ["cpu", pytest.param("cuda", marks=GPU)]


def photo(height, width, noise=6.0, seed=0):
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width]
    waves = np.stack([127 + 90 * np.sin(x / 17 + y / 29), 127 + 100 * np.cos(y / 11), (x * 3 + y) % 256], -1)
    return np.clip(waves + rng.normal(0, noise, waves.shape), 0, 255).astype(np.uint8)


def planes(*images, device="cpu"):
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).to(device)


def arrays(tensor):
    return tensor.permute(0, 2, 3, 1).cpu().numpy().astype(int)


def through_a_file(image, quality):
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=quality, subsampling=2)
    return np.asarray(Image.open(file)).astype(int)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("quality", [95, 75, 30])
@pytest.mark.parametrize("size", [(64, 96), (50, 33), (17, 16)], ids=str)
def test_jpeg_equals_libjpeg_to_the_bit(quality, size, device):
    images = [photo(*size), photo(*size, noise=80.0, seed=1)]
    ours = arrays(jpeg.round_trip(planes(*images, device=device), quality))
    for image, result in zip(images, ours, strict=True):
        assert np.array_equal(result, through_a_file(image, quality))


def pattern(height, width):
    """The same numbers everywhere and always."""
    y, x = np.mgrid[0:height, 0:width]
    return np.stack([(x * x + 3 * y) // 5 % 256, (x * y) // 7 % 256, (5 * x + y * y // 3) % 256], -1).astype(np.uint8)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(
    ("size", "quality", "digest"),
    [
        ((64, 96), 95, "5d447cb07e689f9e"),
        ((50, 33), 95, "2109f3e8d57811e4"),
        ((64, 96), 30, "8941089b7fb0d7d1"),
    ],
)
def test_fast_decoding_equals_libjpegs_to_the_bit(size, quality, digest, device):
    """Digests of what libjpeg-turbo 3 decodes with its fast transform (simplejpeg, `fastdct=True`)."""
    ours = jpeg.round_trip(planes(pattern(*size), device=device), quality, fast=True).permute(0, 2, 3, 1).cpu().numpy()
    assert hashlib.sha256(np.ascontiguousarray(ours)).hexdigest()[:16] == digest


def test_fast_decoding_is_a_little_darker():
    image = photo(64, 96)
    difference = arrays(jpeg.round_trip(planes(image), 95, fast=True))[0] - through_a_file(image, 95)
    assert np.abs(difference).max() <= 10
    assert -1.5 < difference.mean() < 0


def lanczos_pixel(line, new, index):
    """One output of one line, summed as TensorFlow's kernel defines it."""
    scale = len(line) / new
    centre, width = (index + 0.5) * scale, max(scale, 1.0)
    total = norm = 0.0
    for place, value in enumerate(line):
        x = abs(place + 0.5 - centre) / width
        if x < 3:
            weight = 1.0 if x < 1e-3 else 3 * math.sin(math.pi * x) * math.sin(math.pi * x / 3) / (math.pi * x) ** 2
            total, norm = total + weight * value, norm + weight
    return total / norm


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("size", [(40, 32), (24, 64)], ids=str)
def test_lanczos_equals_the_sum_it_stands_for(size, device):
    image = photo(*size, noise=60.0)
    ours = resampling.lanczos3(planes(image, device=device).double(), 28).cpu()[0]
    for channel, row, column in [(0, 0, 0), (1, 27, 27), (2, 13, 5), (0, 3, 20)]:
        narrow = [lanczos_pixel(line, 28, column) for line in image[..., channel].astype(float)]
        assert float(ours[channel, row, column]) == pytest.approx(lanczos_pixel(narrow, 28, row), abs=1e-4)


def in_floats(image, size):
    """Pillow's Lanczos without its rounding between the passes."""
    channels = [Image.fromarray(channel.astype(np.float32)) for channel in np.moveaxis(image, -1, 0)]
    return np.stack([np.asarray(one.resize((size, size), Image.Resampling.LANCZOS)) for one in channels], -1)


@pytest.mark.parametrize("size", [(128, 128), (240, 320)], ids=str)
def test_lanczos_is_pillows(size):
    image = photo(*size)
    ours = resampling.lanczos3(planes(image).double(), 224)[0].permute(1, 2, 0).numpy()
    assert np.abs(ours - in_floats(image, 224)).max() < 1e-3


@pytest.mark.parametrize("size", [(256, 256), (240, 320), (128, 100)], ids=str)
def test_bicubic_is_pillows_within_its_fixed_point(size):
    image = photo(*size)
    expected = np.asarray(Image.fromarray(image).resize((224, 224), Image.Resampling.BICUBIC)).astype(int)
    difference = np.abs(arrays(resampling.bicubic(planes(image).double(), 224))[0] - expected)
    assert difference.max() <= 2
    assert difference.mean() < 0.02


def crop_pixel(image, row, column, size):
    """`crop_and_resize` at one pixel, in floats of [0, 1], and back to bytes as TensorFlow does it."""
    height, width, _ = image.shape
    offset = (1 - math.sqrt(0.9)) / 2
    places = []
    for index, extent in ((row, height), (column, width)):
        places.append(offset * (extent - 1) + index * math.sqrt(0.9) * (extent - 1) / (size - 1))
    (y, x), (top, left) = places, (math.floor(places[0]), math.floor(places[1]))
    corners = image[top : top + 2, left : left + 2] / 255.0
    upper, lower = corners[:, 0] + (corners[:, 1] - corners[:, 0]) * (x - left)
    return np.floor((upper + (lower - upper) * (y - top)) * 255.5)


@pytest.mark.parametrize("device", DEVICES)
def test_the_crop_keeps_nine_tenths_of_the_area(device):
    image = photo(240, 320)
    ours = prepare(torch.from_numpy(image)[None].to(device), ROBOTWIN_IMAGES, 224).cpu().numpy()[0]
    for row, column in [(0, 0), (223, 223), (100, 17), (5, 200)]:
        assert np.array_equal(ours[row, column], crop_pixel(image, row, column, 224))


def test_the_steps_of_libero_come_in_order():
    image = photo(256, 256)
    decoded = arrays(jpeg.round_trip(planes(image[::-1, ::-1].copy()), 95, fast=True))[0]
    scaled = in_floats(decoded, 224).round().clip(0, 255).astype(np.uint8)
    hanging = dataclasses.replace(LIBERO_IMAGES, rotate_180=True)
    ours = prepare(torch.from_numpy(image)[None], hanging, 224)
    assert torch.equal(ours, prepare(torch.from_numpy(scaled)[None], ROBOTWIN_IMAGES, 224))


@pytest.mark.parametrize("pipeline", [LIBERO_IMAGES, ROBOTWIN_IMAGES, ImagePipeline()])
def test_a_batch_is_its_images(pipeline):
    images = torch.from_numpy(np.stack([photo(48, 64, seed=seed) for seed in range(3)]))
    together = prepare(images, pipeline, 28)
    assert together.shape == (3, 28, 28, 3) and together.dtype == torch.uint8
    for image, result in zip(images, together, strict=True):
        assert torch.equal(prepare(image[None], pipeline, 28)[0], result)


def test_an_image_of_the_right_size_passes_where_nothing_is_asked():
    image = torch.from_numpy(photo(28, 28))[None]
    assert torch.equal(prepare(image, ImagePipeline(), 28), image)


@pytest.mark.parametrize("device", [DEVICES[1]])
def test_the_gpu_sees_what_the_cpu_sees(device):
    images = torch.from_numpy(np.stack([photo(256, 256, seed=seed) for seed in range(4)]))
    for pipeline in (LIBERO_IMAGES, ROBOTWIN_IMAGES):
        there = prepare(images.to(device), pipeline, 224).cpu().int()
        assert (there - prepare(images, pipeline, 224).int()).abs().max() <= 1  # sums are made in another order


@pytest.mark.parametrize("fields", [{"jpeg_quality": 0}, {"crop_area": 1.5}])
def test_impossible_steps_are_refused(fields):
    with pytest.raises(VlaError, match=next(iter(fields))):
        ImagePipeline(**fields)
