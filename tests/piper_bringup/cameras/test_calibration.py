"""Calibration files of ROS, and what cutting and scaling does to a lens."""

import dataclasses

import numpy as np
import pytest

from piper_bringup.cameras.calibration import Calibration
from piper_twin.robot import DUAL_PIPER
from vla_policy.camera_image import fit_image
from vla_policy.errors import VlaError

SAVED = """
image_width: 640
image_height: 480
camera_name: narrow_stereo
camera_matrix:
  rows: 3
  cols: 3
  data: [616.59, 0., 318.48, 0., 616.77, 241.17, 0., 0., 1.]
distortion_model: plumb_bob
distortion_coefficients:
  rows: 1
  cols: 5
  data: [0.1, -0.2, 0.001, 0.002, 0.0]
rectification_matrix:
  rows: 3
  cols: 3
  data: [1., 0., 0., 0., 1., 0., 0., 0., 1.]
projection_matrix:
  rows: 3
  cols: 4
  data: [620., 0., 318., 0., 0., 622., 241., 0., 0., 0., 1., 0.]
"""
"""As camera_calibration writes it, with the numbers of a real D435."""


@pytest.fixture
def saved(tmp_path):
    path = tmp_path / "head.yaml"
    path.write_text(SAVED)
    return path


def test_the_file_of_camera_calibration_is_read(saved):
    lens = Calibration.load(saved)
    assert (lens.width, lens.height, lens.model) == (640, 480, "plumb_bob")
    assert lens.camera_matrix[:6] == (616.59, 0.0, 318.48, 0.0, 616.77, 241.17)
    assert lens.distortion == (0.1, -0.2, 0.001, 0.002, 0.0)
    assert lens.projection[5:7] == (622.0, 241.0)


def test_a_point_is_where_the_fitted_lens_says_in_the_fitted_image(saved):
    lens = Calibration.load(saved)
    head = dataclasses.replace(DUAL_PIPER.cameras[0], width=160, height=160)
    point = np.array([0.05, -0.1, 1.0])
    before = np.reshape(lens.camera_matrix, (3, 3)) @ point
    after = np.reshape(lens.fitted(head).camera_matrix, (3, 3)) @ point
    image = np.zeros((480, 640, 3), dtype=np.uint8)
    column, row = np.round(before[:2]).astype(int)
    image[row, column] = 255
    seen = np.argwhere(fit_image(image, head)[..., 0])[0]
    np.testing.assert_allclose(seen[::-1], after[:2], atol=0.7)


def test_the_fitted_lens_keeps_its_distortion_and_scales_its_projection(saved):
    lens = Calibration.load(saved)
    fitted = lens.fitted(DUAL_PIPER.cameras[0])
    assert (fitted.width, fitted.height) == (128, 128)
    assert fitted.distortion == lens.distortion
    assert fitted.projection[0] == pytest.approx(620 * 128 / 480)
    assert fitted.projection[2] == pytest.approx((318 - 80 + 0.5) * 128 / 480 - 0.5)
    assert fitted.projection[8:] == lens.projection[8:]


def test_images_of_another_size_than_was_calibrated_are_refused(saved):
    lens = Calibration.load(saved)
    lens.require_size(np.zeros((480, 640, 3), dtype=np.uint8), "head")
    with pytest.raises(VlaError, match="camera head sends 1280 x 720 px but was calibrated at 640 x 480"):
        lens.require_size(np.zeros((720, 1280, 3), dtype=np.uint8), "head")


@pytest.mark.parametrize("text", ["", "image_width: 640", SAVED.replace("cols: 3\n  data: [616.59, ", "data: [")])
def test_a_file_that_is_no_calibration_is_refused_with_the_command_that_makes_one(tmp_path, text):
    path = tmp_path / "head.yaml"
    path.write_text(text)
    with pytest.raises(VlaError, match=r"head\.yaml cannot be read .*cameracalibrator"):
        Calibration.load(path)
