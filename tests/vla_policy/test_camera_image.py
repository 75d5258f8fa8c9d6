"""What a camera sends becomes what the policy was made for."""

import numpy as np
import pytest

from vla_policy.camera_image import fit_image
from vla_policy.embodiment import Camera
from vla_policy.errors import VlaError

CAMERA = Camera(name="left_wrist", height=16, width=16, fovy=1.0)


def test_an_image_of_the_right_size_is_left_alone():
    image = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    assert fit_image(image, CAMERA) is image


def test_the_middle_is_scaled_down():
    ramp = np.linspace(0, 255, 48)
    image = np.full((48, 64, 3), 77, np.uint8)
    image[:, 8:56, 0], image[:, 8:56, 1] = ramp, ramp[:, None]
    image[:, :8] = image[:, 56:] = 255
    fitted = fit_image(image, CAMERA)
    inner, expected = slice(1, -1), ramp.reshape(16, 3).mean(axis=1)[1:-1]
    np.testing.assert_allclose(fitted[5, inner, 0], expected, atol=1.5)
    np.testing.assert_allclose(fitted[inner, 5, 1], expected, atol=1.5)
    assert (fitted[..., 2] == 77).all()


def test_fine_patterns_become_grey_instead_of_coarse_ones():
    stripes = np.zeros((480, 640, 3), np.uint8)
    stripes[:, ::2] = 200
    fitted = fit_image(stripes, Camera(name="head", height=128, width=128, fovy=1.0))
    assert abs(fitted.astype(float) - 100).max() < 20


@pytest.mark.parametrize("width", [48, 64])
def test_images_of_every_layout_in_memory_are_read(width):
    image = np.random.default_rng(0).integers(0, 256, (48, width, 3), dtype=np.uint8)
    image.setflags(write=False)
    np.testing.assert_array_equal(fit_image(image, CAMERA), fit_image(image[..., ::-1], CAMERA)[..., ::-1])


def test_a_wide_camera_keeps_its_shape():
    wide = Camera(name="head", height=12, width=16, fovy=1.0)
    assert fit_image(np.zeros((480, 640, 3), np.uint8), wide).shape == (12, 16, 3)


@pytest.mark.parametrize("shape", [(8, 64, 3), (48, 40, 3), (12, 12, 3)])
def test_a_small_or_narrow_image_is_refused_and_the_camera_named(shape):
    with pytest.raises(VlaError, match=f"left_wrist sends images of {shape[1]} x {shape[0]} px, .* 16 x 16"):
        fit_image(np.zeros(shape, np.uint8), CAMERA)
