"""How near postures bring the arms to each other and to the table, many robots at once: `piper_twin.clearance` in Warp.

Arms are trees of bodies; what must keep a distance are pairs of capsules, and capsules or boxes over the table's plane
at z = 0. Numbers have 64 bits, so that the same actions are refused as on the CPU.
"""

from __future__ import annotations

from typing import Any

import mujoco
import numpy as np
import warp as wp

from piper_twin.clearance import RANGE, Clearance
from piper_twin.robot import ARMS, DOF

# Warp reads the annotations of kernels when it compiles them, and its structs are classes only to Warp.
# pyright: reportInvalidTypeForm=false, reportCallIssue=false, reportArgumentType=false, reportIndexIssue=false
# pyright: reportAttributeAccessIssue=false, reportOperatorIssue=false, reportGeneralTypeIssues=false
# pyright: reportAssignmentType=false

FAR = wp.constant(wp.float64(-RANGE))
"""Distances are known up to this beyond what is asked for [m]."""
TINY = wp.constant(wp.float64(1e-18))
NUM_DISTANCES = 1 + len(ARMS)
"""Arm to arm, then each arm to the table."""


@wp.struct
class Cell:
    """The arms' shapes, shared by all robots."""

    body_parent: wp.array(dtype=int)
    body_pos: wp.array(dtype=wp.vec3d)
    body_quat: wp.array(dtype=wp.quatd)
    body_joint: wp.array(dtype=int)
    """Which number of a posture moves the body; -1: none."""
    body_turn: wp.array(dtype=wp.vec3d)
    """Axis it turns about; 0 where it does not."""
    body_slide: wp.array(dtype=wp.vec3d)
    """Way it slides per unit."""
    shape_body: wp.array(dtype=int)
    shape_ends: wp.array2d(dtype=wp.vec3d)
    """Of the capsule's axis in its body (shapes, 2); of a box in its own half sizes: see `shape_kind`."""
    shape_quat: wp.array(dtype=wp.quatd)
    """Of a box in its body."""
    shape_radius: wp.array(dtype=wp.float64)
    """Of a capsule [m]; 0 for a box, whose ends are its centre and its half sizes."""
    pair: wp.array(dtype=wp.vec3i)
    """First and second shape, -1 for the table, and which distance it is."""
    pair_allowed: wp.array(dtype=wp.float64)
    """[m]."""


@wp.struct
class Postures:
    """Working space of each robot: first axis robots."""

    path: wp.array3d(dtype=wp.float64)
    """Postures (robots, slots, joints)."""
    body_pos: wp.array2d(dtype=wp.vec3d)
    body_quat: wp.array2d(dtype=wp.quatd)


@wp.func
def place_bodies(cell: Cell, room: Postures, robot: int, slot: int) -> int:
    """Forward kinematics of a posture into the robot's working space; parents come first."""
    for body in range(cell.body_parent.shape[0]):
        position = cell.body_pos[body]
        orientation = cell.body_quat[body]
        joint = cell.body_joint[body]
        if joint >= 0:
            value = room.path[robot, slot, joint]
            position = position + wp.quat_rotate(orientation, cell.body_slide[body] * value)
            if wp.length_sq(cell.body_turn[body]) > TINY:
                orientation = orientation * wp.quat_from_axis_angle(cell.body_turn[body], value)
        parent = cell.body_parent[body]
        if parent >= 0:
            position = room.body_pos[robot, parent] + wp.quat_rotate(room.body_quat[robot, parent], position)
            orientation = room.body_quat[robot, parent] * orientation
        room.body_pos[robot, body] = position
        room.body_quat[robot, body] = orientation
    return 0


@wp.func
def point_of(cell: Cell, room: Postures, robot: int, shape: int, end: int) -> wp.vec3d:
    """One end of a capsule's axis in the world."""
    body = cell.shape_body[shape]
    return room.body_pos[robot, body] + wp.quat_rotate(room.body_quat[robot, body], cell.shape_ends[shape, end])


@wp.func
def between_segments(p1: wp.vec3d, q1: wp.vec3d, p2: wp.vec3d, q2: wp.vec3d) -> wp.float64:
    """Smallest distance of two line segments (Ericson, Real-Time Collision Detection, 5.1.9)."""
    zero, one = wp.float64(0.0), wp.float64(1.0)
    d1, d2, r = q1 - p1, q2 - p2, p1 - p2
    a, e, f = wp.dot(d1, d1), wp.dot(d2, d2), wp.dot(d2, r)
    c, b = wp.dot(d1, r), wp.dot(d1, d2)
    s = zero
    if a > TINY:
        denominator = a * e - b * b
        if denominator > TINY:
            s = wp.clamp((b * f - c * e) / denominator, zero, one)
    t = zero
    if e > TINY:
        t = (b * s + f) / e
    if t < zero or t > one:
        t = wp.clamp(t, zero, one)
        if a > TINY:
            s = wp.clamp((b * t - c) / a, zero, one)
    return wp.length(r + d1 * s - d2 * t)


