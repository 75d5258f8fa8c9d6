"""A scripted pick-and-place for LIBERO's Panda, in the benchmark's own actions: what demonstrations are made with.

The script sees what no policy sees, where everything is, and closes its loop on it in every control step: over the
object, down, close, up, over the goal, down, open. Which way to grasp is best differs from object to object, so there
is a short table of ways; whoever runs the script tries them in turn until the benchmark's predicate says success.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Action = npt.NDArray[np.float32]

OPEN, CLOSED = -1.0, 1.0
UP = np.array([0.0, 0.0, 1.0])
POSITION_SCALE, TURN_SCALE = 0.05, 0.5
"""What an action of 1 asks for [m], [rad]."""
GAIN = 1.0
"""Share of the way to its target that the hand asks for in a control step, where that is in reach."""
MAX_WIDTH = 0.065
"""The fingers open to 0.08; what is wider is held by its rim [m]."""
WALL = 0.009
"""From a rim's outside to where the hand's middle goes, one finger on either side [m]."""
NEAR, AT = 0.02, 0.006
"""When a target is passed and when it is reached [m]."""
AWAY = 0.1
"""How far the hand goes up after it has let go: what leans against the fingers falls then [m]."""
MIN_GRIP, MAX_GRIP = 5, 15
"""Control steps for the fingers to start and to stop."""
STILL = 3e-4
"""Fingers that moved less in a control step have closed [m]."""
STUCK = 1e-3
"""A hand that moves less in a control step gets no further [m]."""
SAME_ROTATION = 0.1
"""Turns that are not worth asking for [rad]."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """One way to do it."""

    turn: float = 0.0
    """Of the hand about the vertical before it grasps [rad]."""
    depth: float = 0.03
    """Of the fingers below the object's top, unless the object is lower [m]."""
    over: float = 0.1
    """Height above the object's top from which the fingers come down [m]."""
    side: float = -1.0
    """Which rim of a wide object: -1 or 1 along the fingers' axis."""
    lift: float = 0.08
    """How high its bottom is carried above where it stood, or where it goes, whichever is higher [m]."""
    drop: float = 0.02
    """Height over the goal at which the fingers open [m]."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Sight:
    """What the script is told about a world."""

    hand: Array
    """Position of the gripper's site, between the fingertips [m]."""
    rotation: Array
    """Of that site, (3, 3)."""
    fingers: Array
    """Horizontal direction along which the fingers close, a unit vector."""
    opening: float
    """Between the fingers [m]."""
    object: Array
    """Origin of what is to be moved; the benchmark's predicates are about it."""
    corners_N3: Array
    """Of the boxes around its colliding parts."""
    goal: Array
    """Where its origin shall be let go."""


Eyes = Callable[[], Sight]


def pick_and_place(look: Eyes, way: Way) -> Iterator[Action]:
    """The actions of one try, each an answer to what `look` shows when it is asked for.

    Ends with the hand above the goal and the fingers open; whether that was a success is for the benchmark to say.
    """
    rotation = _about_vertical(way.turn) @ look().rotation
    yield from _pick(look, way, rotation)
    yield from _place(look, way, rotation)


def _pick(look: Eyes, way: Way, rotation: Array) -> Iterator[Action]:
    """Over the object, down, close."""
    sight = look()
    grasp = grasp_position(sight, way)
    over = np.array([*grasp[:2], sight.corners_N3[:, 2].max() + way.over])
    yield from _move(look, over, rotation, OPEN, NEAR)
    yield from _move(look, grasp, rotation, OPEN, AT)
    yield from _grip(look, grasp, rotation, CLOSED)


def _place(look: Eyes, way: Way, rotation: Array) -> Iterator[Action]:
    """Up, over the goal, down, open, away; wherever in the hand the object is."""
    sight = look()
    held, bottom = sight.hand - sight.object, sight.corners_N3[:, 2].min()
    carry = max(bottom, sight.goal[2]) + way.lift + sight.hand[2] - bottom
    yield from _move(look, np.array([*sight.hand[:2], carry]), rotation, CLOSED, NEAR)
    yield from _move(look, np.array([*(sight.goal + held)[:2], carry]), rotation, CLOSED, NEAR)
    sight = look()
    let_go = sight.goal + sight.hand - sight.object + way.drop * UP
    yield from _move(look, let_go, rotation, CLOSED, AT)
    yield from _grip(look, let_go, rotation, OPEN)
    yield from _move(look, let_go + AWAY * UP, rotation, OPEN, NEAR)


def grasp_position(sight: Sight, way: Way) -> Array:
    """Where the hand goes to grasp: the middle of the object, or a point of its rim where it is too wide."""
    axis = _about_vertical(way.turn) @ sight.fingers
    along = sight.corners_N3 @ axis
    low, high = sight.corners_N3.min(axis=0), sight.corners_N3.max(axis=0)
    middle = (low + high) / 2.0
    width = float(np.ptp(along))
    height = max((low[2] + high[2]) / 2.0, high[2] - way.depth)
    if width > MAX_WIDTH:
        middle = middle + way.side * (width / 2.0 - WALL) * axis
    return np.array([middle[0], middle[1], height])


def _about_vertical(turn: float) -> Array:
    """Rotation matrix."""
    c, s = math.cos(turn), math.sin(turn)
    return np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])


def _turn_between(wanted: Array, found: Array) -> Array:
    """Axis times angle [rad] that brings rotation `found` to `wanted`; less than half a circle."""
    difference = wanted @ found.T
    axis = np.array([difference[2, 1] - difference[1, 2], difference[0, 2] - difference[2, 0],
                     difference[1, 0] - difference[0, 1]]) / 2.0  # fmt: skip
    sine = float(np.linalg.norm(axis))
    angle = math.atan2(sine, (np.trace(difference) - 1.0) / 2.0)
    return axis * (angle / sine) if sine > 1e-9 else np.zeros(3)


def motion(sight: Sight, position: Array, rotation: Array, gripper: float) -> Action:
    """The action (7,) that brings the hand nearer to a pose, in a straight line.

    Rounded to 32 bits as data sets keep it: what is recorded is exactly what was done.
    """
    shift = GAIN * (position - sight.hand) / POSITION_SCALE
    turn = _turn_between(rotation, sight.rotation)
    if np.linalg.norm(turn) < SAME_ROTATION:
        turn = np.zeros(3)
    parts = [part / max(1.0, np.abs(part).max()) for part in (shift, turn / TURN_SCALE)]
    return np.concatenate([*parts, [gripper]]).astype(np.float32)


def _move(look: Eyes, position: Array, rotation: Array, gripper: float, tolerance: float, limit: int = 60
          ) -> Iterator[Action]:  # fmt: skip
    """Until the hand is within `tolerance` [m] and turned, or for `limit` control steps."""
    before = np.full(3, np.inf)
    for step in range(limit):
        sight = look()
        off = np.linalg.norm(_turn_between(rotation, sight.rotation))
        near = np.linalg.norm(position - sight.hand) < tolerance
        stuck = step > 3 and np.linalg.norm(sight.hand - before) < STUCK
        if (near or stuck) and off < SAME_ROTATION:
            return
        before = sight.hand
        yield motion(sight, position, rotation, gripper)


def _grip(look: Eyes, position: Array, rotation: Array, gripper: float) -> Iterator[Action]:
    """Until the fingers have stopped, the hand where it is told to be."""
    before = math.inf
    for step in range(MAX_GRIP):
        sight = look()
        if step >= MIN_GRIP and abs(before - sight.opening) < STILL:
            return
        before = sight.opening
        yield motion(sight, position, rotation, gripper)
