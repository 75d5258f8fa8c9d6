"""robosuite's operational-space controller and Panda gripper, fused between `mj_step1` and `mj_step2`.

Stock LIBERO runs `mj_forward` twice a physics step besides the step itself: the controller wants positions and
velocities, and `mj_step1` has just computed them. The arithmetic is robosuite 1.4's own, including a rotation matrix
it computes from a quaternion of 32-bit floats: rounded otherwise, trajectories part after the first turn of the hand.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import mujoco
import numpy as np
import numpy.typing as npt

try:
    from numba import njit  # pyright: ignore[reportMissingImports]
except ImportError:  # the same arithmetic, slower

    def njit(**_: Any) -> Any:
        """Leave a function as it is."""
        return lambda function: function


Array = npt.NDArray[np.float64]

ARM_DOFS = 7
IS_COMPILED = hasattr(njit, "__module__") and njit.__module__.startswith("numba")
"""False where numba is missing: everything works, at a quarter of the speed."""
_NULLSPACE_KP = 10.0


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ControllerConstants:
    """What robosuite's controller and gripper are set up with; a compiled task carries them."""

    substeps: int
    """Physics steps a control step."""
    site: int
    """The gripper's site that the controller moves."""
    hand: int
    """Body whose rotation the state of the arm tells."""
    fingers: tuple[int, ...]
    """Addresses of the fingers in qpos."""
    actuators: tuple[int, ...]
    """Of the arm's joints."""
    gripper_actuators: tuple[int, ...]
    gripper_speed: float
    """Change of the gripper's normalised command a physics step."""
    initial_joint: tuple[float, ...]
    """Posture the null space pulls to [rad]."""
    goal_rotation: tuple[float, ...]
    """Of the hand when an episode starts, row by row; held until the first turn is asked for."""
    input_low: tuple[float, ...]
    input_high: tuple[float, ...]
    output_low: tuple[float, ...]
    output_high: tuple[float, ...]
    kp: tuple[float, ...]
    kd: tuple[float, ...]
    torque_low: tuple[float, ...]
    """[N m]."""
    torque_high: tuple[float, ...]


@njit(cache=True)
def _inverse(a: Array) -> Array:  # pragma: no cover  compiled
    """Of a matrix (3, 3)."""
    found = np.empty((3, 3))
    for i in range(3):
        for j in range(3):
            p, q, r, s = (j + 1) % 3, (j + 2) % 3, (i + 1) % 3, (i + 2) % 3
            found[i, j] = a[p, r] * a[q, s] - a[p, s] * a[q, r]
    return found / (a[0, 0] * found[0, 0] + a[0, 1] * found[1, 0] + a[0, 2] * found[2, 0])


@njit(cache=True)
def _operational_space(
    mass: Array, full: Array, jp: Array, jr: Array
) -> tuple[Array, Array, Array]:  # pragma: no cover  compiled
    """What the hand weighs in its motions and turns, and which joint motions leave it where it is."""
    inverse = np.linalg.inv(mass)
    lambda_full = np.linalg.inv(np.dot(np.dot(full, inverse), full.transpose()))
    lambda_position = _inverse(np.dot(np.dot(jp, inverse), jp.transpose()))
    lambda_rotation = _inverse(np.dot(np.dot(jr, inverse), jr.transpose()))
    nullspace = np.eye(ARM_DOFS) - np.dot(np.dot(inverse, full.transpose()).dot(lambda_full), full)
    return lambda_position, lambda_rotation, nullspace


@njit(cache=True)
def _control(
    control: Array,
    arm: npt.NDArray[np.int64],
    fingers: npt.NDArray[np.int64],
    gripper_bias: Array,
    gripper_weight: Array,
    torque_low: Array,
    torque_high: Array,
    position: Array,
    rotation: Array,
    joints: Array,
    velocities: Array,
    jacobian_position: Array,
    jacobian_rotation: Array,
    mass: Array,
    bias: Array,
    initial_joint: Array,
    kp: Array,
    kd: Array,
    goal_position: Array,
    goal_rotation: Array,
    gripper: Array,
    close: Array,
) -> None:  # pragma: no cover  compiled
    """Fill `control` as robosuite's `OperationalSpaceController` and `PandaGripper` do; moves `gripper` on."""
    jp = np.ascontiguousarray(jacobian_position[:, :ARM_DOFS])
    jr = np.ascontiguousarray(jacobian_rotation[:, :ARM_DOFS])
    full = np.vstack((jp, jr))
    linear, angular = np.dot(jacobian_position, velocities), np.dot(jacobian_rotation, velocities)
    turn = np.zeros(3)
    for column in range(3):
        turn += np.cross(rotation[:, column], goal_rotation[:, column])
    force = (goal_position - position) * kp[:3] - linear * kd[:3]
    torque = 0.5 * turn * kp[3:] - angular * kd[3:]

    arm_mass = np.ascontiguousarray(mass[:ARM_DOFS, :ARM_DOFS])
    lambda_position, lambda_rotation, nullspace = _operational_space(arm_mass, full, jp, jr)
    wrench = np.concatenate((np.dot(lambda_position, force), np.dot(lambda_rotation, torque)))
    arm_velocities = velocities[:ARM_DOFS].copy()
    posture = np.dot(
        arm_mass,
        _NULLSPACE_KP * (initial_joint - joints[:ARM_DOFS]) - np.sqrt(_NULLSPACE_KP) * 2 * arm_velocities,
    )
    torques = np.dot(full.transpose(), wrench) + bias[:ARM_DOFS] + np.dot(nullspace.transpose(), posture)
    for index in range(len(arm)):
        control[arm[index]] = min(max(torques[index], torque_low[index]), torque_high[index])
    for index in range(len(fingers)):
        gripper[index] = min(max(gripper[index] + close[index], -1.0), 1.0)
        control[fingers[index]] = gripper_bias[index] + gripper_weight[index] * gripper[index]


