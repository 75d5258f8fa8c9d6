"""One arm's tool for jogging: its pose from the joints, and the joints for a pose close by."""

# pyright: basic
# mink and MuJoCo carry no types.

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from piper_twin.kinematics import flange_pose
from piper_twin.moves import ToolPose, Unreachable, base_position
from piper_twin.robot import JOINT_LIMITS, TOOL_CENTRE

Array = npt.NDArray[np.float64]

POSITION_TOLERANCE = 5e-4
"""[m]."""
TURN_TOLERANCE = 5e-3
"""[rad]."""
AT_LIMIT = math.radians(0.5)
"""Nearer to its limit a joint is said to be at it [rad]."""


def tool_pose(arm: str, joints: Array) -> ToolPose:
    """Pose of one arm's tool with its joints at `joints` [rad], shape (6,).

    The tip leans away from the base: where it leans back, the tilt is negative.
    """
    flange = flange_pose(joints)
    base_x, base_y = base_position(arm)
    lean_x, lean_y, up = (float(share) for share in flange[:3, 2])
    x, y, z = (float(place) for place in flange[:3, 3] + TOOL_CENTRE * flange[:3, 2])
    away = math.atan2(y, x)
    tilt, yaw = math.atan2(math.hypot(lean_x, lean_y), -up), math.atan2(lean_y, lean_x)
    if math.hypot(lean_x, lean_y) < 1e-3:
        yaw = away
    elif math.cos(yaw - away) < 0.0:
        tilt, yaw = -tilt, math.remainder(yaw + math.pi, math.tau)
    unrolled = np.linalg.inv(_turn(yaw, tilt, 0.0)) @ flange[:3, :3]
    roll = math.atan2(unrolled[1, 0], unrolled[0, 0])
    return ToolPose(x + base_x, y + base_y, z, yaw=yaw, tilt=tilt, roll=roll)


def joints_for(arm: str, pose: ToolPose, near: Array) -> Array:
    """Joints [rad] (6,) that bring one arm's tool to `pose`, found by following the tool from `near` (6,).

    Unlike `piper_twin.expert.solve_pose` it never changes the arm's bearing (elbow, wrist), and is exact enough for the
    small steps of a hand at 50 Hz.

    Raises:
        Unreachable: there are none close by; the message names the joints that are at a limit.
    """
    import mink  # with scipy 0.5 s, which leader arms shall not pay

    from piper_twin.expert import arm_model

    assert pose.yaw is not None, "a pose to jog from says where the tip leans"
    model = arm_model()
    base_x, base_y = base_position(arm)
    task = mink.FrameTask("arm_tool", "site", position_cost=1.0, orientation_cost=0.3, lm_damping=1e-6)
    rotation = mink.SO3.from_matrix(_turn(pose.yaw, pose.tilt, pose.roll))
    task.set_target(
        mink.SE3.from_rotation_and_translation(rotation, np.array([pose.x - base_x, pose.y - base_y, pose.z]))
    )
    configuration = mink.Configuration(model)
    configuration.update(np.concatenate([near, (0.0, 0.0)]))
    limits = [mink.ConfigurationLimit(model)]
    for _ in range(10):
        error = task.compute_error(configuration)
        if np.linalg.norm(error[:3]) < 1e-5 and np.linalg.norm(error[3:]) < 1e-4:
            break
        velocity = mink.solve_ik(configuration, [task], 1.0, "daqp", damping=1e-8, limits=limits)
        configuration.integrate_inplace(velocity, 1.0)
    error, joints = task.compute_error(configuration), np.array(configuration.q[:6])
    if np.linalg.norm(error[:3]) > POSITION_TOLERANCE or np.linalg.norm(error[3:]) > TURN_TOLERANCE:
        raise Unreachable(_why_not(arm, joints))
    return joints


def _why_not(arm: str, joints: Array) -> str:
    margins = np.abs(joints[:, None] - np.array(JOINT_LIMITS)).min(axis=1)
    if stuck := [str(number) for number, margin in enumerate(margins, start=1) if margin < AT_LIMIT]:
        return f"the {arm} arm is at the limit of joint {' and '.join(stuck)}; move or turn the tool another way"
    return f"the {arm} arm does not reach there; move or turn the tool another way"


def _turn(yaw: float, tilt: float, roll: float) -> Array:
    """Rotation of the tool as `ToolPose` counts it, Rz(yaw) Ry(pi - tilt) Rz(roll), shape (3, 3)."""
    return _about_z(yaw) @ _about_y(math.pi - tilt) @ _about_z(roll)


def _about_z(angle: float) -> Array:
    cos, sin = math.cos(angle), math.sin(angle)
    return np.array([[cos, -sin, 0.0], [sin, cos, 0.0], [0.0, 0.0, 1.0]])


def _about_y(angle: float) -> Array:
    cos, sin = math.cos(angle), math.sin(angle)
    return np.array([[cos, 0.0, sin], [0.0, 1.0, 0.0], [-sin, 0.0, cos]])
