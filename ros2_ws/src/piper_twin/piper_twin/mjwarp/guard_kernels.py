"""What `piper_twin.guard.Guard` decides, one thread a robot: limits, and the search for what comes too near on the way.

Functions are named after those of the CPU's guard where they do the same.
"""

from __future__ import annotations

import math

import warp as wp

from piper_twin.guard import DIP, MAX_LOOKS, SWEEP_STEP, limits_of
from piper_twin.mjwarp.nearness import Cell, Postures, nearness
from piper_twin.robot import CONTROL_PERIOD, DUAL_PIPER

# Warp reads the annotations of kernels when it compiles them, and its structs are classes only to Warp.
# pyright: reportInvalidTypeForm=false, reportCallIssue=false, reportArgumentType=false, reportIndexIssue=false
# pyright: reportAttributeAccessIssue=false, reportOperatorIssue=false, reportGeneralTypeIssues=false
# pyright: reportAssignmentType=false, reportReturnType=false
# ruff: noqa: UP018, RUF046  Warp takes `1` for a constant, and `int(1)` for a variable that a loop may change

PERIOD = wp.constant(wp.float64(CONTROL_PERIOD))
ALLOWED_DIP = wp.constant(wp.float64(2.0 * DIP))
WORST_DIP = wp.constant(wp.float64(DIP))
SWEEP = wp.constant(wp.float64(SWEEP_STEP))
LOOKS = wp.constant(MAX_LOOKS)
JOINTS = wp.constant(DUAL_PIPER.num_joints)
_STEPS = limits_of(DUAL_PIPER)[3] * CONTROL_PERIOD
MAX_WAY = 1 + math.ceil(float((limits_of(DUAL_PIPER)[2] / _STEPS).max()))
"""Postures at most on a way: a command, and what is sent while braking behind it from full speed."""
PROBE = wp.constant(MAX_WAY + 1)
"""Slot of a posture that is looked at in between; 0 is where the robot stands."""


@wp.struct
class Limits:
    """Of each joint."""

    lower: wp.array(dtype=wp.float64)
    upper: wp.array(dtype=wp.float64)
    velocity: wp.array(dtype=wp.float64)
    acceleration: wp.array(dtype=wp.float64)
    reach: wp.array(dtype=wp.vec3d)
    """By how much its motion can lessen each distance at most [m/rad], [m/m]."""


@wp.struct
class Search:
    """Of each robot: how far along its way the distances can have lessened, and the pieces that are not proven yet."""

    travelled: wp.array2d(dtype=wp.vec3d)
    piece: wp.array3d(dtype=wp.vec3d)
    """Begin, nearness there, end, nearness there (robots, pieces, 4)."""


@wp.func
def largest(values: wp.vec3d) -> wp.float64:
    """Of three."""
    return wp.max(values[0], wp.max(values[1], values[2]))


@wp.func
def follow(distance: wp.float64, velocity: wp.float64, fastest: wp.float64, acceleration: wp.float64) -> wp.float64:
    """See `piper_twin.guard.follow`."""
    step = acceleration * PERIOD
    far = wp.abs(distance)
    periods = wp.floor(wp.sqrt(wp.float64(0.25) + wp.float64(2.0) * far / (step * PERIOD)) - wp.float64(0.5))
    brake = far / ((periods + wp.float64(1.0)) * PERIOD) + wp.float64(0.5) * periods * step
    speed = wp.min(fastest, brake)
    if distance < wp.float64(0.0):
        speed = -speed
    return wp.clamp(speed, velocity - step, velocity + step)


@wp.func
def lay_way(limits: Limits, room: Postures, search: Search, robot: int, velocity: wp.array2d(dtype=wp.float64)) -> int:
    """Put what is sent while braking behind the command in slot 1 after it; returns the number of postures."""
    count = int(1)
    zero = wp.float64(0.0)
    for joint in range(JOINTS):
        periods = wp.abs(velocity[robot, joint]) / (limits.acceleration[joint] * PERIOD)
        count = wp.max(count, int(wp.ceil(periods - wp.float64(1e-9))))
    count = wp.min(count, MAX_WAY)
    search.travelled[robot, 0] = wp.vec3d(zero, zero, zero)
    for slot in range(1, count + 1):
        gone = search.travelled[robot, slot - 1]
        for joint in range(JOINTS):
            if slot > 1:
                slower = limits.acceleration[joint] * PERIOD * wp.float64(slot - 1)
                speed = wp.max(zero, wp.abs(velocity[robot, joint]) - slower)
                way = wp.sign(velocity[robot, joint]) * speed * PERIOD
                room.path[robot, slot, joint] = room.path[robot, slot - 1, joint] + way
            moved = wp.abs(room.path[robot, slot, joint] - room.path[robot, slot - 1, joint])
            gone = gone + limits.reach[joint] * moved
        search.travelled[robot, slot] = gone
    return count


@wp.func
def probe(cell: Cell, room: Postures, robot: int, slot: int, share: wp.float64) -> wp.vec3d:
    """Nearness between the posture before `slot` and that in it."""
    for joint in range(JOINTS):
        before = room.path[robot, slot - 1, joint]
        room.path[robot, PROBE, joint] = before + share * (room.path[robot, slot, joint] - before)
    return nearness(cell, room, robot, PROBE)


