"""Scripted experts: tool moves turned into joint commands by inverse kinematics (mink) and the guard's own limits."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Sequence

import mink
import mujoco
import numpy as np
import numpy.typing as npt

from piper_twin.arm import add_arm
from piper_twin.guard import follow, limits_of
from piper_twin.moves import Move, ToolPose, Unreachable, base_position
from piper_twin.robot import ARMS, CONTROL_PERIOD, DUAL_PIPER, HOME, arm_slice

Array = npt.NDArray[np.float64]


def commands(moves: Sequence[Move], start: Array | None = None) -> Array:
    """Joint commands of a plan, one a control period.

    Args:
        moves: The plan.
        start: Joint positions at the start (14,) [rad, m]; home when None.

    Returns:
        Commands that already keep the robot's limits, shape (num_steps, 14).

    Raises:
        Unreachable: a pose has no solution within the joint limits.
    """
    command = np.tile(HOME, len(ARMS)) if start is None else start.copy()
    rows: list[Array] = []
    for move in moves:
        rows.extend(_travel(_path(command, move), move.speed))
        command = rows[-1] if rows else command
        rows.extend([command] * round(move.wait / CONTROL_PERIOD))
    return np.array(rows).reshape(-1, len(command))


def _travel(path: Array, speed: float) -> list[Array]:
    """Commands along a path of joint positions (num_points, 14), all joints in step, from rest to rest."""
    _, _, max_velocity, max_acceleration = limits_of(DUAL_PIPER)
    largest = np.abs(np.diff(path, axis=0)).max(axis=0) + 1e-9  # of a piece of the path; pieces are passed at one rate
    rate, acceleration = speed * (max_velocity / largest).min(), (max_acceleration / largest).min()
    length = float(len(path) - 1)
    if largest.max() < 1e-6:
        return []
    progress, velocity, rows = 0.0, np.zeros(()), []
    while length - progress > 1e-3:
        velocity = follow(np.array(length - progress), velocity, rate, acceleration, CONTROL_PERIOD)
        progress = min(length, progress + float(velocity) * CONTROL_PERIOD)
        piece = min(int(progress), len(path) - 2)
        rows.append(path[piece] + (progress - piece) * (path[piece + 1] - path[piece]))
    return rows


def _path(command: Array, move: Move) -> Array:
    """Joint positions from `command` to the move's target, the former included: one piece, or several if straight."""
    count = 6 if move.straight else 1
    rows = np.repeat(command[None], count + 1, axis=0)
    for arm, pose in move.targets.items():
        columns = arm_slice(arm)
        rows[1:, columns] = _solve(arm, command[columns], pose, count)
    return rows


def _solve(arm: str, start: Array, pose: ToolPose, count: int) -> list[Array]:
    """Joint positions of one arm at `count` points on the way to `pose`, the last of them at it."""
    if count == 1:
        return [np.append(solve_pose(arm, pose, tuple(start[:6])), pose.opening)]
    x, y, z = _tool_position(arm, start[:6])
    solutions, seed = [], start[:6]
    for share in np.linspace(1.0 / count, 1.0, count):
        between = dataclasses.replace(
            pose, x=x + share * (pose.x - x), y=y + share * (pose.y - y), z=z + share * (pose.z - z)
        )
        seed = solve_pose(arm, between, tuple(seed))
        solutions.append(np.append(seed, pose.opening))
    return solutions


@functools.lru_cache(maxsize=1)
def arm_model() -> mujoco.MjModel:
    """One arm with its base at the origin, for inverse kinematics; its tool is the site `arm_tool`."""
    spec = mujoco.MjSpec()
    spec.compiler.degree = False
    spec.compiler.autolimits = True
    add_arm(spec, "arm", (0.0, 0.0, 0.0))
    return spec.compile()


def _tool_position(arm: str, joints: Array) -> Array:
    configuration = mink.Configuration(arm_model())
    configuration.update(np.concatenate([joints, (0.0, 0.0)]))
    base_x, base_y = base_position(arm)
    in_base = configuration.get_transform_frame_to_world("arm_tool", "site").translation()
    return in_base + np.array((base_x, base_y, 0.0))


def solve_pose(arm: str, pose: ToolPose, seed: tuple[float, ...]) -> Array:
    """Joint positions [rad] (6,) that bring one arm's tool to `pose`, starting the search at `seed` (6,).

    Raises:
        Unreachable: no solution within 2 mm and 2 degrees.
    """
    base_x, base_y = base_position(arm)
    x, y = pose.x - base_x, pose.y - base_y
    yaw = math.atan2(y, x) if pose.yaw is None else pose.yaw
    target = mink.SE3.from_rotation_and_translation(_tool_rotation(yaw, pose.tilt, pose.roll), np.array([x, y, pose.z]))
    task = mink.FrameTask("arm_tool", "site", position_cost=1.0, orientation_cost=0.3, lm_damping=1e-4)
    task.set_target(target)
    seeds = (np.array(seed), np.append(math.atan2(y, x), HOME[1:6]))
    for guess in seeds:
        configuration = mink.Configuration(arm_model())
        configuration.update(np.concatenate([guess, (0.0, 0.0)]))
        limits = [mink.ConfigurationLimit(arm_model())]
        for _ in range(60):
            error = task.compute_error(configuration)
            if np.linalg.norm(error[:3]) < 5e-4 and np.linalg.norm(error[3:]) < 0.01:
                break
            velocity = mink.solve_ik(configuration, [task], 1.0, "daqp", damping=1e-6, limits=limits)
            configuration.integrate_inplace(velocity, 1.0)
        error = task.compute_error(configuration)
        if np.linalg.norm(error[:3]) < 2e-3 and np.linalg.norm(error[3:]) < math.radians(2.0):
            return configuration.q[:6].copy()
    raise Unreachable(f"the {arm} arm cannot bring its tool to {pose}; place the object nearer or change the tilt")


def _tool_rotation(yaw: float, tilt: float, roll: float) -> mink.SO3:
    """Tool frame in the base frame: z along the tool, `tilt` from down towards `yaw`; y along the opening."""
    return mink.SO3.from_z_radians(yaw) @ mink.SO3.from_y_radians(math.pi - tilt) @ mink.SO3.from_z_radians(roll)
