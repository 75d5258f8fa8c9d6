"""The second opinion: measured without MuJoCo, it agrees with MuJoCo, and it sees what is wrong."""

import mujoco
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from piper_bringup.fuzz.rounded_boxes import ArmShapes, too_near
from piper_bringup.fuzz.stream_check import StreamCheck
from piper_twin.arm import CONTACT_GROUP
from piper_twin.cell import empty_cell
from piper_twin.clearance import GuardConfig
from piper_twin.guard import limits_of
from piper_twin.robot import ARMS, DUAL_PIPER, HOME

BOTH_HOME = np.tile(HOME, len(ARMS))
LOWER, UPPER, MAX_VELOCITY, MAX_ACCELERATION = limits_of(DUAL_PIPER)
DT = 0.005


@pytest.fixture(scope="module")
def shapes():
    return ArmShapes()


@pytest.fixture(scope="module")
def check():
    return StreamCheck(DUAL_PIPER, GuardConfig(), DT, 2000.0 * MAX_ACCELERATION)


def test_shapes_stand_where_mujoco_puts_them(shapes):
    model = empty_cell().compile()
    data = mujoco.MjData(model)
    geoms = [geom for geom in range(model.ngeom) if model.geom_group[geom] == CONTACT_GROUP]
    for posture in np.random.default_rng(0).uniform(LOWER, UPPER, (50, 14)):
        for arm, joints in zip(ARMS, posture.reshape(2, 7), strict=True):
            for number in range(6):
                data.joint(f"{arm}_joint{number + 1}").qpos = joints[number]
            for number in (1, 2):
                data.joint(f"{arm}_finger{number}").qpos = joints[6] / 2.0
        mujoco.mj_kinematics(model, data)
        centres, axes = shapes.place(posture[None])
        np.testing.assert_allclose(centres[0], data.geom_xpos[geoms], atol=1e-9)
        np.testing.assert_allclose(axes[0], data.geom_xmat[geoms].reshape(-1, 3, 3), atol=1e-9)


def crossed(rng):
    """Arms that reach over to each other."""
    posture = BOTH_HOME + 0.3 * rng.normal(size=14)
    posture[[0, 7]] = rng.uniform(-1.6, 0.0), rng.uniform(0.0, 1.6)
    return np.clip(posture, LOWER, UPPER)


def distance_by_search(shapes, centres, axes, one, other):
    """Between two rounded boxes, by a general minimiser."""
    half = np.concatenate([shapes.half[one], shapes.half[other]])

    def squared(inside):
        return np.sum((centres[one] + axes[one] @ inside[:3] - centres[other] - axes[other] @ inside[3:]) ** 2)

    found = minimize(
        squared, np.zeros(6), bounds=list(zip(-half, half, strict=True)), options={"ftol": 1e-16, "gtol": 1e-10}
    )
    return np.sqrt(found.fun) - shapes.radius[one] - shapes.radius[other]


@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=20, deadline=None)
def test_every_pair_that_is_too_near_is_found_and_no_other(shapes, seed):
    centres, axes = shapes.place(crossed(np.random.default_rng(seed))[None])
    found = {(one, other): distance for _, one, other, distance in too_near(shapes, centres, axes, 0.02)}
    for one, other in shapes.pairs():
        distance = distance_by_search(shapes, centres[0], axes[0], one, other)
        if abs(distance - 0.02) > 1e-4:
            assert ((one, other) in found) == (distance < 0.02)
        if (one, other) in found:
            assert found[one, other] == pytest.approx(distance, abs=1e-4)


def test_a_good_stream_has_no_violation(check):
    assert check.violations(np.tile(BOTH_HOME, (20, 1))) == []


@pytest.mark.parametrize(
    ("joint", "value", "told"),
    [
        (1, -0.1, "position -0.100000 of joint 1"),
        (3, np.nan, "not finite"),
        (6, 0.02, "velocity"),
        (0, 0.0001, "acceleration"),
    ],
)
def test_what_is_wrong_with_one_command_is_told(check, joint, value, told):
    commands = np.tile(BOTH_HOME, (20, 1))
    commands[10, joint] = value
    assert any(told in text for text in check.violations(commands))


def test_a_finger_in_the_table_and_arms_that_meet_are_told(check):
    low, met = BOTH_HOME.copy(), BOTH_HOME.copy()
    low[1] = 1.9
    met[[0, 7]] = -np.pi / 2, np.pi / 2
    assert any("above the table" in text and "left_finger" in text for text in check.violations(low[None]))
    assert any("mm from right" in text for text in check.violations(met[None]))


def test_shares_tell_how_much_of_a_limit_was_used(check):
    ramp = BOTH_HOME + np.linspace(0.0, 0.1, 11)[:, None] * np.eye(14)[4]
    assert check.shares(ramp)["velocity"] == pytest.approx(0.01 / DT / MAX_VELOCITY[4])
