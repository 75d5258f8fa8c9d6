"""More objects for the table: what is handed over, stacked, ranked, thrown away or put in order.

As in `props`: our own primitives, origin at the bottom centre, z up [m]. What is long lies along x, its front at +x.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import mujoco
import numpy as np
import numpy.typing as npt

from piper_twin.meshes import add_lathe, add_loft
from piper_twin.props import add_contact, add_feet, add_geom, add_hull, add_looks, add_ring, free_body

Array = npt.NDArray[np.float64]

CUBE = 0.040
"""Edge of a cube [m]."""
BAR = (0.180, 0.032, 0.032)
"""Length, width and height of a long block [m]."""
PAD_HEIGHT = 0.004
MICROPHONE_AXIS = 0.024
"""Height of a lying microphone's axis [m]."""
BIN_RADIUS = 0.098
"""Of the rim's outside [m]."""
BIN_HEIGHT = 0.120
BIN_FLOOR = 0.008
MAT_HEIGHT = 0.006

_ALONG_X = (math.sqrt(0.5), 0.0, math.sqrt(0.5), 0.0)
"""Turns z to x."""


def add_cube(spec: mujoco.MjSpec, name: str, colour: tuple[float, float, float]) -> None:
    """A wooden cube with an edge of 4 cm."""
    body = free_body(spec, name)
    half = 0.5 * CUBE
    _add_box(body, name, (half, half, half), colour, mass=0.06)


def add_bar(spec: mujoco.MjSpec, name: str, colour: tuple[float, float, float]) -> None:
    """A long block, 18 cm, lying: long enough for two grippers."""
    body = free_body(spec, name)
    length, width, height = (0.5 * edge for edge in BAR)
    _add_box(body, name, (length, width, height), colour, mass=0.12)


def add_pad(spec: mujoco.MjSpec, name: str, half_size: tuple[float, float], colour: tuple[float, float, float]) -> None:
    """A thin flat pad with a white border that marks a place."""
    body = free_body(spec, name)
    half = 0.5 * PAD_HEIGHT
    _add_box(body, f"{name}_border", (*half_size, half), (0.93, 0.93, 0.91), mass=0.2, foot=0.0015)
    inner = (half_size[0] - 0.006, half_size[1] - 0.006, half)
    _add_paint(body, name, inner, (0, 0, half + 0.0006), colour)


def _add_box(
    body: mujoco.MjsBody,
    name: str,
    half: tuple[float, float, float],
    colour: tuple[float, float, float],
    mass: float,
    foot: float = 0.004,
) -> None:
    """A box that is drawn and felt, on four balls: boxes on boxes creep in single precision, balls on boxes do not."""
    bottom = 0.0006
    tall = half[2] - 0.5 * bottom
    add_geom(body, "box", (half[0], half[1], tall), name=name, pos=(0, 0, bottom + tall), rgba=(*colour, 1), mass=mass)
    x, y = half[0] - foot - 0.001, half[1] - foot - 0.001
    _add_feet_at(body, ((x, y), (x, -y), (-x, y), (-x, -y)), foot)


def _add_feet_at(body: mujoco.MjsBody, places: Sequence[tuple[float, float]], radius: float) -> None:
    """Balls that an object stands on."""
    for x, y in places:
        add_contact(body, "sphere", (radius,), pos=(x, y, radius), mass=0.0, condim=3)


def _add_paint(
    body: mujoco.MjsBody,
    name: str,
    half: tuple[float, float, float],
    place: tuple[float, float, float],
    colour: tuple[float, float, float],
    quat: tuple[float, float, float, float] = (1.0, 0.0, 0.0, 0.0),
) -> None:
    """A box that is drawn only."""
    looks = {"rgba": (*colour, 1), "mass": 0.0, "contype": 0, "conaffinity": 0}
    add_geom(body, "box", half, name=name, pos=place, quat=quat, **looks)