@wp.func
def proves_all(cell: Cell, room: Postures, search: Search, robot: int, count: int, pieces: int) -> bool:
    """Whether every piece of the way keeps its distances: proven by its ends, or by looking half way, and so on."""
    pending, looks = int(pieces), int(0)
    while pending > 0:
        pending = pending - 1
        begin = search.piece[robot, pending, 0]
        near_begin = search.piece[robot, pending, 1]
        end = search.piece[robot, pending, 2]
        near_end = search.piece[robot, pending, 3]
        if largest(near_begin + near_end + end - begin) <= ALLOWED_DIP:
            continue
        looks = looks + 1
        half = wp.float64(0.5) * (begin[0] + end[0])
        slot = int(1)
        while slot < count and search.travelled[robot, slot][0] <= half:
            slot = slot + 1
        first = search.travelled[robot, slot - 1]
        last = search.travelled[robot, slot]
        share = (half - first[0]) / (last[0] - first[0])
        near = probe(cell, room, robot, slot, share)
        if largest(near) > wp.float64(0.0) or looks > LOOKS:
            return False
        middle = first + (last - first) * share
        search.piece[robot, pending, 0] = middle
        search.piece[robot, pending, 1] = near
        search.piece[robot, pending, 2] = end
        search.piece[robot, pending, 3] = near_end
        search.piece[robot, pending + 1, 0] = begin
        search.piece[robot, pending + 1, 1] = near_begin
        search.piece[robot, pending + 1, 2] = middle
        search.piece[robot, pending + 1, 3] = near
        pending = pending + 2
    return True


@wp.func
def leads_out(cell: Cell, room: Postures, robot: int, count: int, allowed: wp.float64) -> bool:
    """Whether a way from where the arms are too near comes no nearer."""
    looks = int(0)
    for slot in range(1, count + 1):
        largest_move = wp.float64(0.0)
        for joint in range(JOINTS):
            moved = wp.abs(room.path[robot, slot, joint] - room.path[robot, slot - 1, joint])
            largest_move = wp.max(largest_move, moved)
        parts = wp.max(1, int(wp.ceil(largest_move / SWEEP)))
        for part in range(1, parts + 1):
            near = probe(cell, room, robot, slot, wp.float64(part) / wp.float64(parts))
            looks = looks + 1
            if largest(near) > allowed or looks > LOOKS:
                return False
    return True


@wp.func
def is_clear(cell: Cell, room: Postures, search: Search, robot: int, count: int) -> bool:
    """Whether the way in slots 0 to `count` may be gone."""
    gone = search.travelled[robot, count]
    before = nearness(cell, room, robot, 0)
    if largest(before) > WORST_DIP:
        return leads_out(cell, room, robot, count, largest(before))
    if largest(before + gone) <= wp.float64(0.0):
        return True
    first = nearness(cell, room, robot, 1)
    last = nearness(cell, room, robot, count)
    if largest(first) > wp.float64(0.0) or largest(last) > wp.float64(0.0):
        return False
    search.piece[robot, 0, 0] = search.travelled[robot, 1]
    search.piece[robot, 0, 1] = first
    search.piece[robot, 0, 2] = gone
    search.piece[robot, 0, 3] = last
    search.piece[robot, 1, 0] = search.travelled[robot, 0]
    search.piece[robot, 1, 1] = before
    search.piece[robot, 1, 2] = search.travelled[robot, 1]
    search.piece[robot, 1, 3] = first
    return proves_all(cell, room, search, robot, count, 2)


@wp.func
def limit(
    limits: Limits,
    room: Postures,
    robot: int,
    target: wp.array3d(dtype=wp.float64),
    k: int,
    old: wp.array2d(dtype=wp.float64),
    new: wp.array2d(dtype=wp.float64),
) -> bool:
    """Follow a target as fast as the limits allow, from slot 0 to slot 1; false where it is not a number."""
    finite = bool(True)
    for joint in range(JOINTS):
        finite = finite and wp.isfinite(target[robot, k, joint])
    for joint in range(JOINTS):
        previous = room.path[robot, 0, joint]
        lower = limits.lower[joint]
        upper = limits.upper[joint]
        wanted = previous
        if finite:
            wanted = target[robot, k, joint]
        distance = wp.clamp(wanted, lower, upper) - previous
        speed = follow(distance, old[robot, joint], limits.velocity[joint], limits.acceleration[joint])
        command = wp.clamp(previous + speed * PERIOD, wp.min(lower, previous), wp.max(upper, previous))
        room.path[robot, 1, joint] = command
        new[robot, joint] = (command - previous) / PERIOD
    return finite


@wp.kernel(enable_backward=False)
def guard_chunk(
    cell: Cell,
    limits: Limits,
    room: Postures,
    search: Search,
    is_active: wp.array(dtype=bool),
    target: wp.array3d(dtype=wp.float64),
    velocity: wp.array2d(dtype=wp.float64),
    new_velocity: wp.array2d(dtype=wp.float64),
    sent: wp.array3d(dtype=wp.float64),
    refused: wp.array(dtype=int),
) -> None:
    """Commands that may be sent (robots, K, joints), from where each robot stands in slot 0 of its path."""
    robot = wp.tid()
    if not is_active[robot]:
        return
    for k in range(target.shape[1]):
        may_go = limit(limits, room, robot, target, k, velocity, new_velocity)
        if may_go:
            count = lay_way(limits, room, search, robot, new_velocity)
            may_go = is_clear(cell, room, search, robot, count)
        if not may_go:
            refused[robot] = refused[robot] + 1
        for joint in range(JOINTS):
            if not may_go:
                step = limits.acceleration[joint] * PERIOD
                speed = wp.max(wp.float64(0.0), wp.abs(velocity[robot, joint]) - step)
                slower = wp.sign(velocity[robot, joint]) * speed
                new_velocity[robot, joint] = slower
                room.path[robot, 1, joint] = room.path[robot, 0, joint] + slower * PERIOD
            velocity[robot, joint] = new_velocity[robot, joint]
            sent[robot, k, joint] = room.path[robot, 1, joint]
            room.path[robot, 0, joint] = room.path[robot, 1, joint]
