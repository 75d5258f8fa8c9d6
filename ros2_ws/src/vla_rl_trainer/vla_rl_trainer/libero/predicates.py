"""The benchmark's success predicates as plain numbers: which site, which body, which geoms, which joint.

Each follows the benchmark's own code to the letter, oddities included (`on` for a site multiplies by the site's
rotation, not by its inverse); a test compares both.
"""

from __future__ import annotations

import dataclasses
from typing import Literal

import mujoco
import numpy as np

Kind = Literal["in_site", "on_site", "on_object", "joints"]

ON_HEIGHT = 0.10
"""Above a site's top up to which something is on it [m]."""
_SLACK_ON, _SLACK_IN = 0.005, 0.01
_NEAR = 0.03
"""Horizontal distance of two objects of which one is on the other [m]."""


@dataclasses.dataclass(frozen=True, slots=True)
class JointRange:
    """Open or shut, on or off: a joint beyond a threshold."""

    address: int
    """In qpos."""
    above: bool
    """Which side of the threshold counts."""
    threshold: float
    """[rad] or [m]."""
    inclusive: bool

    def holds(self, data: mujoco.MjData) -> bool:
        """True on the side that counts."""
        value = float(data.qpos[self.address])
        if value == self.threshold:
            return self.inclusive
        return (value > self.threshold) == self.above


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """One conjunct of a task's goal."""

    name: str
    """As the BDDL file has it: "on akita_black_bowl_1 plate_1"."""
    kind: Kind
    body: int = -1
    """What is placed."""
    site: int = -1
    size: tuple[float, ...] = ()
    """Of the site, half sides [m]."""
    other: int = -1
    """Body of the object it is placed on."""
    geoms: tuple[int, ...] = ()
    """Colliding geoms of what is placed."""
    other_geoms: tuple[int, ...] = ()
    """Colliding geoms that must touch it; none needed when empty."""
    joints: tuple[JointRange, ...] = ()
    needs_all: bool = False
    """Whether all joints must hold, or one of them."""

    def holds(self, data: mujoco.MjData) -> bool:
        """Evaluate in the world that `data` holds."""
        if self.kind == "joints":
            found = [joint.holds(data) for joint in self.joints]
            return all(found) if self.needs_all else any(found)
        if self.kind == "on_object":
            return self._is_on_object(data)
        offset = data.xpos[self.body] - data.site_xpos[self.site]
        turned = data.site_xmat[self.site].reshape(3, 3)
        size = np.array(self.size)
        if self.kind == "in_site":
            reach = np.abs(turned @ size)
            return bool(
                (offset < reach).all() and (offset[:2] > -reach[:2]).all() and offset[2] > -reach[2] - _SLACK_IN
            )
        inside = turned @ offset
        is_above = size[2] - _SLACK_ON < inside[2] < size[2] + ON_HEIGHT and (np.abs(inside[:2]) < size[:2]).all()
        return bool(is_above) and (not self.other_geoms or touch(contacts(data), self.geoms, self.other_geoms))

    def _is_on_object(self, data: mujoco.MjData) -> bool:
        above, below = data.xpos[self.body], data.xpos[self.other]
        return bool(
            below[2] <= above[2]
            and np.linalg.norm(below[:2] - above[:2]) < _NEAR
            and touch(contacts(data), self.geoms, self.other_geoms)
        )


def contacts(data: mujoco.MjData) -> list[list[int]]:
    """Pairs of geoms that touch."""
    return data.contact.geom.tolist() if data.ncon else []


def touch(pairs: list[list[int]], geoms: tuple[int, ...], others: tuple[int, ...]) -> bool:
    """True when any of `geoms` touches any of `others`."""
    return any(
        (first in geoms and second in others) or (first in others and second in geoms) for first, second in pairs
    )


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Grasp:
    """Which geoms say that the gripper holds something."""

    left: tuple[int, ...]
    right: tuple[int, ...]
    objects: dict[str, tuple[int, ...]]
    """Colliding geoms of each movable object that the task is about."""

    def held(self, data: mujoco.MjData) -> list[str]:
        """Objects between the fingers."""
        pairs = contacts(data)
        return [
            name
            for name, geoms in self.objects.items()
            if touch(pairs, geoms, self.left) and touch(pairs, geoms, self.right)
        ]


@dataclasses.dataclass(frozen=True, slots=True)
class Lamp:
    """A site that is drawn while a joint is on: the stove's burner glows."""

    site: int
    joint: JointRange

    def show(self, model: mujoco.MjModel, data: mujoco.MjData) -> None:
        """Make it visible or not."""
        model.site_rgba[self.site, 3] = float(self.joint.holds(data))
