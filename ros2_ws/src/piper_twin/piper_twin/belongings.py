"""More objects for the table: a toy car, an alarm clock, a hammer and its block, a casserole, a phone and its stand.

As in `props`: our own primitives, origin at the bottom centre, z up [m]. What is long lies along x, its front at +x.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import mujoco
import numpy as np

from piper_twin.meshes import add_lathe, add_tube
from piper_twin.props import add_contact, add_feet, add_geom, add_hull, add_looks, free_body

CAR_WIDTH = 0.036
CLOCK_HEIGHT = 0.090
HAMMER_HEIGHT = 0.062
"""Of the head, which stands on its face [m]."""
HANDLE_AXIS = 0.036
"""Height of the handle of a hammer that stands on its face [m]."""
BLOCK_EDGE = 0.040
CASSEROLE_HANDLE = (0.110, 0.056)
"""Where the middle of a handle's bar is: from the axis, along y to either side, and above the table [m]."""
PHONE_SIZE = (0.114, 0.054, 0.015)
"""Length, width and thickness [m], the bumpers on its back included."""
STAND_ANGLE = math.radians(45.0)
"""How far a phone on its stand leans from flat."""
STAND_GROOVE = (-0.030, 0.018)
"""Where a phone's lower edge rests in its stand: x and z [m]."""

_SLIDING = (0.35, 0.01, 0.001)
"""Of feet on the table; it outranks the table's own."""
_BUMPER = 0.004
"""Height of a phone's bumpers [m]."""
_ACROSS = (math.sqrt(0.5), math.sqrt(0.5), 0.0, 0.0)
"""Turns z to -y."""
_FORWARD = (math.sqrt(0.5), 0.0, math.sqrt(0.5), 0.0)
"""Turns z to x."""

Triple = tuple[float, float, float]


def add_car(spec: mujoco.MjSpec, name: str) -> None:
    """A toy car, 8 cm long, that slides rather than rolls; felt as a box and a smaller one on top."""
    body = free_body(spec, name)
    _add_block_mesh(spec, f"{name}_cabin", ((0.026, -0.030, 0.0155), (0.014, -0.022, 0.0125)), (0.025, 0.041))
    add_looks(body, f"{name}_cabin", (0.16, 0.22, 0.28))
    _add_look(body, "box", (0.040, 0.5 * CAR_WIDTH, 0.009), (0, 0, 0.0165), (0.80, 0.16, 0.14), name=f"{name}_body")
    _add_look(body, "box", (0.017, 0.0120, 0.0015), (-0.004, 0, 0.042), (0.80, 0.16, 0.14), name=f"{name}_roof")
    for y in (-0.011, 0.011):
        _add_look(body, "box", (0.001, 0.004, 0.003), (0.040, y, 0.019), (0.98, 0.93, 0.66))
        _add_look(body, "box", (0.001, 0.004, 0.003), (-0.040, y, 0.019), (0.55, 0.05, 0.05))
    for x in (-0.024, 0.024):
        for side in (-1.0, 1.0):
            _add_look(body, "cylinder", (0.0105, 0.004), (x, side * 0.0165, 0.0105), (0.07, 0.07, 0.08), quat=_ACROSS)
            _add_look(body, "cylinder", (0.005, 0.0045), (x, side * 0.0165, 0.0105), (0.80, 0.81, 0.83), quat=_ACROSS)
    add_contact(body, "box", (0.040, 0.5 * CAR_WIDTH, 0.010), pos=(0, 0, 0.0165), mass=0.09)
    add_contact(body, "box", (0.022, 0.0135, 0.008), pos=(-0.004, 0, 0.034), mass=0.02)
    _add_soles(body, 0.028, 0.014)


