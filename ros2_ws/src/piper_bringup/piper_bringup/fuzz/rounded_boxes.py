"""The arms' contact shapes as rounded boxes, placed and measured without MuJoCo: a second opinion on distances.

A capsule is a box without width that is rounded by its radius. Kinematics are the chain of the URDF's frames.
"""

# pyright: basic
# mujoco and scipy have no types.

from __future__ import annotations

import itertools
from typing import Any

import mujoco
import numpy as np
import numpy.typing as npt
from scipy.optimize import lsq_linear
from scipy.spatial.transform import Rotation

from piper_twin.arm import CONTACT_GROUP
from piper_twin.cell import empty_cell
from piper_twin.robot import ARM_SPACING, ARMS, DOF, FINGER_ORIGIN, URDF_JOINT_FRAMES

Array = npt.NDArray[np.float64]

ROUNDS = 12
"""Of alternating projections, before what is still open is solved one by one."""


class ArmShapes:
    """All contact shapes of both arms."""

    def __init__(self) -> None:
        """Read their sizes and places from the twin's model."""
        model: Any = empty_cell().compile()
        geoms = [geom for geom in range(model.ngeom) if model.geom_group[geom] == CONTACT_GROUP]
        self.names: list[str] = [model.geom(geom).name for geom in geoms]
        self._bodies: list[str] = [model.body(model.geom_bodyid[geom]).name for geom in geoms]
        self._offsets: Array = model.geom_pos[geoms]  # (shapes, 3)
        self._turns = Rotation.from_quat(model.geom_quat[geoms], scalar_first=True).as_matrix()  # (shapes, 3, 3)
        capsule = model.geom_type[geoms] == mujoco.mjtGeom.mjGEOM_CAPSULE
        sizes: Array = model.geom_size[geoms]
        self.radius = np.where(capsule, sizes[:, 0], 0.0)
        """Of the rounding [m], shape (shapes,)."""
        along = np.stack([np.zeros(len(geoms)), np.zeros(len(geoms)), sizes[:, 1]], axis=1)
        self.half = np.where(capsule[:, None], along, sizes)
        """Half sizes of the boxes [m], shape (shapes, 3)."""

    def place(self, postures: Array) -> tuple[Array, Array]:
        """Centres [m], shape (time, shapes, 3), and axes as columns, shape (time, shapes, 3, 3).

        Args:
            postures: Joints [rad], grippers [m], shape (time, num_joints).
        """
        frames: dict[str, tuple[Array, Array]] = {}
        for index, arm in enumerate(ARMS):
            base = np.array([0.0, (0.5 - index) * ARM_SPACING, 0.0])
            frames |= _frames(arm, base, postures[:, index * DOF : (index + 1) * DOF])
        places = np.stack([frames[body][0] for body in self._bodies], axis=1)
        axes = np.stack([frames[body][1] for body in self._bodies], axis=1)
        centres = places + (axes @ self._offsets[..., None])[..., 0]
        return centres, axes @ self._turns

    def heights(self, centres: Array, axes: Array) -> Array:
        """Of the lowest point of each shape over the table [m], shape (time, shapes)."""
        return centres[..., 2] - (np.abs(axes[..., 2, :]) * self.half).sum(axis=-1) - self.radius

    def pairs(self) -> list[tuple[int, int]]:
        """Shapes of one arm with those of the other."""
        of = [[index for index, name in enumerate(self.names) if name.startswith(arm)] for arm in ARMS]
        return [pair for one, two in itertools.combinations(of, 2) for pair in itertools.product(one, two)]