def rotation_of(turn: Array) -> Array:
    """Rotation matrix of an axis times an angle [rad], through 32-bit floats as robosuite does."""
    angle = np.linalg.norm(turn)
    if angle == 0.0:
        return np.identity(3)
    quaternion = np.concatenate(([np.cos(angle / 2.0)], turn / angle * np.sin(angle / 2.0))).astype(np.float32)
    scale = math.sqrt(2.0 / float(np.dot(quaternion, quaternion)))
    q = (quaternion.astype(np.float64) * scale).astype(np.float32)
    p = np.outer(q, q)
    w = p.astype(np.float64)
    return np.array(
        [
            [1.0 - w[2, 2] - w[3, 3], p[1, 2] - p[3, 0], p[1, 3] + p[2, 0]],
            [p[1, 2] + p[3, 0], 1.0 - w[1, 1] - w[3, 3], p[2, 3] - p[1, 0]],
            [p[1, 3] - p[2, 0], p[2, 3] + p[1, 0], 1.0 - w[1, 1] - w[2, 2]],
        ]
    )


@dataclasses.dataclass(slots=True)
class ControllerState:
    """What the controller remembers of one world between control steps."""

    goal_rotation: Array
    """(3, 3)."""
    gripper: Array
    """Normalised command of each finger."""

    def copy(self) -> ControllerState:
        """For another world."""
        return ControllerState(self.goal_rotation.copy(), self.gripper.copy())


class Controller:
    """Runs control steps of one model; worlds bring their own `ControllerState`."""

    def __init__(self, model: mujoco.MjModel, data: mujoco.MjData, constants: ControllerConstants) -> None:
        """Work on `data`, whatever world it holds."""
        self._model, self._data, self._constants = model, data, constants
        self._jacobians = np.zeros((2, 3, model.nv))
        self._mass = np.zeros((model.nv, model.nv))
        self._position = data.site_xpos[constants.site]
        self._rotation = data.site_xmat[constants.site].reshape(3, 3)
        low, high = np.array(constants.input_low), np.array(constants.input_high)
        out_low, out_high = np.array(constants.output_low), np.array(constants.output_high)
        self._input = low, high
        self._scale = abs(out_high - out_low) / abs(high - low)
        self._middle_in, self._middle_out = (high + low) / 2.0, (out_high + out_low) / 2.0
        ranges = model.actuator_ctrlrange[list(constants.gripper_actuators)]
        self._views = (
            data.ctrl,
            np.array(constants.actuators),
            np.array(constants.gripper_actuators),
            ranges.mean(axis=1),
            0.5 * (ranges[:, 1] - ranges[:, 0]),
            np.array(constants.torque_low),
            np.array(constants.torque_high),
            self._position,
            self._rotation,
            data.qpos,
            data.qvel,
            self._jacobians[0],
            self._jacobians[1],
            self._mass,
            data.qfrc_bias,
            np.array(constants.initial_joint),
            np.array(constants.kp),
            np.array(constants.kd),
        )
        """First arguments of `_control`, most of them windows into `data`."""

    def start(self) -> ControllerState:
        """The controller of an episode that has just been reset."""
        rotation = np.array(self._constants.goal_rotation).reshape(3, 3)
        return ControllerState(rotation, np.zeros(len(self._constants.gripper_actuators)))

    def step(self, state: ControllerState, action: Array, seen: Array) -> None:
        """One control step of the world in `data`.

        Args:
            state: Of the world; changed.
            action: Hand motion and gripper as LIBERO takes them, each in [-1, 1], shape (7,).
            seen: Filled with the joint positions two and one physics steps before the end, shape (2, nq). Published
                evaluations see the former, and fingers at the latter: robosuite takes its observations once a
                control step, at a moment that depends on how often they were forced before.
        """
        model, data = self._model, self._data
        delta = (np.clip(action[:6], *self._input) - self._middle_in) * self._scale + self._middle_out
        close = np.array([-1.0, 1.0]) * self._constants.gripper_speed * np.sign(action[6])
        goal_position = np.empty(3)
        for index in range(self._constants.substeps):
            mujoco.mj_step1(model, data)
            if index == 0:
                goal_position[:] = self._position + delta[:3]
                if delta[3:].any():
                    state.goal_rotation = np.dot(rotation_of(delta[3:]), self._rotation)
            mujoco.mj_jacSite(model, data, self._jacobians[0], self._jacobians[1], self._constants.site)
            mujoco.mj_fullM(model, self._mass, data.qM)
            _control(*self._views, goal_position, state.goal_rotation, state.gripper, close)
            if index >= self._constants.substeps - 2:
                seen[index - self._constants.substeps] = data.qpos
            mujoco.mj_step2(model, data)