def add_clock(spec: mujoco.MjSpec, name: str) -> None:
    """An alarm clock with two bells and a dial on either side, 9 cm high, looking along x."""
    body = free_body(spec, name)
    middle = 0.043
    add_lathe(spec, f"{name}_case", [(0.0, -0.017), (0.033, -0.017), (0.033, 0.017), (0.0, 0.017)], segments=20)
    bell = [(0.014 * math.cos(t), 0.014 * math.sin(t)) for t in np.linspace(0.0, 0.5 * math.pi, 4)]
    add_lathe(spec, f"{name}_bell", [*bell[:-1], (0.0, 0.014)], segments=12)
    add_looks(body, f"{name}_case", (0.14, 0.46, 0.50), pos=(0, 0, middle), quat=_FORWARD)
    for side in (-1.0, 1.0):
        x = side * 0.0172
        _add_look(body, "cylinder", (0.028, 0.0008), (x, 0, middle), (0.96, 0.95, 0.90), quat=_FORWARD)
        _add_look(body, "box", (0.0006, 0.0018, 0.009), (x * 1.08, 0, middle + 0.008), (0.08, 0.08, 0.09))
        _add_look(body, "box", (0.0006, 0.007, 0.0018), (x * 1.08, side * 0.006, middle), (0.08, 0.08, 0.09))
        lean = (math.cos(0.3), -side * math.sin(0.3), 0.0, 0.0)
        add_looks(
            body, f"{name}_bell", (0.85, 0.68, 0.26), name=f"{name}_bell{side:+.0f}", pos=(0, side * 0.019, 0.073),
            quat=lean,
        )  # fmt: skip
        leg = (0, side * 0.018, 0.020, 0, side * 0.027, 0.004)
        _add_look(body, "capsule", (0.004,), None, (0.85, 0.68, 0.26), fromto=leg)
    _add_look(body, "capsule", (0.003,), None, (0.30, 0.30, 0.32), fromto=(0, 0, 0.074, 0, 0, CLOCK_HEIGHT - 0.003))
    add_contact(body, "box", (0.017, 0.030, 0.041), pos=(0, 0, 0.045), mass=0.30)
    _add_soles(body, 0.015, 0.026)


def add_hammer(spec: mujoco.MjSpec, name: str) -> None:
    """A club hammer that stands on the face of its head; the handle, 14 cm, sticks out level along -x."""
    body = free_body(spec, name)
    tall = HAMMER_HEIGHT
    head = [(0.0, 0.0), (0.021, 0.0), (0.0245, 0.005), (0.0245, 0.017), (0.0205, 0.022), (0.0205, tall - 0.022)]
    head += [(0.0245, tall - 0.017), (0.0245, tall - 0.005), (0.021, tall), (0.0, tall)]
    add_lathe(spec, f"{name}_head", head, segments=8)
    flat = (math.cos(math.pi / 16), 0, 0, math.sin(math.pi / 16))
    add_looks(body, f"{name}_head", (0.27, 0.29, 0.32), quat=flat)
    _add_look(
        body, "capsule", (0.0095,), None, (0.72, 0.52, 0.30), fromto=(-0.020, 0, HANDLE_AXIS, -0.12, 0, HANDLE_AXIS)
    )
    grip = (-0.055, 0, HANDLE_AXIS, -0.140, 0, HANDLE_AXIS)
    _add_look(body, "capsule", (0.0115,), None, (0.85, 0.24, 0.12), fromto=grip, name=f"{name}_grip")
    add_contact(body, "box", (0.0215, 0.0215, 0.5 * tall), pos=(0, 0, 0.5 * tall), mass=0.16)
    add_contact(body, "box", (0.065, 0.0105, 0.0105), pos=(-0.085, 0, HANDLE_AXIS), mass=0.02)


