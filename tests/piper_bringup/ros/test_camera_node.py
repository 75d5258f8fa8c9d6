"""Cameras in the ROS graph: images, JPEG, calibration, and a word about the one that is missing."""

import io
import time

import numpy as np
import pytest
import rclpy
import yaml
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from PIL import Image as PillowImage
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from piper_bringup.cameras import capture
from piper_bringup.ros.camera_node import CameraNode
from piper_twin.robot import DUAL_PIPER, HEAD_FOVY
from vla_policy import topics
from vla_policy.camera_image import fit_image
from vla_policy.errors import VlaError
from vla_policy.ros import convert, qos

pytestmark = pytest.mark.ros

PIXELS = np.full((48, 64, 3), (200, 100, 50), dtype=np.uint8)
LENS = {
    "image_width": 64,
    "image_height": 48,
    "distortion_model": "plumb_bob",
    "distortion_coefficients": {"data": [0.1, 0.0, 0.0, 0.0, 0.0]},
    "camera_matrix": {"data": [61.0, 0.0, 31.0, 0.0, 62.0, 24.0, 0.0, 0.0, 1.0]},
    "rectification_matrix": {"data": [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0]},
    "projection_matrix": {"data": [61.0, 0.0, 31.0, 0.0, 0.0, 62.0, 24.0, 0.0, 0.0, 0.0, 1.0, 0.0]},
}


class Graph:
    """Cameras, and somebody who watches them."""

    def __init__(self, *args):
        rclpy.init(args=["--ros-args", *args])
        self._executor = SingleThreadedExecutor()
        self.cameras, self.watcher = None, Node("watcher")
        self.heard = []
        self._executor.add_node(self.watcher)

    def start(self):
        self.cameras = CameraNode()
        self._executor.add_node(self.cameras)

    def listen(self, kind, topic):
        heard = []
        self.watcher.create_subscription(kind, topic, heard.append, qos.STREAM)
        return heard

    def spin_until(self, condition, patience=60.0):
        deadline = time.monotonic() + patience
        while not condition():
            assert time.monotonic() < deadline, "it never came"
            self._executor.spin_once(timeout_sec=0.05)

    def close(self):
        self._executor.shutdown()
        for node in (self.cameras, self.watcher):
            if node is not None:
                node.destroy_node()
        rclpy.shutdown()


@pytest.fixture
def graph(ros_domain):
    made = []

    def make(*args):
        made.append(Graph(*args))
        return made[0]

    yield make
    made[0].close()


@pytest.fixture
def cameras_file(tmp_path):
    (tmp_path / "images").mkdir()
    PillowImage.fromarray(PIXELS).save(tmp_path / "images" / "one.png")
    (tmp_path / "head.yaml").write_text(yaml.safe_dump(LENS))
    cameras = {
        "head": {"source": str(tmp_path / "images"), "rate": 50, "calibration": "head.yaml"},
        "left_wrist": {"source": str(tmp_path / "images"), "rate": 50},
        "right_wrist": {"source": "/dev/nothing"},
    }
    path = tmp_path / "cameras.yaml"
    path.write_text(yaml.safe_dump(cameras))
    return path


def statuses(heard):
    return {message.status[0].name: message.status[0] for message in heard}


