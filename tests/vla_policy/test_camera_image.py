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


def test_the_middle_is_averaged_down():
    image = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    blocks = image[:, 8:56].reshape(16, 3, 16, 3, 3).mean(axis=(1, 3))
    np.testing.assert_allclose(fit_image(image, CAMERA), blocks, atol=1.0)  # Pillow rounds twice


def test_a_wide_camera_keeps_its_shape():
    wide = Camera(name="head", height=12, width=16, fovy=1.0)
    assert fit_image(np.zeros((480, 640, 3), np.uint8), wide).shape == (12, 16, 3)


@pytest.mark.parametrize("shape", [(8, 64, 3), (48, 40, 3), (12, 12, 3)])
def test_a_small_or_narrow_image_is_refused_and_the_camera_named(shape):
    with pytest.raises(VlaError, match=f"left_wrist sends images of {shape[1]} x {shape[0]} px, .* 16 x 16"):
        fit_image(np.zeros(shape, np.uint8), CAMERA)