def _frames(arm: str, base: Array, joints: Array) -> dict[str, tuple[Array, Array]]:
    """Origin and axes of every body that carries shapes; `joints` has shape (time, DOF)."""
    place = np.tile(base, (len(joints), 1))
    turn = np.tile(np.eye(3), (len(joints), 1, 1))
    found: dict[str, tuple[Array, Array]] = {}
    for number, (offset, rpy) in enumerate(URDF_JOINT_FRAMES, start=1):
        place = place + turn @ np.array(offset)
        spin = Rotation.from_rotvec(joints[:, number - 1, None] * np.array([0.0, 0.0, 1.0])).as_matrix()
        turn = turn @ Rotation.from_euler("xyz", rpy).as_matrix() @ spin
        found[f"{arm}_link{number}"] = place, turn
    found[f"{arm}_palm"] = place, turn
    for number, side in ((1, 1.0), (2, -1.0)):
        slide = np.zeros((len(joints), 3))
        slide[:, 1], slide[:, 2] = side * joints[:, -1] / 2.0, FINGER_ORIGIN
        found[f"{arm}_finger{number}"] = place + (turn @ slide[..., None])[..., 0], turn
    return found


def too_near(shapes: ArmShapes, centres: Array, axes: Array, margin: float) -> list[tuple[int, int, int, float]]:
    """Pairs of the two arms' shapes nearer than `margin` [m]: (time, shape, shape, distance).

    A direction in which two shapes are apart proves at least that distance. It is looked for by projecting a point from
    one box to the other and back; what is not proven that way is solved as a least-squares problem with bounds.
    """
    first, second = np.array(shapes.pairs()).T
    bound = np.linalg.norm(shapes.half, axis=1) + shapes.radius
    way = centres[:, second] - centres[:, first]
    when, pair = np.nonzero(np.linalg.norm(way, axis=-1) < bound[first] + bound[second] + margin)
    boxes = [(centres[when, of[pair]], axes[when, of[pair]], shapes.half[of[pair]]) for of in (first, second)]
    wanted = margin + shapes.radius[first[pair]] + shapes.radius[second[pair]]
    found: list[tuple[int, int, int, float]] = []
    for index in _not_proven_apart(boxes, wanted):
        one, two = int(first[pair[index]]), int(second[pair[index]])
        one_box, other_box = ([part[index] for part in box] for box in boxes)
        distance = _distance(one_box, other_box) - (wanted[index] - margin)
        if distance < margin:
            found.append((int(when[index]), one, two, float(distance)))
    return found


def _not_proven_apart(boxes: list[tuple[Array, Array, Array]], wanted: Array) -> npt.NDArray[np.intp]:
    """Rows for which no direction was found in which the boxes are `wanted` [m] apart, shape (n,)."""
    rows = np.arange(len(wanted))
    points = [boxes[0][0].copy(), boxes[1][0].copy()]
    for _ in range(ROUNDS):
        if not len(rows):
            break
        one, other = ([part[rows] for part in box] for box in boxes)
        points[0][rows] = _project(points[1][rows], *one)
        points[1][rows] = _project(points[0][rows], *other)
        direction = points[1][rows] - points[0][rows]
        length = np.linalg.norm(direction, axis=1, keepdims=True)
        direction = np.divide(direction, length, out=np.zeros_like(direction), where=length > 0.0)
        gap = -_support(-direction, *other) - _support(direction, *one)
        rows = rows[gap < wanted[rows]]
    return rows


def _project(points: Array, centres: Array, axes: Array, half: Array) -> Array:
    """The points of boxes that are nearest to `points`, shape (n, 3)."""
    inside = np.clip(((points - centres)[:, None] @ axes)[:, 0], -half, half)
    return centres + (axes @ inside[..., None])[..., 0]


def _support(direction: Array, centres: Array, axes: Array, half: Array) -> Array:
    """How far boxes reach in `direction`, shape (n,)."""
    return (direction * centres).sum(axis=1) + (np.abs((direction[:, None] @ axes)[:, 0]) * half).sum(axis=1)


def _distance(one: Any, other: Any) -> float:
    """Of two boxes [m], each a centre, axes, and half sizes."""
    (centre_a, axes_a, half_a), (centre_b, axes_b, half_b) = one, other
    columns, bound = np.hstack([axes_a, -axes_b]), np.concatenate([half_a, half_b])
    wide = bound > 0.0
    solved = lsq_linear(columns[:, wide], centre_b - centre_a, (-bound[wide], bound[wide]), tol=1e-14)
    return float(np.sqrt(2.0 * solved.cost))