def test_images_jpegs_and_lenses_come_with_the_stamp_of_their_taking(graph, cameras_file):
    made = graph("-p", f"cameras:={cameras_file}")
    heard = {
        "raw": made.listen(Image, topics.image("head")),
        "jpeg": made.listen(CompressedImage, topics.compressed("head")),
        "lens": made.listen(CameraInfo, topics.camera_info("head")),
        "pinhole": made.listen(CameraInfo, topics.camera_info("left_wrist")),
    }
    begin = time.time()
    made.start()
    made.spin_until(lambda: all(heard.values()))
    raw, jpeg, lens, pinhole = (heard[name][-1] for name in ("raw", "jpeg", "lens", "pinhole"))
    np.testing.assert_array_equal(convert.to_image(raw), PIXELS)
    assert begin < convert.to_seconds(raw.header.stamp) < time.time()
    assert raw.header.frame_id == jpeg.header.frame_id == "head"
    shown = np.asarray(PillowImage.open(io.BytesIO(bytes(jpeg.data))))
    np.testing.assert_allclose(shown.mean(axis=(0, 1)), PIXELS[0, 0], atol=3)
    assert list(lens.k[:6]) == LENS["camera_matrix"]["data"][:6]
    assert list(lens.d) == LENS["distortion_coefficients"]["data"]
    assert (lens.width, lens.height) == (64, 48)
    assert (pinhole.width, pinhole.height) == (64, 48)
    assert pinhole.k[0] != lens.k[0]
    assert not any(pinhole.d)


def test_the_diagnostics_name_the_camera_that_is_silent_and_since_when(graph, cameras_file, monkeypatch):
    monkeypatch.setattr(capture, "OPENING_TIME", 0.5)
    made = graph("-p", f"cameras:={cameras_file}")
    heard = made.listen(DiagnosticArray, topics.DIAGNOSTICS)
    made.start()
    made.spin_until(lambda: statuses(heard).get("camera right_wrist", DiagnosticStatus()).message.startswith("silent"))
    assert "s: /dev/nothing is not there; connect it" in statuses(heard)["camera right_wrist"].message
    assert statuses(heard)["camera right_wrist"].level == DiagnosticStatus.ERROR
    assert statuses(heard)["camera head"].level == DiagnosticStatus.OK


def test_a_process_may_serve_one_camera_and_cut_its_images_to_what_the_policy_reads(graph, cameras_file, tmp_path):
    large = np.zeros((480, 640, 3), dtype=np.uint8)
    large[:, 320:] = 255
    PillowImage.fromarray(large).save(tmp_path / "images" / "one.png")
    cameras_file.write_text(yaml.safe_dump({"head": {"source": str(tmp_path / "images"), "crop": True}}))
    made = graph("-p", f"cameras:={cameras_file}", "-p", "only:=[head]")
    images, infos = made.listen(Image, topics.image("head")), made.listen(CameraInfo, topics.camera_info("head"))
    made.start()
    made.spin_until(lambda: images and infos)
    image = convert.to_image(images[-1])
    assert image.shape == (128, 128, 3)
    assert not image[:, :62].any()
    assert (image[:, 66:] == 255).all()
    assert infos[-1].k[4] == pytest.approx(64 / np.tan(HEAD_FOVY / 2))
    assert topics.image("left_wrist") not in dict(made.watcher.get_topic_names_and_types())


def test_what_the_policy_reads_is_sent_beside_the_whole_image(graph, cameras_file, tmp_path):
    large = np.random.default_rng(0).integers(0, 256, (480, 640, 3), np.uint8)
    PillowImage.fromarray(large).save(tmp_path / "images" / "one.png")
    made = graph("-p", f"cameras:={cameras_file}")
    fitted = made.listen(Image, topics.fitted_image("left_wrist"))
    raw = made.listen(Image, topics.image("left_wrist"))
    made.start()
    made.spin_until(lambda: fitted and raw)
    camera = next(camera for camera in DUAL_PIPER.cameras if camera.name == "left_wrist")
    np.testing.assert_array_equal(convert.to_image(raw[-1]), large)
    np.testing.assert_array_equal(convert.to_image(fitted[-1]), fit_image(large, camera))


def test_a_camera_that_is_not_in_the_file_is_refused(graph, cameras_file):
    cameras_file.write_text("head: {source: /dev/video0}")
    made = graph("-p", f"cameras:={cameras_file}", "-p", "only:=[left_wrist]")
    with pytest.raises(VlaError, match="has no camera left_wrist; it has head"):
        made.start()
