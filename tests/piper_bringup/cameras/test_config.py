"""The file that says where this machine's cameras are."""

from pathlib import Path

import pytest

from piper_bringup.cameras.config import CameraConfig, load_cameras
from piper_twin.robot import DUAL_PIPER
from vla_policy.errors import VlaError

NAMES = DUAL_PIPER.camera_names
SHIPPED = Path(__file__).parents[3] / "ros2_ws/src/piper_bringup/config/cameras.yaml"


def load(folder: Path, text: str) -> dict[str, CameraConfig]:
    path = folder / "cameras.yaml"
    path.write_text(text)
    return load_cameras(path, NAMES)


def test_the_file_that_is_shipped_names_every_camera_of_the_robot():
    assert tuple(load_cameras(SHIPPED, NAMES)) == NAMES


def test_the_file_that_is_shipped_explains_every_setting():
    text = SHIPPED.read_text()
    for field in CameraConfig.__dataclass_fields__:
        assert f"\n# {field} " in text


def test_a_calibration_stands_beside_the_file(tmp_path):
    cameras = load(tmp_path, "head: {source: /dev/video0, calibration: head.yaml, rate: 15}")
    assert cameras == {
        "head": CameraConfig(source="/dev/video0", calibration=tmp_path / "head.yaml", rate=15),
    }


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "names no camera"),
        ("- head", "names no camera"),
        ("head: [", "cannot be read"),
        ("neck: {source: /dev/video0}", "the robot has no camera 'neck'; it has head, left_wrist, right_wrist"),
        ("head: {width: 640}", "camera head has no source"),
        ("head: /dev/video0", "camera head has no source"),
        ("head: {source: a, fps: 30}", "no setting 'fps'; there are source, width, height, rate, calibration, crop"),
        ("head: {source: a, rate: fast}", "rate of camera head is 'fast'; it must be float"),
        ("head: {source: 0}", "source of camera head is 0; it must be str"),
        ("head: {source: a, crop: 1}", "crop of camera head is 1; it must be bool"),
        ("head: {source: a, rate: 0}", "give a source, and a size and rate above 0"),
    ],
)
def test_mistakes_are_named_with_the_remedy(tmp_path, text, told):
    with pytest.raises(VlaError, match=told):
        load(tmp_path, text)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(VlaError, match=r"nothing\.yaml cannot be read"):
        load_cameras(tmp_path / "nothing.yaml", NAMES)
