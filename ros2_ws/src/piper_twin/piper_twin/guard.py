"""The one door to the motors: every command passes here, in simulation and in the process that writes to the bus.

Order of the checks: finite, shape, position, velocity, acceleration, then arm-to-arm and arm-to-table distance in the
twin. Limits are clamped; what is not a number or comes too near is refused, and the robot brakes as hard as its limits
allow. A command is let through only if the robot could still brake behind it without coming too near anything: so there
is always a way to stop, and what is sent keeps every limit even when a target is refused at full speed.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Iterable

import mujoco
import numpy as np
import numpy.typing as npt

from piper_twin.arm import CONTACT_GROUP, VISUAL_GROUP
from piper_twin.cell import empty_cell
from piper_twin.robot import ARMS, DOF
from vla_policy.embodiment import Embodiment
from vla_policy.errors import VlaError

Array = npt.NDArray[np.float64]


SWEEP_STEP = 0.06
"""Postures between two commands are checked this far apart [rad]: two outstretched arms (0.63 m) close up by less than
8 cm on such a step, about the thickness of two grippers."""
SLACK = 0.001
"""Postures between two commands must keep this much more distance [m] than asked for: the way between the points that
are checked is curved, by r x SWEEP_STEP^2 / 8 = 0.3 mm for one joint at full reach."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class GuardConfig:
    """Distances the commanded posture must keep."""

    arm_distance: float = 0.02
    """Between the two arms [m]."""
    link_table_distance: float = 0.02
    """Between a link and the table [m]."""
    gripper_table_distance: float = 0.001
    """Between palm or fingers and the table [m]."""


def limit_command(
    target: Array, previous: Array, velocity: Array, embodiment: Embodiment, dt: float
) -> tuple[Array, Array]:
    """Follow `target` as fast as position, velocity and acceleration limits allow, without overshoot.

    Args:
        target: Wanted joint positions [rad], grippers [m], shape (..., num_joints).
        previous: Last command sent, same shape. Where it is beyond a position limit the command comes back no faster
            than the other limits allow.
        velocity: Velocity of the last command [rad/s], [m/s], same shape.
        embodiment: Owner of the limits.
        dt: Time since `previous` [s].

    Returns:
        The command and its velocity, both of the shape of `target`.
    """
    lower, upper, max_velocity, max_acceleration = limits_of(embodiment)
    distance = np.clip(target, lower, upper) - previous
    wanted = follow(distance, velocity, max_velocity, max_acceleration, dt)
    command = np.clip(previous + wanted * dt, np.minimum(lower, previous), np.maximum(upper, previous))
    return command, (command - previous) / dt


def follow(distance: Array, velocity: Array, max_velocity: Array, max_acceleration: Array, dt: float) -> Array:
    """Velocity for the next period that closes `distance` in the shortest time without overshoot.

    Braking by `s = a dt` each period from a speed between `m s` and `(m + 1) s` takes `m` more periods, so the largest
    speed that still stops at a distance `d` is `d / ((m + 1) dt) + m s / 2`, with `m` the largest whole number for
    which `m (m + 1) / 2 s dt <= d` (the discrete form of `sqrt(2 a d)`).
    """
    step = max_acceleration * dt
    periods = np.floor(np.sqrt(0.25 + 2.0 * np.abs(distance) / (step * dt)) - 0.5)
    brake = np.abs(distance) / ((periods + 1.0) * dt) + 0.5 * periods * step
    speed = np.minimum(max_velocity, brake)
    return np.clip(np.sign(distance) * speed, velocity - step, velocity + step)


def brake(previous: Array, velocity: Array, embodiment: Embodiment, dt: float) -> tuple[Array, Array]:
    """The command after `previous` [rad] and its velocity, if every joint brakes as hard as it may."""
    _, _, _, max_acceleration = limits_of(embodiment)
    speed = np.maximum(0.0, np.abs(velocity) - max_acceleration * dt)
    slower = np.sign(velocity) * speed
    return previous + slower * dt, slower


