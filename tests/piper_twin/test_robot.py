"""The facts agree with each other and with the two flange positions that are known from the arm's own SDK."""

import numpy as np
import pytest

from piper_twin import robot
from piper_twin.cell import TIMESTEP
from piper_twin.kinematics import flange_pose


@pytest.mark.parametrize(
    ("joints", "flange_mm"),
    [
        ((0.0, 0.0, 0.0, 0.0, 0.0, 0.0), (56.13, 0.0, 213.27)),
        # Listed as (0, 90, -77.3, 0, 0, 0) degrees: that is this pose, rounded, and lies 0.2 mm away.
        ((0.0, 1.57, -1.3485, 0.0, 0.0, 0.0), (379.98, 0.0, 381.48)),
    ],
)
def test_the_dh_table_gives_the_flange_positions_of_the_sdk(joints, flange_mm):
    pose = flange_pose(np.array(joints))
    np.testing.assert_allclose(1000.0 * pose[:3, 3], flange_mm, atol=0.006)


def test_at_zero_the_flange_is_pitched_by_85_degrees():
    axis = flange_pose(np.zeros(6))[:3, 2]
    np.testing.assert_allclose(axis, (np.sin(np.radians(85)), 0.0, np.cos(np.radians(85))), atol=1e-9)


def test_forward_kinematics_takes_any_leading_axes():
    joints = np.random.default_rng(0).uniform(-1, 1, (2, 3, 6))
    poses = flange_pose(joints)
    assert poses.shape == (2, 3, 4, 4)
    np.testing.assert_allclose(poses[1, 2], flange_pose(joints[1, 2]))


def test_flange_poses_are_rigid_transforms():
    rotation = flange_pose(np.random.default_rng(1).uniform(-3, 3, (50, 6)))[:, :3, :3]
    np.testing.assert_allclose(rotation @ rotation.swapaxes(1, 2), np.broadcast_to(np.eye(3), (50, 3, 3)), atol=1e-12)
    np.testing.assert_allclose(np.linalg.det(rotation), 1.0)


def test_the_embodiment_has_the_arms_limits_joint_by_joint():
    joints = robot.DUAL_PIPER.joints
    assert len(joints) == 14
    for arm in robot.ARMS:
        own = joints[robot.arm_slice(arm)]
        assert [joint.name for joint in own] == [*(f"{arm}_joint{n}" for n in range(1, 7)), f"{arm}_gripper"]
        assert tuple((joint.lower, joint.upper) for joint in own[:6]) == robot.JOINT_LIMITS
        assert (own[6].lower, own[6].upper, own[6].is_gripper) == (0.0, robot.GRIPPER_STROKE, True)
        assert {joint.max_velocity for joint in own[:6]} == {3.0}
        assert not any(joint.is_gripper for joint in own[:6])


def test_joint_limits_are_those_of_the_sdk():
    degrees = np.degrees(robot.JOINT_LIMITS)
    np.testing.assert_allclose(degrees, [(-150, 150), (0, 180), (-170, 0), (-100, 100), (-70, 70), (-120, 120)])


def test_home_lies_within_the_limits():
    for arm in robot.ARMS:
        for value, joint in zip(robot.HOME, robot.DUAL_PIPER.joints[robot.arm_slice(arm)], strict=True):
            assert joint.lower <= value <= joint.upper, joint.name


def test_home_cannot_be_changed_by_accident():
    with pytest.raises(ValueError, match="read-only"):
        robot.HOME[0] = 1.0


def test_a_control_period_is_a_whole_number_of_physics_steps():
    steps = robot.CONTROL_PERIOD / TIMESTEP
    assert steps == pytest.approx(round(steps))


def test_the_arm_weighs_what_agilex_says():
    arm = sum(robot.LINK_INERTIAS[name].mass for name in ("base", *(f"link{n}" for n in range(1, 7))))
    tool = robot.LINK_INERTIAS["gripper"].mass + 2 * robot.LINK_INERTIAS["finger"].mass
    assert arm == pytest.approx(4.17, abs=0.005)
    assert arm + tool == pytest.approx(4.67, abs=0.005)


@pytest.mark.parametrize("link", robot.LINK_INERTIAS)
def test_every_inertia_is_physically_possible(link):
    ixx, iyy, izz, ixy, ixz, iyz = robot.LINK_INERTIAS[link].tensor
    moments = np.linalg.eigvalsh([[ixx, ixy, ixz], [ixy, iyy, iyz], [ixz, iyz, izz]])
    assert moments[0] > 0.0
    assert moments[0] + moments[1] >= moments[2]
