"""Averaging keeps the mean; noise has the spread it is said to have."""

import numpy as np
import pytest

from piper_twin.pixels import add_noise, average_down


def test_each_pixel_is_the_rounded_mean_of_its_block():
    image = np.array([[0, 1, 10, 20], [2, 4, 30, 40], [255, 255, 0, 0], [255, 255, 0, 1]], dtype=np.uint8)
    images = np.stack([image, image, 255 - image], axis=-1)
    small = average_down(images, 2)
    assert small.dtype == np.uint8
    np.testing.assert_array_equal(small[..., 0], [[2, 25], [255, 0]])
    np.testing.assert_array_equal(small[..., 1], small[..., 0])


@pytest.mark.parametrize("size", [1, 2, 4, 8, 16])
def test_averaging_agrees_with_the_mean_for_any_leading_axes(size):
    images = np.random.default_rng(0).integers(0, 256, (2, 3, 16, 16, 3), dtype=np.uint8)
    small = average_down(images, size)
    factor = 16 // size
    expected = images.reshape(2, 3, size, factor, size, factor, 3).mean(axis=(3, 5))
    assert small.shape == (2, 3, size, size, 3)
    assert np.abs(small - expected).max() <= 0.5


def test_noise_has_its_deviation_and_no_bias():
    grey = np.full((3, 64, 64, 3), 128, dtype=np.uint8)
    difference = add_noise(grey, 5.0, np.random.default_rng(0)).astype(int) - 128
    assert difference.std() == pytest.approx(5.0, rel=0.05)
    assert abs(difference.mean()) < 0.1


def test_noise_does_not_wrap_around_at_black_and_white():
    for level, nearest in ((0, 60), (255, 195)):
        image = add_noise(np.full((64, 64, 3), level, dtype=np.uint8), 10.0, np.random.default_rng(0))
        assert np.abs(image.astype(int) - level).max() < abs(nearest - level)


def test_images_one_after_another_have_different_noise_and_the_same_generator_repeats_it():
    grey = np.full((3, 32, 32, 3), 128, dtype=np.uint8)
    rng, again = np.random.default_rng(1), np.random.default_rng(1)
    first, second = add_noise(grey, 5.0, rng), add_noise(grey, 5.0, rng)
    assert (first != second).mean() > 0.5
    np.testing.assert_array_equal(add_noise(grey, 5.0, again), first)