def limits_of(embodiment: Embodiment) -> tuple[Array, Array, Array, Array]:
    """Lower and upper positions, largest velocities and accelerations, each of shape (num_joints,)."""
    rows = [(joint.lower, joint.upper, joint.max_velocity, joint.max_acceleration) for joint in embodiment.joints]
    lower, upper, max_velocity, max_acceleration = np.array(rows).T
    return lower, upper, max_velocity, max_acceleration


@dataclasses.dataclass(frozen=True, slots=True)
class Approach:
    """A pair of geoms that came too near."""

    excess: float
    """How much nearer than allowed [m]."""
    reason: str


class DistanceGuard:
    """Measures how near a posture of both arms comes to the other arm and to the table, in the twin's geometry."""

    def __init__(self, config: GuardConfig | None = None) -> None:
        """Compile the empty cell once; `config` defaults to `GuardConfig()`."""
        spec = empty_cell()
        for geom in list(spec.geoms):
            geom.contype = geom.conaffinity = 0
            if geom.group == VISUAL_GROUP:
                spec.delete(geom)
        _deepen(spec.geom("table"))
        _add_pairs(spec, config or GuardConfig())
        self._model = spec.compile()
        self._data = mujoco.MjData(self._model)
        self._qpos = np.array([_qpos_addresses(self._model, arm) for arm in ARMS])  # (arms, 8)

    def violation(self, command: Array, previous: Array | None = None) -> str | None:
        """What comes too near when the arms go to `command`; None when all is clear.

        Args:
            command: Joint positions [rad], [m], shape (num_joints,).
            previous: Where the arms stand now; what lies between is checked too. If they stand too near already, a
                command that is no worse is let through, or the arms could never leave.
        """
        if previous is None:
            worst = self._worst(command)
            return worst.reason if worst and worst.excess > SLACK else None
        return self.violation_on_the_way(_between(previous, command), previous)

    def violation_on_the_way(self, postures: Iterable[Array], previous: Array) -> str | None:
        """What comes too near at one of `postures`, and nearer than at `previous`; None when all is clear."""
        allowed: float | None = None
        for posture in postures:
            worst = self._worst(posture)
            if worst is None:
                continue
            if allowed is None:
                before = self._worst(previous)
                allowed = before.excess if before else 0.0
            if worst.excess > allowed:
                return worst.reason
        return None

    def _worst(self, posture: Array) -> Approach | None:
        arms = posture.reshape(len(ARMS), DOF)
        fingers = arms[:, 6:] / 2.0
        self._data.qpos[self._qpos] = np.concatenate([arms[:, :6], fingers, fingers], axis=1)
        mujoco.mj_kinematics(self._model, self._data)
        mujoco.mj_collision(self._model, self._data)
        if self._data.ncon == 0:
            return None
        contact = max(self._data.contact, key=_excess)
        names = [self._model.geom(int(geom)).name for geom in contact.geom]
        one, other = sorted(names, key="table".__eq__)
        return Approach(_excess(contact), f"{one} comes within {contact.dist * 1000:.0f} mm of {other}")


def _between(previous: Array, command: Array) -> Array:
    """Postures on the way to `command`, itself the last, no farther apart than `SWEEP_STEP`."""
    count = max(1, math.ceil(float(np.abs(command - previous).max()) / SWEEP_STEP))
    return previous + np.arange(1, count + 1)[:, None] / count * (command - previous)


def _braking(command: Array, velocity: Array, max_acceleration: Array, dt: float) -> Array:
    """Postures `brake` passes through behind `command`, its last among them, about `SWEEP_STEP` apart."""
    step = max_acceleration * dt
    count = math.ceil(float((np.abs(velocity) / step).max()) - 1e-9) - 1  # the last period of a braking joint is at 0
    if count < 1:
        return np.empty((0, len(command)))
    speeds = np.maximum(0.0, np.abs(velocity) - np.arange(1, count + 1)[:, None] * step)
    ways = np.cumsum(speeds, axis=0) * dt
    passed = np.floor(ways.max(axis=1) / SWEEP_STEP)
    chosen = np.flatnonzero(np.diff(passed, append=np.inf))
    return command + np.sign(velocity) * ways[chosen]


