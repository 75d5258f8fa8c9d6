"""Objects a task can put on the table, each built from our own primitives; origin at the bottom centre, z up [m]."""

from __future__ import annotations

import math

import mujoco
import numpy as np

from piper_twin.arm import CONTACT_GROUP
from piper_twin.meshes import add_lathe, add_tube
from piper_twin.task import OBJECT_GROUP

CUP_HEIGHT = 0.080
COASTER_HEIGHT = 0.008
BOTTLE_HEIGHT = 0.165
BOWL_RADIUS = 0.060
"""Of the rim's outside [m]."""
BOWL_HEIGHT = 0.048
BOWL_FLOOR = 0.015
"""Where a bowl inside another stands [m]."""
CAN_HEIGHT = 0.110
CAN_RADIUS = 0.026
POT_RADIUS = 0.070

_FRICTION = (1.0, 0.01, 0.001)
_SLIDING = (0.35, 0.01, 0.001)
"""Of feet on the table or on another object; it outranks the other's own."""
_RUBBER = (0.9, 0.01, 0.001)
"""Of a bell's feet."""


def track(spec: mujoco.MjSpec, body: str) -> None:
    """Give a body the sensors that predicates read: `{body}_position`, `{body}_up`, `{body}_velocity`."""
    kinds = {
        "position": mujoco.mjtSensor.mjSENS_FRAMEPOS,
        "up": mujoco.mjtSensor.mjSENS_FRAMEZAXIS,
        "forward": mujoco.mjtSensor.mjSENS_FRAMEXAXIS,
        "velocity": mujoco.mjtSensor.mjSENS_FRAMELINVEL,
    }
    for suffix, kind in kinds.items():
        spec.add_sensor(name=f"{body}_{suffix}", type=kind, objtype=mujoco.mjtObj.mjOBJ_XBODY, objname=body)


def free_body(spec: mujoco.MjSpec, name: str) -> mujoco.MjsBody:
    """A tracked body that lies on the table and can be moved; geoms are added by the caller."""
    body = spec.worldbody.add_body(name=name, pos=(0.3, 0.0, 0.0))
    body.add_freejoint(name=name)
    track(spec, name)
    return body


def add_geom(body: mujoco.MjsBody, kind: str, size: tuple[float, ...], **options: object) -> mujoco.MjsGeom:
    """Add a solid, visible geom; `kind` is a MuJoCo shape ("box", "cylinder", ...), `size` its half sizes [m]."""
    settings: dict[str, object] = {
        "type": getattr(mujoco.mjtGeom, f"mjGEOM_{kind.upper()}"),
        "size": tuple(size) + (0.0,) * (3 - len(size)),
        "group": OBJECT_GROUP,
        "contype": 1,
        "conaffinity": 3,
        "friction": _FRICTION,
        "condim": 4,
    }
    return body.add_geom(**(settings | options))


def add_bell(spec: mujoco.MjSpec, name: str) -> None:
    """A desk bell: a dome with a button on top that travels 8 mm; `{name}_button` reads how far it is pressed [m]."""
    body = free_body(spec, name)
    arc = [(0.036 * math.cos(t), 0.012 + 0.030 * math.sin(t)) for t in np.linspace(0.0, 0.45 * math.pi, 5)]
    add_lathe(spec, f"{name}_base", [(0.042, 0.0), (0.042, 0.012), (0.0, 0.012)])
    add_lathe(spec, f"{name}_dome", [*arc, (0.0, 0.042)])
    add_looks(body, f"{name}_base", (0.12, 0.12, 0.13))
    add_looks(body, f"{name}_dome", (0.86, 0.72, 0.28))
    add_hull(body, "cylinder", 0.042, 0.001, 0.012, mass=0.40)
    add_hull(body, "cylinder", 0.030, 0.012, 0.036, mass=0.05)
    add_feet(body, 0.034, friction=_RUBBER)
    button = body.add_body(name=f"{name}_button", pos=(0, 0, 0.050))
    button.add_joint(
        name=f"{name}_button", type=mujoco.mjtJoint.mjJNT_SLIDE, axis=(0, 0, -1), range=(0.0, 0.008),
        stiffness=150.0, springref=-0.006, damping=2.0, armature=0.02,
    )  # fmt: skip
    add_geom(button, "cylinder", (0.010, 0.008), rgba=(0.80, 0.12, 0.10, 1), mass=0.01)
    spec.add_sensor(
        name=f"{name}_button", type=mujoco.mjtSensor.mjSENS_JOINTPOS, objtype=mujoco.mjtObj.mjOBJ_JOINT,
        objname=f"{name}_button",
    )  # fmt: skip