def add_block(spec: mujoco.MjSpec, name: str) -> None:
    """A cube to be hit; `{name}_top` reads the force on its top [N]."""
    body = free_body(spec, name)
    half = 0.5 * BLOCK_EDGE
    add_geom(body, "box", (half, half, half), name=name, pos=(0, 0, half), rgba=(0.80, 0.18, 0.15, 1), mass=0.10)
    top = f"{name}_top"
    body.add_site(
        name=top, type=mujoco.mjtGeom.mjGEOM_BOX, size=(half + 0.002, half + 0.002, 0.005), pos=(0, 0, BLOCK_EDGE),
        group=5,
    )  # fmt: skip
    spec.add_sensor(name=top, type=mujoco.mjtSensor.mjSENS_TOUCH, objtype=mujoco.mjtObj.mjOBJ_SITE, objname=top)


def add_casserole(spec: mujoco.MjSpec, name: str) -> None:
    """A low pot with a lid and two wide handles along y, with room for a finger behind each."""
    body = free_body(spec, name)
    away, height = CASSEROLE_HANDLE
    side = [(0.0, 0.0), (0.058, 0.0), (0.064, 0.008), (0.064, 0.066), (0.067, 0.068), (0.067, 0.072)]
    add_lathe(spec, f"{name}_side", side, segments=20)
    add_lathe(spec, f"{name}_lid", [(0.067, 0.072), (0.062, 0.079), (0.034, 0.088), (0.0, 0.091)], segments=20)
    knob = [(0.006, 0.088), (0.006, 0.096), (0.015, 0.101), (0.013, 0.109), (0.0, 0.111)]
    add_lathe(spec, f"{name}_knob", knob, segments=10)
    path = [(-0.026, 0.060, height), (-0.025, 0.096, height), (-0.016, away, height)]
    add_tube(spec, f"{name}_handle", [*path, *[(-x, y, z) for x, y, z in reversed(path)]], 0.0075)
    add_looks(body, f"{name}_side", (0.76, 0.26, 0.12))
    add_looks(body, f"{name}_lid", (0.80, 0.30, 0.15))
    for mesh, turn in (("knob", 0.0), ("handle", 0.0), ("handle", math.pi)):
        quat = (math.cos(turn / 2), 0, 0, math.sin(turn / 2))
        add_looks(body, f"{name}_{mesh}", (0.10, 0.10, 0.11), name=f"{name}_{mesh}{round(turn)}", quat=quat)
    add_hull(body, "cylinder", 0.064, 0.001, 0.080, mass=0.8)
    for where in (-away, away):
        bar = (-0.016, where, height, 0.016, where, height)
        add_contact(body, "capsule", (0.0075,), fromto=bar, mass=0.02)
        for x in (-0.026, 0.026):
            arm = (x, math.copysign(0.066, where), height, x, math.copysign(0.092, where), height)
            add_contact(body, "capsule", (0.006,), fromto=arm, mass=0.005)
    add_contact(body, "capsule", (0.012,), fromto=(0, 0, 0.088, 0, 0, 0.098), mass=0.02)
    add_feet(body, 0.052)


def add_phone(spec: mujoco.MjSpec, name: str) -> None:
    """A phone on its back, its upper end at +x: a case on four bumpers, a lit screen with a bar and two rows of icons.

    The bumpers lift it so far that fingers reach all of its edge.
    """
    body = free_body(spec, name)
    length, width = 0.5 * PHONE_SIZE[0], 0.5 * PHONE_SIZE[1]
    thick, middle = 0.5 * (PHONE_SIZE[2] - _BUMPER), 0.5 * (PHONE_SIZE[2] + _BUMPER)
    _add_look(body, "box", (length, width, thick), (0, 0, middle), (0.10, 0.10, 0.12), name=f"{name}_case")
    for x in (-0.045, 0.045):
        _add_look(body, "box", (0.006, 0.018, _BUMPER / 2), (x, 0, _BUMPER / 2), (0.25, 0.25, 0.27))
    top = PHONE_SIZE[2] + 0.0002
    screen = (length - 0.005, width - 0.003, 0.0005)
    _add_look(body, "box", screen, (0, 0, top), (0.30, 0.56, 0.86), name=f"{name}_screen")
    _add_look(body, "box", (0.003, 0.009, 0.0003), (length - 0.009, 0, top + 0.0006), (0.05, 0.05, 0.06))
    for row, x in enumerate((0.012, -0.010)):
        for column, y in enumerate((-0.014, 0.0, 0.014)):
            shade = _ICONS[(3 * row + column) % len(_ICONS)]
            _add_look(body, "box", (0.0045, 0.0045, 0.0003), (x, y, top + 0.0006), shade)
    _add_look(body, "box", (0.006, width - 0.006, 0.0003), (-length + 0.016, 0, top + 0.0006), (0.92, 0.93, 0.95))
    stiff = {"solimp": (0.98, 0.995, 0.001, 0.5, 2), "priority": 1}  # fingers do not sink into its edges
    add_contact(body, "box", (length, width, thick), pos=(0, 0, middle), mass=0.12, **stiff)
    _add_soles(body, 0.045, 0.014)