def _excess(contact: mujoco.MjContact) -> float:
    return contact.includemargin - contact.dist


def _deepen(table: mujoco.MjsGeom) -> None:
    """Let the table reach down to the floor: below it is as forbidden as within, and deeper is always worse."""
    top = table.pos[2] + table.size[2]
    table.size[2] = 0.5
    table.pos[2] = top - 0.5


def _add_pairs(spec: mujoco.MjSpec, config: GuardConfig) -> None:
    """Let the arms meet each other and the table; a contact within a pair's margin is a violation."""
    geoms = {arm: [g.name for g in spec.geoms if g.group == CONTACT_GROUP and g.name.startswith(arm)] for arm in ARMS}
    for first, second in itertools.combinations(ARMS, 2):
        for one, other in itertools.product(geoms[first], geoms[second]):
            spec.add_pair(geomname1=one, geomname2=other, margin=config.arm_distance + SLACK)
    for geom in itertools.chain.from_iterable(geoms.values()):
        is_gripper = "palm" in geom or "finger" in geom
        margin = config.gripper_table_distance if is_gripper else config.link_table_distance
        spec.add_pair(geomname1=geom, geomname2="table", margin=margin + SLACK)


def _qpos_addresses(model: mujoco.MjModel, arm: str) -> list[int]:
    names = [f"{arm}_joint{number}" for number in range(1, 7)] + [f"{arm}_finger{number}" for number in (1, 2)]
    return [int(model.joint(name).qposadr[0]) for name in names]


class Guard:
    """Limits and distances for many robots side by side (one in the robot's own process)."""

    def __init__(self, embodiment: Embodiment, config: GuardConfig | None = None) -> None:
        """Guard robots of one embodiment."""
        self._embodiment = embodiment
        self._max_acceleration = limits_of(embodiment)[3]
        self._distance = DistanceGuard(config)

    def filter(
        self, target: Array, previous: Array, velocity: Array, dt: float
    ) -> tuple[Array, Array, list[str | None]]:
        """Turn wanted joint positions into commands that may be sent.

        Args:
            target: Wanted positions [rad], [m], shape (num_robots, num_joints).
            previous: Last commands sent, same shape.
            velocity: Velocities of the last commands, same shape.
            dt: Time since `previous` [s].

        Returns:
            Commands, their velocities, and for each robot why its target was refused (None: it was not). A refused
            robot brakes, and then holds.

        Raises:
            VlaError: an array has another shape.
        """
        expected = (len(previous), self._embodiment.num_joints)
        for name, array in (("target", target), ("previous", previous), ("velocity", velocity)):
            if array.shape != expected:
                raise VlaError(f"{name} has shape {array.shape}; hand over one row of joints a robot, {expected}")
        finite = np.all(np.isfinite(target), axis=1)
        command, new_velocity = limit_command(
            np.where(finite[:, None], target, previous), previous, velocity, self._embodiment, dt
        )
        reasons: list[str | None] = []
        for row in range(len(target)):
            reason = "the command is not a finite number"
            if finite[row]:
                reason = self._approach(command[row], new_velocity[row], previous[row], dt)
            if reason is not None:
                command[row], new_velocity[row] = brake(previous[row], velocity[row], self._embodiment, dt)
            reasons.append(reason)
        return command, new_velocity, reasons

    def _approach(self, command: Array, velocity: Array, previous: Array, dt: float) -> str | None:
        """What would come too near on the way to `command`, or while braking behind it."""
        way = (*_between(previous, command), *_braking(command, velocity, self._max_acceleration, dt))
        return self._distance.violation_on_the_way(way, previous)