def add_contact(body: mujoco.MjsBody, kind: str, size: tuple[float, ...], **options: object) -> mujoco.MjsGeom:
    """Add a solid that is not drawn; the object's mesh shows what it stands for."""
    return add_geom(body, kind, size, **({"group": CONTACT_GROUP} | options))


def add_looks(body: mujoco.MjsBody, mesh: str, colour: tuple[float, ...], **options: object) -> mujoco.MjsGeom:
    """Add a drawn mesh without contact or mass; mesh and geom share the name, unless `options` name the geom."""
    look: dict[str, object] = {
        "name": mesh, "type": mujoco.mjtGeom.mjGEOM_MESH, "meshname": mesh, "group": OBJECT_GROUP,
        "contype": 0, "conaffinity": 0, "mass": 0.0, "rgba": (*colour, 1.0),
    }  # fmt: skip
    return body.add_geom(**(look | options))


def add_feet(
    body: mujoco.MjsBody, radius: float, size: float = 0.004, friction: tuple[float, float, float] = _SLIDING
) -> None:
    """Stand the body on four small balls at `radius` [m]: cheaper than a cylinder's rim, and it does not rock."""
    for number in range(4):
        angle = math.pi * (0.25 + 0.5 * number)
        place = (radius * math.cos(angle), radius * math.sin(angle), size)
        add_contact(body, "sphere", (size,), pos=place, mass=0.0, condim=3, friction=friction, priority=1)


def add_hull(body: mujoco.MjsBody, kind: str, radius: float, bottom: float, top: float, mass: float) -> None:
    """Add an upright cylinder or capsule between two heights [m] that is felt but not drawn.

    A capsule meets a finger along a line (a cylinder in one point only), so what is held or pushed does not tip.
    """
    half = 0.5 * (top - bottom) - (radius if kind == "capsule" else 0.0)
    add_contact(body, kind, (radius, half), pos=(0, 0, 0.5 * (bottom + top)), mass=mass)


def add_cup(spec: mujoco.MjSpec, name: str) -> None:
    """An empty mug, 8 cm high, its handle along +x; it is felt as a solid, so it is grasped from outside."""
    body = free_body(spec, name)
    outside = [(0.0, 0.0), (0.023, 0.0), (0.027, 0.006), (0.0285, CUP_HEIGHT), (0.0255, CUP_HEIGHT)]
    add_lathe(spec, f"{name}_outside", outside)
    add_lathe(spec, f"{name}_inside", [(0.0255, CUP_HEIGHT), (0.024, 0.010), (0.0, 0.008)])
    arc = [(0.026 + 0.021 * math.sin(t), 0.0, 0.041 + 0.025 * math.cos(t)) for t in np.linspace(0.15, 3.0, 7)]
    add_tube(spec, f"{name}_handle", arc, 0.0045)
    add_looks(body, f"{name}_outside", (0.85, 0.25, 0.18))
    add_looks(body, f"{name}_inside", (0.30, 0.28, 0.26))
    add_looks(body, f"{name}_handle", (0.85, 0.25, 0.18))
    add_hull(body, "capsule", 0.0275, 0.001, CUP_HEIGHT, mass=0.12)
    add_contact(body, "capsule", (0.0045,), fromto=(0.046, 0, 0.028, 0.046, 0, 0.054), mass=0.008)
    add_feet(body, 0.020)