def add_microphone(spec: mujoco.MjSpec, name: str) -> None:
    """A hand-held microphone, 20 cm, lying on its side with the head at +x; its handle is felt as a square bar."""
    body = free_body(spec, name)
    axis = (0, 0, MICROPHONE_AXIS)
    head = [(0.024 * math.sin(t), 0.074 - 0.024 * math.cos(t)) for t in np.linspace(0.25 * math.pi, math.pi, 7)]
    add_lathe(spec, f"{name}_handle", [(0.0, -0.100), (0.013, -0.100), (0.015, -0.096), (0.019, 0.044), (0.0, 0.046)])
    add_lathe(spec, f"{name}_head", [(0.016, 0.056), *head[1:-1], (0.0, head[-1][1])])
    add_lathe(spec, f"{name}_collar", [(0.019, 0.044), (0.0215, 0.048), (0.0215, 0.055), (0.0, 0.057)])
    add_lathe(spec, f"{name}_band", [(0.0248, 0.070), (0.0248, 0.078)])
    looks = {"handle": (0.13, 0.13, 0.15), "head": (0.62, 0.63, 0.66), "collar": (0.80, 0.65, 0.22)}
    for part, colour in (looks | {"band": (0.30, 0.30, 0.33)}).items():
        add_looks(body, f"{name}_{part}", colour, pos=axis, quat=_ALONG_X)
    _add_paint(body, f"{name}_switch", (0.010, 0.004, 0.002), (0.005, 0, MICROPHONE_AXIS + 0.018), (0.85, 0.15, 0.12))
    add_contact(body, "box", (0.073, 0.015, 0.015), pos=(-0.026, 0, MICROPHONE_AXIS), mass=0.10)
    add_contact(body, "sphere", (0.0235,), pos=(0.074, 0, MICROPHONE_AXIS), mass=0.06)
    _add_feet_at(body, ((-0.090, -0.012), (-0.090, 0.012), (0.066, -0.014), (0.066, 0.014)), 0.005)


def add_bin(spec: mujoco.MjSpec, name: str) -> None:
    """An open waste bin, 12 cm high, felt as a floor and a ring of boards; heavy, so that it stays."""
    body = free_body(spec, name)
    inside = BIN_RADIUS - 0.005
    rim = [(BIN_RADIUS - 0.012, 0.0), (BIN_RADIUS, BIN_HEIGHT), (inside, BIN_HEIGHT)]
    add_lathe(spec, f"{name}_outside", [(0.0, 0.0), *rim], segments=20)
    add_lathe(spec, f"{name}_inside", [rim[-1], (inside - 0.012, BIN_FLOOR), (0.0, BIN_FLOOR)], segments=20)
    lip = BIN_RADIUS + 0.003
    add_lathe(
        spec,
        f"{name}_rim",
        [
            (BIN_RADIUS, BIN_HEIGHT - 0.010),
            (lip, BIN_HEIGHT - 0.008),
            (lip, BIN_HEIGHT),
            (inside - 0.001, BIN_HEIGHT + 0.001),
        ],
        segments=20,
    )
    add_looks(body, f"{name}_outside", (0.30, 0.36, 0.42))
    add_looks(body, f"{name}_inside", (0.12, 0.13, 0.15))
    add_looks(body, f"{name}_rim", (0.52, 0.58, 0.62))
    add_hull(body, "cylinder", BIN_RADIUS - 0.012, 0.001, BIN_FLOOR, mass=1.5)
    add_ring(
        body,
        "box",
        BIN_RADIUS - 0.006,
        0.5 * (BIN_HEIGHT + BIN_FLOOR),
        (0.005, 0.5 * (BIN_HEIGHT - BIN_FLOOR)),
        count=12,
        mass=0.08,
    )
    add_feet(body, 0.066)


