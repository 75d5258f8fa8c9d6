"""Measures a stream of commands from the outside: differences of what was sent, and distances between the arms' shapes.

Nothing here is shared with the guard but the facts: the embodiment's limits and the twin's shapes.
"""

# pyright: basic
# mujoco has no types.

from __future__ import annotations

import itertools
from typing import Any

import mujoco
import numpy as np
import numpy.typing as npt

from piper_twin.arm import CONTACT_GROUP
from piper_twin.cell import empty_cell
from piper_twin.guard import GuardConfig
from piper_twin.robot import ARMS, DOF
from vla_policy.embodiment import Embodiment

Array = npt.NDArray[np.float64]

ROUNDING = 1e-6
"""Limits may be exceeded by this share, for floating point is no exact arithmetic."""
RESOLUTION = 1e-5
"""Distances are known up to this [m]."""


class StreamCheck:
    """Counts commands that break a limit."""

    def __init__(self, embodiment: Embodiment, distances: GuardConfig, dt: float, max_jerk: Array) -> None:
        """Hold a stream against limits.

        Args:
            embodiment: Owner of position, velocity and acceleration limits.
            distances: What the arms shall keep from each other and from the table.
            dt: Time between two commands [s].
            max_jerk: Of every joint [rad/s^3], grippers [m/s^3].
        """
        self._dt, self._max_jerk = dt, max_jerk
        self._lower = np.array([joint.lower for joint in embodiment.joints])
        self._upper = np.array([joint.upper for joint in embodiment.joints])
        self._max_velocity = np.array([joint.max_velocity for joint in embodiment.joints])
        self._max_acceleration = np.array([joint.max_acceleration for joint in embodiment.joints])
        self._model: Any = _cell_that_touches_nothing()
        self._data: Any = mujoco.MjData(self._model)
        self._pairs = np.array(_pairs(self._model)).T
        names: list[list[str]] = [[self._model.geom(geom).name for geom in pair] for pair in self._pairs.T]
        self._margins = np.array([_margin(pair, distances) for pair in names])
        self._reach: Array = np.where(self._model.geom_bodyid == 0, 0.0, self._model.geom_rbound)
        self._qpos = np.array([_addresses(self._model, arm) for arm in ARMS])

    def violations(self, commands: Array, near_every: int = 1) -> list[str]:
        """What is wrong with `commands`, shape (time, num_joints), in words.

        Args:
            commands: In the order sent, evenly in time.
            near_every: Distances are measured at every so-manieth command that differs from the one before.
        """
        if not np.isfinite(commands).all():
            return ["a command is not finite"]
        found = [
            *_beyond(commands, self._lower - ROUNDING, self._upper + ROUNDING, "position"),
            *self._too_fast(np.diff(commands, axis=0) / self._dt, self._max_velocity, "velocity"),
            *self._too_fast(np.diff(commands, 2, axis=0) / self._dt**2, self._max_acceleration, "acceleration"),
            *self._too_fast(np.diff(commands, 3, axis=0) / self._dt**3, self._max_jerk, "jerk"),
        ]
        moved = np.flatnonzero(np.abs(np.diff(commands, axis=0, prepend=np.inf)).max(axis=1) > 1e-7)
        for index in moved[::near_every]:
            found += self._too_near(commands[index], int(index))
        return found

    def _too_fast(self, values: Array, limit: Array, name: str) -> list[str]:
        bound = limit * (1.0 + ROUNDING) + ROUNDING
        return _beyond(values, -bound, bound, name)

    def _too_near(self, command: Array, index: int) -> list[str]:
        arms = command.reshape(len(ARMS), DOF)
        fingers = arms[:, 6:] / 2.0
        self._data.qpos[self._qpos] = np.concatenate([arms[:, :6], fingers, fingers], axis=1)
        mujoco.mj_kinematics(self._model, self._data)
        found: list[str] = []
        for pair in np.flatnonzero(self._may_be_near(self._data.geom_xpos)):
            (one, other), margin = self._pairs[:, pair], self._margins[pair]
            distance = mujoco.mj_geomDistance(self._model, self._data, one, other, margin, None)
            if distance < margin - RESOLUTION:
                names = [self._model.geom(geom).name for geom in (one, other)]
                found.append(f"command {index}: {names[0]} is {distance * 1000:.2f} mm from {names[1]}")
        return found

    def _may_be_near(self, positions: Array) -> npt.NDArray[np.bool_]:
        """Pairs whose enclosing spheres are nearer than allowed; of the table, whose top is at z = 0, the plane."""
        one, other = self._pairs
        apart = np.linalg.norm(positions[one] - positions[other], axis=1)
        apart = np.where(self._model.geom_bodyid[other] == 0, positions[one, 2], apart)
        return apart < self._reach[one] + self._reach[other] + self._margins


def _margin(pair: list[str], distances: GuardConfig) -> float:
    if "table" not in pair:
        return distances.arm_distance
    is_gripper = any("palm" in name or "finger" in name for name in pair)
    return distances.gripper_table_distance if is_gripper else distances.link_table_distance


def _beyond(values: Array, lower: Array, upper: Array, name: str) -> list[str]:
    wrong = np.argwhere((values < lower) | (values > upper))
    return [f"command {row}: {name} {values[row, joint]:.6f} of joint {joint}" for row, joint in wrong]


def _cell_that_touches_nothing() -> mujoco.MjModel:
    spec = empty_cell()
    for geom in spec.geoms:
        geom.contype = geom.conaffinity = 0
    table = spec.geom("table")
    table.pos[2], table.size[2] = -0.5, 0.5  # down to the floor: below the table is as forbidden as within
    return spec.compile()


def _pairs(model: Any) -> list[tuple[int, int]]:
    """Shapes of one arm with those of the other, and all of them with the table."""
    shapes = {
        arm: [
            g for g in range(model.ngeom) if model.geom_group[g] == CONTACT_GROUP and model.geom(g).name.startswith(arm)
        ]
        for arm in ARMS
    }
    table = int(model.geom("table").id)
    across = [
        pair for one, two in itertools.combinations(ARMS, 2) for pair in itertools.product(shapes[one], shapes[two])
    ]
    return across + [(shape, table) for arm in ARMS for shape in shapes[arm]]


def _addresses(model: Any, arm: str) -> list[int]:
    joints = [f"{arm}_joint{number}" for number in range(1, 7)] + [f"{arm}_finger{number}" for number in (1, 2)]
    return [int(model.joint(joint).qposadr[0]) for joint in joints]