_ICONS: tuple[Triple, ...] = ((0.95, 0.78, 0.20), (0.90, 0.28, 0.24), (0.30, 0.72, 0.36), (0.96, 0.96, 0.96))


def add_stand(spec: mujoco.MjSpec, name: str) -> None:
    """A phone stand: a plate that leans back, its foot in front as a lip, on a heavy base."""
    body = free_body(spec, name)
    colour = (0.78, 0.79, 0.81)
    x, z = STAND_GROOVE
    up = np.array((math.cos(STAND_ANGLE), 0.0, math.sin(STAND_ANGLE)))
    out = np.array((-up[2], 0.0, up[0]))
    lean = (math.cos(STAND_ANGLE / 2), 0.0, -math.sin(STAND_ANGLE / 2), 0.0)
    groove = np.array((x, 0.0, z))
    plate = groove + 0.041 * up - 0.003 * out
    lip = groove - 0.0025 * up + 0.004 * out
    for part, half, place in (("plate", (0.044, 0.019, 0.003), plate), ("lip", (0.0025, 0.022, 0.010), lip)):
        add_geom(
            body, "box", half, name=f"{name}_{part}", pos=place, quat=lean, rgba=(*colour, 1), mass=0.03,
            friction=_SLIDING, priority=2,
        )  # fmt: skip
    add_geom(
        body, "box", (0.050, 0.032, 0.004), name=f"{name}_base", pos=(0.008, 0, 0.006), rgba=(*colour, 1), mass=0.5
    )
    top = groove + 0.070 * up - 0.006 * out
    _add_look(body, "capsule", (0.006,), None, (0.42, 0.43, 0.46), fromto=(0.048, 0, 0.010, *top))
    _add_soles(body, 0.040, 0.026, shift=0.008)


def _add_soles(body: mujoco.MjsBody, x: float, y: float, shift: float = 0.0) -> None:
    """Four small balls to stand on at the corners of a rectangle, its half sizes given [m]."""
    for along in (-x, x):
        for across in (-y, y):
            place = (along + shift, across, 0.004)
            add_contact(body, "sphere", (0.004,), pos=place, mass=0.0, condim=3, friction=_SLIDING, priority=1)


def _add_look(
    body: mujoco.MjsBody, kind: str, size: Sequence[float], place: Triple | None, colour: Triple, **options: object
) -> None:
    """A shape that is drawn only; `options` say where it is if `place` does not."""
    where: dict[str, object] = {} if place is None else {"pos": place}
    looks = {"rgba": (*colour, 1), "mass": 0.0, "contype": 0, "conaffinity": 0}
    add_geom(body, kind, tuple(size), **(where | looks | options))


def _add_block_mesh(spec: mujoco.MjSpec, name: str, faces: Sequence[Triple], heights: Sequence[float]) -> None:
    """A block with slanting sides: of its lower and upper face the front, the back and half the width [m]."""
    corners = [
        (x, y, height)
        for (front, back, half), height in zip(faces, heights, strict=True)
        for x in (back, front)
        for y in (-half, half)
    ]
    spec.add_mesh(name=name, uservert=np.array(corners).ravel())