def add_mat(spec: mujoco.MjSpec, name: str, colour: tuple[float, float, float]) -> None:
    """A shoe mat, 21 by 11 cm, with a white arrow in front of where the tip belongs."""
    body = free_body(spec, name)
    half = 0.5 * MAT_HEIGHT
    _add_box(body, name, (0.115, 0.056, half), colour, mass=0.3, foot=0.002)
    for number, (x, size) in enumerate(((0.090, 0.030), (0.096, 0.022), (0.102, 0.013), (0.108, 0.005))):
        _add_paint(body, f"{name}_arrow{number}", (0.003, size, half), (x, 0, half + 0.0005), (0.94, 0.94, 0.92))


def add_shoe(spec: mujoco.MjSpec, name: str) -> None:
    """A low shoe, 16 cm, its tip at +x: sole, upper, collar and laces; felt as a sole, an instep and an ankle."""
    body = free_body(spec, name)
    add_loft(spec, f"{name}_sole", [_outline(height, 0.079, 1.08) for height in (0.0, 0.013)])
    add_loft(spec, f"{name}_upper", [_outline(*level) for level in _UPPER])
    add_loft(spec, f"{name}_collar", [_outline(0.058, -0.004, 0.80), _outline(0.0645, -0.004, 0.80)])
    add_loft(spec, f"{name}_cap", [_outline(height, front, wide, back=0.046) for height, front, wide in _CAP])
    add_looks(body, f"{name}_sole", (0.92, 0.91, 0.88))
    add_looks(body, f"{name}_upper", (0.16, 0.34, 0.70))
    add_looks(body, f"{name}_collar", (0.09, 0.09, 0.10))
    add_looks(body, f"{name}_cap", (0.88, 0.87, 0.84))
    for number, (x, z) in enumerate(_LACES):
        tilted = (math.cos(0.5), 0.0, math.sin(0.5), 0.0)
        _add_paint(body, f"{name}_lace{number}", (0.003, 0.017, 0.002), (x, 0, z), (0.94, 0.94, 0.92), tilted)
    add_contact(body, "box", (0.070, 0.023, 0.010), pos=(0, 0, 0.013), mass=0.10)
    add_contact(body, "box", (0.036, 0.0215, 0.020), pos=(-0.039, 0, 0.043), mass=0.08)
    add_contact(body, "box", (0.020, 0.021, 0.010), pos=(0.017, 0, 0.030), mass=0.02)
    _add_feet_at(body, ((-0.064, 0.016), (-0.064, -0.016), (0.052, 0.020), (0.052, -0.020)), 0.004)


_UPPER = (
    (0.013, 0.076, 1.0), (0.022, 0.073, 0.98), (0.031, 0.056, 0.92), (0.041, 0.034, 0.88), (0.052, 0.012, 0.86),
    (0.063, 0.002, 0.86),
)  # fmt: skip
"""Of the shoe's upper, from the sole to the collar: height, how far it reaches forward [m], share of its width."""
_CAP = ((0.0135, 0.0775, 1.02), (0.022, 0.0745, 1.0), (0.030, 0.060, 0.94))
"""The same of its toe cap."""
_LACES = ((0.046, 0.0365), (0.035, 0.0425), (0.024, 0.0485))


def _outline(height: float, front: float, wide: float, back: float = -0.077) -> Array:
    """A shoe's outline from `back` to `front` at a height [m], its width a share of the sole's, shape (24, 3)."""
    turn = np.linspace(0.0, 2.0 * math.pi, 24, endpoint=False)
    x = 0.5 * (front + back) + 0.5 * (front - back) * np.sign(np.cos(turn)) * np.abs(np.cos(turn)) ** 0.8
    half_width = np.interp(x, (-0.08, -0.04, 0.0, 0.045, 0.08), (0.023, 0.025, 0.025, 0.030, 0.024))
    y = wide * half_width * np.sign(np.sin(turn)) * np.abs(np.sin(turn)) ** 0.7
    return np.column_stack([x, y, np.full(24, height)])