@wp.func
def over_table(cell: Cell, room: Postures, robot: int, shape: int) -> wp.float64:
    """Height of a shape's lowest point."""
    radius = cell.shape_radius[shape]
    if radius > wp.float64(0.0):
        one, two = point_of(cell, room, robot, shape, 0), point_of(cell, room, robot, shape, 1)
        return wp.min(one[2], two[2]) - radius
    centre, half = point_of(cell, room, robot, shape, 0), cell.shape_ends[shape, 1]
    rotation = wp.quat_to_matrix(room.body_quat[robot, cell.shape_body[shape]] * cell.shape_quat[shape])
    reach = wp.abs(rotation[2, 0]) * half[0] + wp.abs(rotation[2, 1]) * half[1] + wp.abs(rotation[2, 2]) * half[2]
    return centre[2] - reach


@wp.func
def nearness(cell: Cell, room: Postures, robot: int, slot: int) -> wp.vec3d:
    """How much nearer than allowed each distance is at a posture [m], never below -RANGE."""
    place_bodies(cell, room, robot, slot)
    excess = wp.vec3d(FAR, FAR, FAR)
    for number in range(cell.pair.shape[0]):
        pair = cell.pair[number]
        one = pair[0]
        two = pair[1]
        distance = wp.float64(0.0)
        if two < 0:
            distance = over_table(cell, room, robot, one)
        else:
            distance = between_segments(
                point_of(cell, room, robot, one, 0),
                point_of(cell, room, robot, one, 1),
                point_of(cell, room, robot, two, 0),
                point_of(cell, room, robot, two, 1),
            )
            distance = distance - cell.shape_radius[one] - cell.shape_radius[two]
        kind = pair[2]
        excess[kind] = wp.max(excess[kind], cell.pair_allowed[number] - distance)
    return excess


def describe_cell(clearance: Clearance) -> Cell:
    """The shapes of the CPU's guard, on Warp's current device."""
    model, cell = clearance.model, Cell()
    bodies, joints = range(1, model.nbody), _joints(model)
    cell.body_parent = wp.array([model.body_parentid[body] - 1 for body in bodies], dtype=int)
    cell.body_pos = wp.array(model.body_pos[1:], dtype=wp.vec3d)
    cell.body_quat = wp.array(np.roll(model.body_quat[1:], -1, axis=1), dtype=wp.quatd)
    cell.body_joint = wp.array([joints[body][0] for body in bodies], dtype=int)
    cell.body_turn = wp.array([joints[body][1] for body in bodies], dtype=wp.vec3d)
    cell.body_slide = wp.array([joints[body][2] for body in bodies], dtype=wp.vec3d)
    table = model.geom("table").id
    shapes = [geom for geom in range(model.ngeom) if geom != table]
    cell.shape_body = wp.array([model.geom_bodyid[geom] - 1 for geom in shapes], dtype=int)
    cell.shape_ends = wp.array([_ends(model, geom) for geom in shapes], dtype=wp.vec3d)
    cell.shape_quat = wp.array(np.roll(model.geom_quat[shapes], -1, axis=1), dtype=wp.quatd)
    is_box = model.geom_type[shapes] == mujoco.mjtGeom.mjGEOM_BOX
    cell.shape_radius = wp.array(np.where(is_box, 0.0, model.geom_size[shapes, 0]), dtype=wp.float64)
    numbers = {geom: number for number, geom in enumerate(shapes)} | {table: -1}
    geoms = [sorted(pair, key=lambda geom: geom == table) for pair in np.stack([model.pair_geom1, model.pair_geom2], 1)]
    pairs = [(numbers[one], numbers[two], clearance.kinds[one, two]) for one, two in geoms]
    cell.pair = wp.array(pairs, dtype=wp.vec3i)
    cell.pair_allowed = wp.array(model.pair_margin - model.pair_gap, dtype=wp.float64)
    return cell


def _joints(model: mujoco.MjModel) -> dict[int, tuple[int, Any, Any]]:
    """Of each body: which number of a posture moves it, the axis it turns about, the way it slides."""
    still = np.zeros(3)
    found: dict[int, tuple[int, Any, Any]] = {body: (-1, still, still) for body in range(model.nbody)}
    for number, arm in enumerate(ARMS):
        for index in range(1, DOF):
            joint = model.joint(f"{arm}_joint{index}").id
            found[int(model.jnt_bodyid[joint])] = (number * DOF + index - 1, model.jnt_axis[joint], still)
        for index in (1, 2):  # each finger moves half of the opening
            joint = model.joint(f"{arm}_finger{index}").id
            found[int(model.jnt_bodyid[joint])] = (number * DOF + DOF - 1, still, 0.5 * model.jnt_axis[joint])
    return found


def _ends(model: mujoco.MjModel, geom: int) -> tuple[Any, Any]:
    """Ends of a capsule's axis in its body; centre and half sizes of a box."""
    centre, size = model.geom_pos[geom], model.geom_size[geom]
    if model.geom_type[geom] == mujoco.mjtGeom.mjGEOM_BOX:
        return centre, size
    matrix = np.zeros(9)
    mujoco.mju_quat2Mat(matrix, model.geom_quat[geom])
    half = size[1] * matrix.reshape(3, 3)[:, 2]
    return centre - half, centre + half
