"""docs/hardware.md tells an engineer numbers that the twin owns: they must be the same."""

import re
from pathlib import Path

import mujoco
import numpy as np
import pytest

from piper_twin.cell import empty_cell
from piper_twin.guard import GuardConfig
from piper_twin.randomization import LEVELS
from piper_twin.robot import ARM_SPACING, ARMS, DEG, GRIPPER_STROKE, HEAD_FOVY, HOME, JOINT_LIMITS, WRIST_FOVY

PAGE = (Path(__file__).resolve().parents[1] / "docs" / "hardware.md").read_text(encoding="utf-8")


def vectors(line_with: str) -> np.ndarray:
    """The three-number tuples of the table row with this text."""
    (row,) = [line for line in PAGE.splitlines() if line.startswith("|") and line_with in line]
    found = re.findall(r"\(([−\d., ±]+)\)", row)
    numbers = [[float(word.replace("−", "-").replace("±", "")) for word in text.split(",")] for text in found]
    return np.array([vector for vector in numbers if len(vector) == 3])


@pytest.fixture(scope="module")
def home() -> mujoco.MjData:
    """The empty cell with both arms in the home posture."""
    model = empty_cell().compile()
    data = mujoco.MjData(model)
    for arm in ARMS:
        for number, angle in enumerate(HOME[:6], start=1):
            data.joint(f"{arm}_joint{number}").qpos[0] = angle
    mujoco.mj_forward(model, data)
    return data


def pose(data: mujoco.MjData, camera: str) -> tuple[np.ndarray, np.ndarray]:
    """Position and direction of view in the world."""
    found = data.cam(camera)
    return found.xpos, -found.xmat.reshape(3, 3)[:, 2]


def test_the_head_camera_stands_where_the_page_says(home):
    position, direction, target = vectors("`head`")
    np.testing.assert_allclose(np.array([position, direction]), pose(home, "head"), atol=1e-3)
    np.testing.assert_allclose(np.cross(target - position, direction), 0.0, atol=1e-3)


def test_the_wrist_cameras_sit_where_the_page_says(home):
    position, direction, top = vectors("`right_wrist`")
    for arm in ARMS:
        flange, turn = home.body(f"{arm}_link6").xpos, home.body(f"{arm}_link6").xmat.reshape(3, 3)
        found, view = pose(home, f"{arm}_wrist")
        up = home.cam(f"{arm}_wrist").xmat.reshape(3, 3)[:, 1]
        np.testing.assert_allclose(turn.T @ (found - flange), position, atol=1e-3)
        np.testing.assert_allclose(turn.T @ view, direction, atol=1e-3)
        np.testing.assert_allclose(turn.T @ up, top, atol=1e-3)


def test_the_wrist_cameras_see_the_table_from_where_the_page_says_at_home(home):
    position, direction = vectors("in the home posture")
    for arm in ARMS:
        found, view = pose(home, f"{arm}_wrist")
        np.testing.assert_allclose(np.abs(found), position, atol=1e-3)
        np.testing.assert_allclose(view, direction, atol=1e-3)


def test_spacing_stroke_views_and_limits_are_those_of_the_twin():
    assert f"**{ARM_SPACING:.2f} m apart" in PAGE
    assert f"opens {GRIPPER_STROKE * 1000:.0f} mm" in PAGE
    for fovy in (HEAD_FOVY, WRIST_FOVY):
        assert f"| {fovy / DEG:g}° |" in PAGE
    spans = [(round(low / DEG), round(high / DEG)) for low, high in JOINT_LIMITS]
    texts = [f"±{high}" if low == -high else f"{low}..{high}".replace("-", "−") for low, high in spans]
    assert f"must read {', '.join(texts)}°" in PAGE


def test_the_guard_keeps_the_distances_the_page_promises():
    guard = GuardConfig()
    assert f"(it keeps {guard.arm_distance * 100:g} cm)" in PAGE
    assert f"it stops {guard.gripper_table_distance * 1000:g} mm above" in PAGE


def test_mounting_tolerances_are_what_policies_are_trained_with():
    normal, wide = LEVELS["standard"], LEVELS["wide"]
    for name, unit, factor, field in (
        ("position", " mm", 1000.0, "camera_position"),
        ("angle", "°", 1.0 / DEG, "camera_angle"),
        ("field of view", " %", 100.0, "camera_fovy"),
    ):
        value, most = getattr(normal, field) * factor, getattr(wide, field) * factor
        assert f"| {name} | {value:g}{unit} ({most:g}) |" in PAGE


def test_there_is_one_place_for_the_faults():
    assert PAGE.count("<!-- faults -->") == 1
    assert PAGE.index("<!-- faults -->") < PAGE.index("<!-- /faults -->")