def add_coaster(spec: mujoco.MjSpec, name: str) -> None:
    """A round cork coaster with a dark rim, 10 cm across."""
    body = free_body(spec, name)
    radius = 0.050
    add_lathe(spec, f"{name}_rim", [(radius, 0.0), (radius, COASTER_HEIGHT), (radius - 0.008, COASTER_HEIGHT)])
    add_lathe(spec, f"{name}_top", [(radius - 0.008, COASTER_HEIGHT), (0.0, COASTER_HEIGHT)])
    add_looks(body, f"{name}_rim", (0.22, 0.16, 0.12))
    add_looks(body, f"{name}_top", (0.68, 0.54, 0.34))
    add_hull(body, "cylinder", radius, 0.001, COASTER_HEIGHT, mass=0.10)
    add_feet(body, 0.038, size=0.003)


def add_bottle(spec: mujoco.MjSpec, name: str) -> None:
    """A bottle with a label and a screw cap, 16.5 cm high: below a gripper at home."""
    body = free_body(spec, name)
    glass = [(0.0, 0.0), (0.023, 0.0), (0.025, 0.004), (0.025, 0.098), (0.021, 0.112), (0.011, 0.128), (0.010, 0.150)]
    add_lathe(spec, f"{name}_glass", glass)
    add_lathe(spec, f"{name}_label", [(0.0256, 0.035), (0.0256, 0.082)])
    add_lathe(spec, f"{name}_cap", [(0.0125, 0.146), (0.0125, BOTTLE_HEIGHT), (0.0, BOTTLE_HEIGHT)])
    add_looks(body, f"{name}_glass", (0.12, 0.42, 0.22))
    add_looks(body, f"{name}_label", (0.93, 0.90, 0.78))
    add_looks(body, f"{name}_cap", (0.85, 0.15, 0.12))
    add_hull(body, "capsule", 0.025, 0.001, 0.104, mass=0.20)
    add_contact(body, "capsule", (0.012,), fromto=(0, 0, 0.10, 0, 0, BOTTLE_HEIGHT - 0.012), mass=0.03)
    add_feet(body, 0.019)


def add_bowl(spec: mujoco.MjSpec, name: str) -> None:
    """A bowl, 12 cm across: thick in the foot, hollow above, so that another one nests in it and its rim can be held.

    Its wall is felt as two rings of bars: the rim, which fingers hold, and one below it, which centres a bowl inside
    another.
    """
    body = free_body(spec, name)
    wall = [(0.0, 0.0), (0.030, 0.0), (0.032, 0.006), (0.048, 0.022), (0.057, 0.038), (BOWL_RADIUS, BOWL_HEIGHT)]
    add_lathe(spec, f"{name}_outside", [*wall, (BOWL_RADIUS - 0.005, BOWL_HEIGHT)])
    inside = [(BOWL_RADIUS - 0.005, BOWL_HEIGHT), (0.052, 0.038), (0.043, 0.024), (0.028, BOWL_FLOOR)]
    add_lathe(spec, f"{name}_inside", inside)
    add_lathe(spec, f"{name}_floor", [inside[-1], (0.0, BOWL_FLOOR)])
    add_looks(body, f"{name}_outside", (0.20, 0.40, 0.75))
    add_looks(body, f"{name}_inside", (0.60, 0.58, 0.53))
    add_looks(body, f"{name}_floor", (0.70, 0.68, 0.63))
    add_hull(body, "cylinder", 0.032, 0.001, BOWL_FLOOR, mass=0.06)
    add_ring(body, "box", BOWL_RADIUS - 0.003, BOWL_HEIGHT - 0.007, (0.004, 0.007), count=12, mass=0.004)
    add_ring(body, "capsule", 0.047, 0.030, (0.004,), count=8, mass=0.0)
    add_feet(body, 0.024)


