"""The one door to the motors: every command passes here, in simulation and in the process that writes to the bus.

Order of the checks: finite, shape, position, velocity, acceleration, then arm-to-arm and arm-to-table distance in the
twin. Limits are clamped; what is not a number or comes too near is refused, and the robot brakes as hard as its limits
allow. A command is let through only if the robot could still brake behind it without coming too near anything: so there
is always a way to stop, and what is sent keeps every limit even when a target is refused at full speed.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from piper_twin.clearance import SLACK, Clearance, GuardConfig, Nearness, reaches
from vla_policy.embodiment import Embodiment
from vla_policy.errors import VlaError

__all__ = ["DistanceGuard", "Guard", "GuardConfig", "brake", "follow", "limit_command", "limits_of"]

Array = npt.NDArray[np.float64]

DIP = 0.5 * SLACK
"""Between two postures that were measured the arms may come nearer by this [m] than at them."""
MAX_LOOKS = 24
"""Postures that are measured on one way; a way that takes more is refused: it is fast, long and near something."""
MAX_KNOWN = 256
"""Postures that are remembered, as many as robots may be guarded side by side."""
SWEEP_STEP = 0.06
"""Postures are measured this far apart [rad] on the way out of where the arms are too near already."""


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


class DistanceGuard:
    """Tells whether a way keeps the distance from arm to arm and to the table."""

    def __init__(self, config: GuardConfig | None = None) -> None:
        """Compile the shapes once; `config` defaults to `GuardConfig()`."""
        self._clearance = Clearance(config or GuardConfig())
        self._reaches = reaches()
        self._known: dict[bytes, Array] = {}

    def violation(self, command: Array, previous: Array | None = None) -> str | None:
        """What comes too near when the arms go to `command`; None when all is clear.

        Args:
            command: Joint positions [rad], [m], shape (num_joints,).
            previous: Where the arms stand now; what lies between is checked too. If they stand too near already, a
                command that is no worse is let through, or the arms could never leave.
        """
        if previous is None:
            near = self._clearance.measure(command)
            return self._clearance.reason(near) if near.worst > SLACK else None
        return self.violation_on_the_way(command[None], previous)

    def violation_on_the_way(self, way: Array, previous: Array) -> str | None:
        """What comes too near on the straight lines from `previous` through the postures of `way`, in order.

        Two postures that keep their distances prove the way between them, if they leave more room together than the
        arms can cross on it (`REACH`); else what is half way is measured, and so on. Where the first leaves room enough
        nothing is measured at all: what is known of it carries over to the next way, less what is crossed.
        """
        steps = np.abs(np.diff(way, axis=0, prepend=previous[None])) @ self._reaches  # (way, distances)
        gone = steps.sum(axis=0)
        excess = self._known.get(previous.tobytes())
        if excess is not None and (excess + gone <= 0.0).all():
            self._remember(way[0], excess + steps[0])
            return None
        before = self._clearance.measure(previous)
        if before.worst > DIP:
            return self._violation_on_the_way_out(way, previous, before.worst)
        if (before.excess + gone <= 0.0).all():
            self._remember(way[0], before.excess + steps[0])
            return None
        first = self._clearance.measure(way[0])
        last = first if len(way) == 1 else self._clearance.measure(way[-1])
        for near in (first, last):
            if near.worst > 0.0:
                return self._clearance.reason(near)
        self._remember(way[0], first.excess)
        path = np.concatenate([previous[None], way])
        travelled = np.concatenate([np.zeros((1, steps.shape[1])), np.cumsum(steps, axis=0)])
        return self._violation_between(path, travelled, before, first, last)

    def _remember(self, posture: Array, excess: Array) -> None:
        """The command of one period is where the next one starts; `excess` is at least what it is there."""
        if len(self._known) >= MAX_KNOWN:
            self._known.clear()
        self._known[posture.tobytes()] = excess

    def _violation_between(
        self, path: Array, travelled: Array, before: Nearness, first: Nearness, last: Nearness
    ) -> str | None:
        """Prove the way from the first posture of `path` to the second, and from there to the last.

        `travelled`: by how much the distances can have lessened up to each posture [m], shape (path, distances).
        """
        total, looks = travelled[:, 0], 0
        pending = [(travelled[1], first, travelled[-1], last), (travelled[0], before, travelled[1], first)]
        while pending:
            begin, near_begin, end, near_end = pending.pop()
            if (near_begin.excess + near_end.excess + end - begin <= 2.0 * DIP).all():
                continue
            looks += 1
            half = 0.5 * (begin[0] + end[0])
            row = min(int(np.searchsorted(total, half, side="right")), len(total) - 1)
            share = (half - total[row - 1]) / (total[row] - total[row - 1])
            near = self._clearance.measure(path[row - 1] + share * (path[row] - path[row - 1]))
            if near.worst > 0.0 or looks > MAX_LOOKS:
                return self._clearance.reason(near)
            middle = travelled[row - 1] + share * (travelled[row] - travelled[row - 1])
            pending += [(middle, near, end, near_end), (begin, near_begin, middle, near)]
        return None

    def _violation_on_the_way_out(self, way: Array, previous: Array, allowed: float) -> str | None:
        """The first posture that is nearer than where the arms stand, which is too near."""
        looks = 0
        for start, end in zip([previous, *way], way, strict=False):
            for posture in _between(start, end):
                near, looks = self._clearance.measure(posture), looks + 1
                if near.worst > allowed or looks > MAX_LOOKS:
                    return self._clearance.reason(near)
        return None


def _between(previous: Array, command: Array) -> Array:
    """Postures on the way to `command`, itself the last, no farther apart than `SWEEP_STEP`."""
    count = max(1, math.ceil(float(np.abs(command - previous).max()) / SWEEP_STEP))
    return previous + np.arange(1, count + 1)[:, None] / count * (command - previous)


def _braking(command: Array, velocity: Array, max_acceleration: Array, dt: float) -> Array:
    """Postures that `brake` sends behind `command`."""
    step = max_acceleration * dt
    count = math.ceil(float((np.abs(velocity) / step).max()) - 1e-9) - 1  # the last period of a braking joint is at 0
    if count < 1:
        return np.empty((0, len(command)))
    speeds = np.maximum(0.0, np.abs(velocity) - np.arange(1, count + 1)[:, None] * step)
    return command + np.sign(velocity) * np.cumsum(speeds, axis=0) * dt


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
        way = np.concatenate([command[None], _braking(command, velocity, self._max_acceleration, dt)])
        return self._distance.violation_on_the_way(way, previous)
