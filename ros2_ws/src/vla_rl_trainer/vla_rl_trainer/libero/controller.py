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
    """Of a small square matrix, by elimination with the largest pivot of each column; LAPACK takes longer to call."""
    n = len(a)
    left, right = a.copy(), np.eye(n)
    for k in range(n):
        best = k
        for i in range(k + 1, n):
            if abs(left[i, k]) > abs(left[best, k]):
                best = i
        if left[best, k] == 0.0:
            raise np.linalg.LinAlgError("a matrix of the controller is singular")
        for j in range(n):
            left[k, j], left[best, j] = left[best, j], left[k, j]
            right[k, j], right[best, j] = right[best, j], right[k, j]
        for i in range(n):
            share = left[i, k] / left[k, k]
            if i != k and share != 0.0:
                for j in range(n):
                    left[i, j] -= share * left[k, j]
                    right[i, j] -= share * right[k, j]
    for i in range(n):
        for j in range(n):
            right[i, j] /= left[i, i]
    return right


@njit(cache=True)
def _product(a: Array, b: Array) -> Array:  # pragma: no cover  compiled
    """Of two small matrices; BLAS takes longer to call."""
    found = np.zeros((a.shape[0], b.shape[1]))
    for i in range(a.shape[0]):
        for k in range(a.shape[1]):
            for j in range(b.shape[1]):
                found[i, j] += a[i, k] * b[k, j]
    return found


@njit(cache=True)
def _times(a: Array, x: Array) -> Array:  # pragma: no cover  compiled
    """A small matrix times a vector."""
    found = np.zeros(a.shape[0])
    for i in range(a.shape[0]):
        for j in range(a.shape[1]):
            found[i] += a[i, j] * x[j]
    return found


@njit(cache=True)
def arm_mass(packed: Array, starts: npt.NDArray[np.int32]) -> Array:  # pragma: no cover  compiled
    """The arm's block (7, 7) of the mass matrix, bit for bit that of `mj_fullM`.

    Args:
        packed: MuJoCo's `qM`: of each joint its own entry, then those with its parents, nearest first.
        starts: Where each joint's begin, `dof_Madr`.
    """
    mass = np.empty((ARM_DOFS, ARM_DOFS))
    for i in range(ARM_DOFS):
        for j in range(i + 1):
            mass[i, j] = mass[j, i] = packed[starts[i] + i - j]
    return mass


@njit(cache=True)
def _operational_space(mass: Array, full: Array) -> tuple[Array, Array, Array]:  # pragma: no cover  compiled
    """What the hand weighs in its motions and turns, and which joint motions leave it where it is."""
    turned = _product(_inverse(mass), full.T)
    weight = _product(full, turned)
    nullspace = np.eye(ARM_DOFS) - _product(_product(turned, _inverse(weight)), full)
    return _inverse(weight[:3, :3]), _inverse(weight[3:, 3:]), nullspace


@njit(cache=True)
def _control(
    control: Array,
    arm: npt.NDArray[np.int64],
    fingers: npt.NDArray[np.int64],
    finger_ranges: Array,
    limits: Array,
    gains: Array,
    position: Array,
    rotation: Array,
    joints: Array,
    velocities: Array,
    jacobian: Array,
    packed_mass: Array,
    mass_starts: npt.NDArray[np.int32],
    bias: Array,
    goal_position: Array,
    goal_rotation: Array,
    gripper: Array,
    close: Array,
) -> None:  # pragma: no cover  compiled
    """Fill `control` as robosuite's `OperationalSpaceController` and `PandaGripper` do; moves `gripper` on."""
    full, arm_velocities = jacobian[:, :ARM_DOFS].copy(), velocities[:ARM_DOFS]
    speed = _times(full, arm_velocities)
    away = np.zeros(6)
    for i in range(3):
        j, k = (i + 1) % 3, (i + 2) % 3
        away[i] = goal_position[i] - position[i]
        for column in range(3):
            away[3 + i] += 0.5 * (
                rotation[j, column] * goal_rotation[k, column] - rotation[k, column] * goal_rotation[j, column]
            )
    force = away * gains[0] - speed * gains[1]

    mass = arm_mass(packed_mass, mass_starts)
    lambda_position, lambda_rotation, nullspace = _operational_space(mass, full)
    wrench = np.concatenate((_times(lambda_position, force[:3]), _times(lambda_rotation, force[3:])))
    pull = _NULLSPACE_KP * (limits[2] - joints[:ARM_DOFS]) - np.sqrt(_NULLSPACE_KP) * 2 * arm_velocities
    torques = _times(full.T, wrench) + bias[:ARM_DOFS] + _times(nullspace.T, _times(mass, pull))
    for index in range(len(arm)):
        control[arm[index]] = min(max(torques[index], limits[0, index]), limits[1, index])
    for index in range(len(fingers)):
        gripper[index] = min(max(gripper[index] + close[index], -1.0), 1.0)
        control[fingers[index]] = finger_ranges[0, index] + finger_ranges[1, index] * gripper[index]


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
        self._jacobian = np.zeros((6, model.nv))
        self._jacobian_rows = self._jacobian[:3], self._jacobian[3:]
        assert list(model.dof_parentid[:ARM_DOFS]) == list(range(-1, ARM_DOFS - 1)), "the arm is a chain of joints"
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
            np.stack([ranges.mean(axis=1), 0.5 * (ranges[:, 1] - ranges[:, 0])]),
            np.array([constants.torque_low, constants.torque_high, constants.initial_joint]),
            np.array([constants.kp, constants.kd]),
            self._position,
            self._rotation,
            data.qpos,
            data.qvel,
            self._jacobian,
            data.qM,
            model.dof_Madr,
            data.qfrc_bias,
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
            mujoco.mj_jacSite(model, data, *self._jacobian_rows, self._constants.site)
            _control(*self._views, goal_position, state.goal_rotation, state.gripper, close)
            if index >= self._constants.substeps - 2:
                seen[index - self._constants.substeps] = data.qpos
            mujoco.mj_step2(model, data)
