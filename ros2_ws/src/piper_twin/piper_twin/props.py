"""Objects a task can put on the table, each built from our own primitives; origin at the bottom centre, z up [m]."""

from __future__ import annotations

import mujoco

from piper_twin.task import OBJECT_GROUP

_FRICTION = (1.0, 0.01, 0.001)


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
    add_geom(body, "cylinder", (0.042, 0.006), pos=(0, 0, 0.006), rgba=(0.12, 0.12, 0.13, 1), mass=0.40)
    add_geom(body, "ellipsoid", (0.036, 0.036, 0.030), pos=(0, 0, 0.012), rgba=(0.86, 0.72, 0.28, 1), mass=0.05)
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