def add_ring(
    body: mujoco.MjsBody, kind: str, radius: float, height: float, section: tuple[float, ...], count: int, mass: float
) -> None:
    """A ring of bars whose mean radius is `radius` [m], their cross-section given by its half sizes [m]."""
    half = radius * math.tan(math.pi / count)
    size = (section[0], half) if kind == "capsule" else (section[0], half, section[1])
    for number in range(count):
        angle = 2.0 * math.pi * number / count
        lie = math.sqrt(0.5) if kind == "capsule" else 1.0  # a capsule's axis is z: lay it along the tangent
        turn = np.array((math.cos(angle / 2), 0.0, 0.0, math.sin(angle / 2)))
        quat = np.empty(4)
        mujoco.mju_mulQuat(quat, turn, np.array((lie, math.sqrt(1.0 - lie * lie), 0.0, 0.0)))
        place = (radius * math.cos(angle), radius * math.sin(angle), height)
        add_contact(body, kind, size, pos=place, quat=quat, mass=mass)


def add_can(spec: mujoco.MjSpec, name: str) -> None:
    """A slim drink can, 11 cm high."""
    body = free_body(spec, name)
    side = [(0.0, 0.0), (0.021, 0.0), (0.0255, 0.006), (0.0255, 0.098), (0.021, 0.107)]
    add_lathe(spec, f"{name}_side", side)
    add_lathe(spec, f"{name}_band", [(0.0260, 0.030), (0.0260, 0.072)])
    add_lathe(
        spec, f"{name}_top", [(0.0215, 0.106), (0.0215, CAN_HEIGHT), (0.0195, CAN_HEIGHT), (0.018, 0.107), (0, 0.107)]
    )
    add_looks(body, f"{name}_side", (0.80, 0.10, 0.12))
    add_looks(body, f"{name}_band", (0.95, 0.95, 0.95))
    add_looks(body, f"{name}_top", (0.55, 0.57, 0.60))
    add_hull(body, "capsule", 0.0255, 0.001, CAN_HEIGHT - 0.002, mass=0.18)
    add_feet(body, 0.0215)


def add_pot(spec: mujoco.MjSpec, name: str) -> None:
    """A cooking pot with a lid, its two handles along x, so that there is room beside it."""
    body = free_body(spec, name)
    add_lathe(
        spec, f"{name}_side", [(0.0, 0.0), (0.062, 0.0), (POT_RADIUS, 0.008), (POT_RADIUS, 0.072), (0.071, 0.075)]
    )
    add_lathe(spec, f"{name}_lid", [(0.071, 0.073), (0.068, 0.079), (0.035, 0.089), (0.0, 0.091)])
    knob = [(0.006, 0.088), (0.006, 0.098), (0.014, 0.104), (0.012, 0.112), (0.0, 0.114)]
    add_lathe(spec, f"{name}_knob", knob, segments=10)
    arc = [(0.062 + 0.032 * math.sin(t), 0.032 * math.cos(t), 0.058) for t in np.linspace(0.35, math.pi - 0.35, 7)]
    add_tube(spec, f"{name}_handle", arc, 0.006)
    add_looks(body, f"{name}_side", (0.35, 0.37, 0.40))
    add_looks(body, f"{name}_lid", (0.52, 0.54, 0.56))
    for mesh, turn in (("knob", 0.0), ("handle", 0.0), ("handle", math.pi)):
        quat = (math.cos(turn / 2), 0, 0, math.sin(turn / 2))
        add_looks(body, f"{name}_{mesh}", (0.08, 0.08, 0.09), name=f"{name}_{mesh}{round(turn)}", quat=quat)
    add_hull(body, "cylinder", POT_RADIUS, 0.001, 0.083, mass=1.1)
    for side in (-1.0, 1.0):
        bar = (0.094 * side, -0.012, 0.058, 0.094 * side, 0.012, 0.058)
        add_contact(body, "capsule", (0.006,), fromto=bar, mass=0.02)
    add_contact(body, "capsule", (0.012,), fromto=(0, 0, 0.090, 0, 0, 0.102), mass=0.02)
    add_feet(body, 0.058)
