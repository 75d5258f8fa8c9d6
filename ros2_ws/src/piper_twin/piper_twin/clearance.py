"""How near a posture brings the arms to each other and to the table, in the twin's shapes.

Every distance here is one that MuJoCo measures exactly: links are capsules already, palm and fingers stand in as
capsules around their boxes against the other arm (up to 2 cm more than the boxes), and as boxes against the table,
which is an endless plane. Of two boxes MuJoCo 3.8 overestimates the distance of every sixth pair, by up to 7 cm.
"""

from __future__ import annotations

import dataclasses
import itertools

import mujoco
import numpy as np
import numpy.typing as npt

from piper_twin.arm import CONTACT_GROUP
from piper_twin.cell import empty_cell
from piper_twin.robot import ARMS, DOF

Array = npt.NDArray[np.float64]

SLACK = 0.001
"""Postures must keep this much more distance [m] than asked for: what lies between them is proven up to half of it, and
what is sent is an average of some of them."""
RANGE = 0.2
"""Distances are known up to this beyond what is asked for [m]."""
REACH = (0.781, 0.781, 0.496, 0.244, 0.244, 0.078, 0.5)
"""How far the farthest point of an arm's shapes is from the axis of joint 1 to 6 at most [m], and how far a finger
moves for the opening: bounds of how far a shape can move. From the links' lengths and the shapes of palm and fingers.
"""
_HULL = "_hull"
"""Ends the name of a capsule around a box."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class GuardConfig:
    """Distances the commanded posture must keep."""

    arm_distance: float = 0.02
    """Between the two arms [m]."""
    link_table_distance: float = 0.02
    """Between a link and the table [m]."""
    gripper_table_distance: float = 0.001
    """Between palm or fingers and the table [m]."""


@dataclasses.dataclass(frozen=True, slots=True)
class Nearness:
    """Of one posture."""

    posture: Array
    """Joints [rad], grippers [m], shape (num_joints,)."""
    excess: Array
    """How much nearer than allowed, `SLACK` included [m], never below -RANGE: arm to arm, then each arm to the table,
    shape (1 + num_arms,)."""

    @property
    def worst(self) -> float:
        """[m]; above 0 it is too near."""
        return float(self.excess.max())


def reaches() -> Array:
    """By how much a joint's motion can lessen each distance at most [m/rad], [m/m], shape (num_joints, 1 + num_arms).

    Turning joint 1, whose axis is upright, lifts and lowers nothing.
    """
    table = np.zeros((len(ARMS), DOF, len(ARMS)))
    for arm in range(len(ARMS)):
        table[arm, 1:, arm] = REACH[1:]
    return np.concatenate([np.tile(REACH, len(ARMS))[:, None], table.reshape(-1, len(ARMS))], axis=1)


class Clearance:
    """Measures one posture at a time."""

    def __init__(self, config: GuardConfig) -> None:
        """Compile the shapes of the empty cell."""
        self.model = _shapes(config).compile()
        """The shapes, and as pairs what must keep a distance: margin less gap, `SLACK` included [m]."""
        self.kinds = _kinds(self.model)
        """Where the distance of two shapes goes in `Nearness.excess`, shape (ngeom, ngeom)."""
        self._data = mujoco.MjData(self.model)
        self._qpos = np.array([_qpos_addresses(self.model, arm) for arm in ARMS])  # (arms, 8)

    def measure(self, posture: Array) -> Nearness:
        """How near arms and table come at `posture`, joints [rad], grippers [m], shape (num_joints,)."""
        contact = self._contacts(posture)
        excess = np.full(1 + len(ARMS), -RANGE)
        if self._data.ncon:
            np.maximum.at(excess, self.kinds[tuple(contact.geom.T)], contact.includemargin - contact.dist)
        return Nearness(posture, excess)

    def reason(self, near: Nearness) -> str:
        """What is nearest, in words."""
        contact = self._contacts(near.posture)
        index = int((contact.includemargin - contact.dist).argmax())
        names = [self.model.geom(int(geom)).name.removesuffix(_HULL) for geom in contact.geom[index]]
        one, other = sorted(names, key="table".__eq__)
        return f"{one} comes within {contact.dist[index] * 1000:.0f} mm of {other}"

    def _contacts(self, posture: Array) -> mujoco.MjContact:
        """Every pair in range."""
        arms = posture.reshape(len(ARMS), DOF)
        fingers = arms[:, 6:] / 2.0
        self._data.qpos[self._qpos] = np.concatenate([arms[:, :6], fingers, fingers], axis=1)
        mujoco.mj_kinematics(self.model, self._data)
        mujoco.mj_collision(self.model, self._data)
        return self._data.contact


def _shapes(config: GuardConfig) -> mujoco.MjSpec:
    """The contact shapes of both arms over a plane, each pair with the distance that it must keep as its margin."""
    spec = empty_cell()
    for geom in list(spec.geoms):
        geom.contype = geom.conaffinity = 0
        if geom.group != CONTACT_GROUP:
            spec.delete(geom)
    spec.worldbody.add_geom(name="table", type=mujoco.mjtGeom.mjGEOM_PLANE, size=(1, 1, 1), contype=0, conaffinity=0)
    for body in spec.bodies:
        for geom in [geom for geom in body.geoms if geom.type == mujoco.mjtGeom.mjGEOM_BOX]:
            _add_hull(body, geom)
    shapes = {arm: [geom for geom in spec.geoms if geom.name.startswith(arm)] for arm in ARMS}
    for first, second in itertools.combinations(ARMS, 2):
        round_ones = [
            [geom for geom in shapes[arm] if geom.type != mujoco.mjtGeom.mjGEOM_BOX] for arm in (first, second)
        ]
        for one, other in itertools.product(*round_ones):
            _add_pair(spec, one, other.name, config.arm_distance)
    for geom in itertools.chain.from_iterable(shapes.values()):
        if geom.type == mujoco.mjtGeom.mjGEOM_BOX:
            _add_pair(spec, geom, "table", config.gripper_table_distance)
        elif not geom.name.endswith(_HULL):
            _add_pair(spec, geom, "table", config.link_table_distance)
    return spec


def _add_pair(spec: mujoco.MjSpec, geom: mujoco.MjsGeom, other: str, distance: float) -> None:
    spec.add_pair(geomname1=geom.name, geomname2=other, margin=distance + SLACK + RANGE, gap=RANGE)


def _add_hull(body: mujoco.MjsBody, box: mujoco.MjsGeom) -> None:
    """A capsule along the longest edge of `box` that holds all of it."""
    axis = int(np.argmax(box.size))
    radius, half_length = hull_of_box(box.size)
    end = np.zeros(3)
    end[axis] = half_length
    body.add_geom(
        name=box.name + _HULL, type=mujoco.mjtGeom.mjGEOM_CAPSULE, size=(radius, 0, 0),
        fromto=(*(box.pos - end), *(box.pos + end)), contype=0, conaffinity=0,
    )  # fmt: skip


def hull_of_box(half_size: Array) -> tuple[float, float]:
    """Radius, and half the length of the axis, of a capsule around a box with these half sizes [m].

    A capsule whose radius is the half diagonal `d` of the box's smaller faces ends `d` beyond the box; the radius
    `1.2 d` reaches to the corners by less, `1.2 d - sqrt(1.2^2 - 1) d = 0.54 d`.
    """
    *short, long = np.sort(half_size)
    diagonal = float(np.hypot(*short))
    radius = 1.2 * diagonal
    return radius, max(0.0, float(long) - float(np.sqrt(radius**2 - diagonal**2)))


def _kinds(model: mujoco.MjModel) -> npt.NDArray[np.int64]:
    """Where the distance of two shapes goes in `Nearness.excess`, shape (ngeom, ngeom)."""
    kinds = np.zeros((model.ngeom, model.ngeom), np.int64)
    table = model.geom("table").id
    for number, arm in enumerate(ARMS, start=1):
        for geom in range(model.ngeom):
            if model.geom(geom).name.startswith(arm):
                kinds[geom, table] = kinds[table, geom] = number
    return kinds


def _qpos_addresses(model: mujoco.MjModel, arm: str) -> list[int]:
    names = [f"{arm}_joint{number}" for number in range(1, 7)] + [f"{arm}_finger{number}" for number in (1, 2)]
    return [int(model.joint(name).qposadr[0]) for name in names]
