"""What goes into a message comes out again, and what cannot be read is refused by name."""

import io

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticStatus
from PIL import Image as PillowImage
from sensor_msgs.msg import Image

from vla_policy.embodiment import Camera
from vla_policy.errors import VlaError
from vla_policy.ros import convert
from vla_policy.types import ActionChunk

pytestmark = pytest.mark.ros

PIXELS = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)


@pytest.fixture
def chunk(robot):
    rows = np.random.default_rng(1).normal(size=(8, robot.num_joints)).astype(np.float32)
    return ActionChunk(actions=rows, period=0.04, stamp=1_763_800_000.123456)


def test_an_image_comes_back_pixel_by_pixel():
    message = convert.image_message(PIXELS, "head", 12.5)
    assert (message.header.frame_id, convert.to_seconds(message.header.stamp)) == ("head", 12.5)
    np.testing.assert_array_equal(convert.to_image(message), PIXELS)


def test_a_part_of_a_larger_image_is_sent_as_it_looks():
    np.testing.assert_array_equal(
        convert.to_image(convert.image_message(PIXELS[::2, 3:40], "head", 0.0)), PIXELS[::2, 3:40]
    )


def test_bgr_images_are_turned_into_rgb():
    message = convert.image_message(PIXELS[..., ::-1], "head", 0.0)
    message.encoding = "bgr8"
    np.testing.assert_array_equal(convert.to_image(message), PIXELS)


def test_padded_rows_are_understood():
    padded = np.zeros((48, 200), np.uint8)
    padded[:, :192] = PIXELS.reshape(48, 192)
    message = Image(height=48, width=64, encoding="rgb8", step=200, data=padded.tobytes())
    np.testing.assert_array_equal(convert.to_image(message), PIXELS)


def test_images_that_cannot_be_read_are_refused_and_the_camera_named():
    message = convert.image_message(PIXELS, "left_wrist", 0.0)
    message.encoding = "yuv422"
    with pytest.raises(VlaError, match="left_wrist sends 'yuv422' images; set its driver to one of rgb8, bgr8"):
        convert.to_image(message)
    short = convert.image_message(PIXELS, "left_wrist", 0.0)
    short.height = 49
    with pytest.raises(VlaError, match="left_wrist sends 9216 bytes for 49 x 64 px"):
        convert.to_image(short)


def test_a_jpeg_shows_the_image():
    smooth = np.linspace(0, 255, 48 * 64 * 3).reshape(48, 64, 3).astype(np.uint8)
    message = convert.jpeg_message(smooth, "head", 3.0)
    assert "jpeg" in message.format
    shown = np.asarray(PillowImage.open(io.BytesIO(bytes(message.data))))
    assert np.abs(shown.astype(int) - smooth).mean() < 4


def test_the_focal_length_follows_from_the_field_of_view():
    info = convert.camera_info_message(Camera(name="head", height=480, width=640, fovy=np.deg2rad(42.5)), 0.0)
    assert info.k[0] == info.k[4] == pytest.approx(617.1, abs=0.1)  # a real D435: 616.6
    assert (info.k[2], info.k[5]) == (320.0, 240.0)


def test_a_chunk_comes_back_with_its_stamp_to_a_microsecond(chunk, robot):
    back = convert.to_chunk(convert.chunk_message(chunk, robot.joint_names), robot)
    np.testing.assert_array_equal(back.actions, chunk.actions)
    assert back.period == pytest.approx(chunk.period, abs=1e-9)
    assert back.stamp == pytest.approx(chunk.stamp, abs=1e-6)


def test_joints_are_found_by_name_not_by_place(chunk, robot):
    order = np.random.default_rng(2).permutation(robot.num_joints)
    names = [robot.joint_names[index] for index in order]
    shuffled = ActionChunk(actions=chunk.actions[:, order], period=chunk.period, stamp=chunk.stamp)
    np.testing.assert_array_equal(
        convert.to_chunk(convert.chunk_message(shuffled, names), robot).actions, chunk.actions
    )
    state = convert.to_state(convert.joint_state_message(names, chunk.actions[0, order], 0.0), robot)
    np.testing.assert_array_equal(state, chunk.actions[0])


def _without_a_joint(message):
    message.joint_names.pop()
    for point in message.points:
        point.positions.pop()


def _with_a_foreign_joint(message):
    message.joint_names.append("neck")
    for point in message.points:
        point.positions.append(0.0)


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda message: message.points.clear(), "without points"),
        (_without_a_joint, "lacks"),
        (_with_a_foreign_joint, "names neck, which this robot does not have"),
        (lambda message: message.points[3].positions.pop(), "other lengths"),
        (lambda message: setattr(message.points[3].time_from_start, "sec", 5), "not evenly spaced"),
        (lambda message: message.joint_names.__setitem__(0, message.joint_names[1]), "values for the names"),
    ],
)
def test_chunks_that_mean_nothing_are_refused(chunk, robot, spoil, told):
    message = convert.chunk_message(chunk, robot.joint_names)
    spoil(message)
    with pytest.raises(VlaError, match=told):
        convert.to_chunk(message, robot)


def test_a_state_without_a_joint_is_refused_and_the_joint_named(robot):
    message = convert.joint_state_message(robot.joint_names[1:], np.zeros(robot.num_joints - 1), 0.0)
    with pytest.raises(VlaError, match=f"lacks {robot.joint_names[0]}"):
        convert.to_state(message, robot)


def test_a_diagnostic_is_an_error_only_with_a_problem():
    assert convert.diagnostic("robot", None, {}, 0.0).status[0].level == DiagnosticStatus.OK
    status = convert.diagnostic("robot", "left joints are silent", {"age_s": 0.4}, 0.0).status[0]
    assert (status.level, status.message) == (DiagnosticStatus.ERROR, "left joints are silent")
    assert (status.values[0].key, status.values[0].value) == ("age_s", "0.4")
