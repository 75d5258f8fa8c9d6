"""One Piper as MuJoCo bodies, written from the facts in `robot.py`; our own primitives, no vendor mesh.

Two kinds of geom: visual ones (group 2, no contact) that make the arm recognisable, and few contact ones (group 3).
Contact geoms of the robot meet the world (bit 0) but not each other: arm-to-arm distance is the guard's duty.
"""

from __future__ import annotations

import math

import mujoco
import numpy as np

from piper_twin.robot import (
    FINGER_ACTUATOR,
    FINGER_DAMPING,
    FINGER_ORIGIN,
    GRIPPER_STROKE,
    JOINT_ACTUATORS,
    JOINT_DAMPING,
    JOINT_LIMITS,
    LINK_INERTIAS,
    TOOL_CENTRE,
    URDF_JOINT_FRAMES,
    WRIST_FOVY,
    Inertia,
)

VISUAL_GROUP = 2
CONTACT_GROUP = 3

_SHELL = (0.92, 0.92, 0.93, 1.0)
_JOINT = (0.16, 0.17, 0.19, 1.0)
_RUBBER = (0.10, 0.10, 0.11, 1.0)

_BOX, _CAPSULE, _CYLINDER = mujoco.mjtGeom.mjGEOM_BOX, mujoco.mjtGeom.mjGEOM_CAPSULE, mujoco.mjtGeom.mjGEOM_CYLINDER

_VISUALS: dict[str, tuple[tuple[object, tuple[float, ...], tuple[float, ...], tuple[float, ...]], ...]] = {
    "base": (
        (_CYLINDER, (0.060, 0.0), (0, 0, 0, 0, 0, 0.050), _SHELL),
        (_CYLINDER, (0.048, 0.0), (0, 0, 0.050, 0, 0, 0.085), _JOINT),
    ),
    "link1": (
        (_CYLINDER, (0.050, 0.0), (0, 0, -0.038, 0, 0, 0.012), _SHELL),
        (_CYLINDER, (0.042, 0.0), (0, -0.055, 0, 0, 0.055, 0), _JOINT),
    ),
    "link2": (
        (_CAPSULE, (0.036, 0.0), (0.02, 0, 0, 0.265, 0, 0), _SHELL),
        (_CYLINDER, (0.040, 0.0), (0.28503, 0, -0.048, 0.28503, 0, 0.048), _JOINT),
    ),
    "link3": ((_CAPSULE, (0.031, 0.0), (-0.010, -0.02, 0, -0.021984, -0.205, 0), _SHELL),),
    "link4": ((_CYLINDER, (0.034, 0.0), (0, 0, -0.040, 0, 0, 0.040), _JOINT),),
    "link5": ((_CAPSULE, (0.029, 0.0), (0, 0, 0, 0, -0.062, 0), _SHELL),),
    "link6": ((_CYLINDER, (0.030, 0.0), (0, 0, -0.016, 0, 0, 0.004), _JOINT),),
}
"""Link to (shape, radius, from-to in the link frame [m], colour)."""

_CONTACTS: dict[str, tuple[tuple[float, ...], ...]] = {
    "link2": ((0.040, 0.0, 0, 0, 0.28503, 0, 0),),
    "link3": ((0.035, 0, 0, 0, -0.021984, -0.230, 0),),
    "link5": ((0.033, 0, 0.01, 0, 0, -0.080, 0),),
}
"""Link to (capsule radius, from-to) [m]."""

_FINGER_AXES: dict[float, np.ndarray] = {
    1.0: np.array([[-1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, 1.0, 0.0]]),
    -1.0: np.array([[1.0, 0.0, 0.0], [0.0, 0.0, -1.0], [0.0, 1.0, 0.0]]),
}
"""The URDF's finger frame (y along the tool, z outwards) in ours, for either side of the palm."""


def add_arm(spec: mujoco.MjSpec, arm: str, position: tuple[float, float, float]) -> None:
    """Add one arm with gripper, wrist camera, servos and sensors to `spec`.

    Joints are `{arm}_joint1` .. 6 and `{arm}_finger1`, 2; actuators `{arm}_joint1` .. 6 and `{arm}_gripper`, whose
    control is the total opening [m]; the site `{arm}_tool` lies between the finger pads, z along the tool axis and y
    along the opening.

    Args:
        spec: Grows by the arm.
        arm: Prefix of every name.
        position: Of the base in the world [m]; the arm faces +x.
    """
    body = spec.worldbody.add_body(name=f"{arm}_base", pos=position)
    _set_inertia(body, LINK_INERTIAS["base"])
    _add_shapes(body, "base")
    for number, (offset, rpy) in enumerate(URDF_JOINT_FRAMES, start=1):
        body = body.add_body(name=f"{arm}_link{number}", pos=offset, quat=_quat_from_rpy(rpy), gravcomp=1.0)
        _set_inertia(body, LINK_INERTIAS[f"link{number}"])
        _add_shapes(body, f"link{number}")
        _add_joint(spec, body, f"{arm}_joint{number}", number - 1)
    _add_gripper(spec, body, arm)


def _add_joint(spec: mujoco.MjSpec, body: mujoco.MjsBody, name: str, index: int) -> None:
    servo = JOINT_ACTUATORS[index]
    # actgravcomp: the servo carries gravity inside its torque limit, as the arm's own position loop does.
    body.add_joint(
        name=name, axis=(0, 0, 1), range=JOINT_LIMITS[index], armature=servo.armature, damping=JOINT_DAMPING,
        actgravcomp=1, actfrcrange=(-servo.force, servo.force),
    )  # fmt: skip
    actuator = spec.add_actuator(name=name, target=name, trntype=mujoco.mjtTrn.mjTRN_JOINT)
    actuator.set_to_position(kp=servo.kp, kv=servo.damping)
    actuator.forcerange = (-servo.force, servo.force)
    actuator.ctrlrange = JOINT_LIMITS[index]
    spec.add_sensor(name=name, type=mujoco.mjtSensor.mjSENS_JOINTPOS, objtype=mujoco.mjtObj.mjOBJ_JOINT, objname=name)


def _add_gripper(spec: mujoco.MjSpec, flange: mujoco.MjsBody, arm: str) -> None:
    palm = flange.add_body(name=f"{arm}_palm", gravcomp=1.0)
    _set_inertia(palm, LINK_INERTIAS["gripper"])
    _visual_box(palm, (0.030, 0.050, 0.022), (0, 0, 0.030), _SHELL)
    _visual_box(palm, (0.022, 0.060, 0.008), (0, 0, 0.060), _JOINT)
    _contact_box(palm, f"{arm}_palm", (0.030, 0.055, 0.028), (0, 0, 0.036))
    # Wrist camera on the back of the gripper: 26 degrees from the tool axis towards the fingers, as RoboTwin mounts it.
    tilt = math.radians(26.0)
    palm.add_camera(
        name=f"{arm}_wrist",
        pos=(-0.070, 0.0, 0.030),
        fovy=math.degrees(WRIST_FOVY),
        xyaxes=(0, 1, 0, math.cos(tilt), 0, -math.sin(tilt)),
    )
    _visual_box(palm, (0.010, 0.022, 0.010), (-0.075, 0, 0.018), _JOINT)
    palm.add_site(name=f"{arm}_tool", pos=(0, 0, TOOL_CENTRE), size=(0.004, 0.004, 0.004), group=5)
    for number, side in ((1, 1.0), (2, -1.0)):
        _add_finger(palm, f"{arm}_finger{number}", side)
    spec.add_equality(
        name=f"{arm}_fingers",
        type=mujoco.mjtEq.mjEQ_JOINT,
        name1=f"{arm}_finger2",
        name2=f"{arm}_finger1",
        data=[0.0, 1.0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
    )
    _add_opening(spec, arm)
    for number in (1, 2):
        pad = f"{arm}_pad{number}"
        spec.add_sensor(name=pad, type=mujoco.mjtSensor.mjSENS_TOUCH, objtype=mujoco.mjtObj.mjOBJ_SITE, objname=pad)
    for kind, suffix in ((mujoco.mjtSensor.mjSENS_FRAMEPOS, "tool"), (mujoco.mjtSensor.mjSENS_FRAMEZAXIS, "tool_axis")):
        site = mujoco.mjtObj.mjOBJ_SITE
        spec.add_sensor(name=f"{arm}_{suffix}", type=kind, objtype=site, objname=f"{arm}_tool")


def _add_opening(spec: mujoco.MjSpec, arm: str) -> None:
    """The total opening: a tendon over both fingers, so that controls and readings are metres of opening."""
    tendon = spec.add_tendon(name=f"{arm}_gripper")
    for number in (1, 2):
        tendon.wrap_joint(f"{arm}_finger{number}", 1.0)
    actuator = spec.add_actuator(name=f"{arm}_gripper", target=f"{arm}_gripper", trntype=mujoco.mjtTrn.mjTRN_TENDON)
    actuator.set_to_position(kp=FINGER_ACTUATOR.kp, kv=FINGER_ACTUATOR.damping)
    actuator.forcerange = (-FINGER_ACTUATOR.force, FINGER_ACTUATOR.force)
    actuator.ctrlrange = (0.0, GRIPPER_STROKE)
    spec.add_sensor(
        name=f"{arm}_gripper",
        type=mujoco.mjtSensor.mjSENS_TENDONPOS,
        objtype=mujoco.mjtObj.mjOBJ_TENDON,
        objname=f"{arm}_gripper",
    )


def _add_finger(palm: mujoco.MjsBody, name: str, side: float) -> None:
    """A finger opening towards `side` (+1 or -1) of the palm's y axis; its frame is the palm's at the finger origin."""
    finger = palm.add_body(name=name, pos=(0, 0, FINGER_ORIGIN), gravcomp=1.0)
    _set_inertia(finger, LINK_INERTIAS["finger"], _FINGER_AXES[side])
    finger.add_joint(
        name=name,
        type=mujoco.mjtJoint.mjJNT_SLIDE,
        axis=(0, side, 0),
        range=(0.0, GRIPPER_STROKE / 2),
        armature=FINGER_ACTUATOR.armature,
        damping=FINGER_DAMPING,
    )
    _visual_box(finger, (0.009, 0.007, 0.032), (0, side * 0.010, -0.036), _JOINT)
    _visual_box(finger, (0.009, 0.003, 0.016), (0, side * 0.003, -0.010), _RUBBER)
    _contact_box(finger, name, (0.009, 0.008, 0.037), (0, side * 0.008, -0.031))
    pad = name.replace("finger", "pad")
    finger.add_site(
        name=pad, pos=(0, side * 0.008, -0.016), size=(0.013, 0.011, 0.030), type=_BOX, group=5, rgba=(0, 1, 0, 0.2)
    )


def _add_shapes(body: mujoco.MjsBody, link: str) -> None:
    for shape, (radius, _), ends, colour in _VISUALS[link]:
        body.add_geom(
            type=shape, size=(radius, 0, 0), fromto=ends, rgba=colour, group=VISUAL_GROUP, contype=0, conaffinity=0
        )
    for radius, *ends in _CONTACTS.get(link, ()):
        body.add_geom(
            name=body.name, type=_CAPSULE, size=(radius, 0, 0), fromto=ends, group=CONTACT_GROUP, contype=2,
            conaffinity=1,
        )  # fmt: skip


def _visual_box(
    body: mujoco.MjsBody, half: tuple[float, ...], centre: tuple[float, ...], colour: tuple[float, ...]
) -> None:
    body.add_geom(type=_BOX, size=half, pos=centre, rgba=colour, group=VISUAL_GROUP, contype=0, conaffinity=0)


def _contact_box(body: mujoco.MjsBody, name: str, half: tuple[float, ...], centre: tuple[float, ...]) -> None:
    body.add_geom(
        name=name, type=_BOX, size=half, pos=centre, group=CONTACT_GROUP, contype=2, conaffinity=1,
        friction=(1.2, 0.02, 0.001), condim=4,
    )  # fmt: skip


def _set_inertia(body: mujoco.MjsBody, inertia: Inertia, axes: np.ndarray | None = None) -> None:
    """Set mass and inertia; `axes` turns the facts' frame into the body's (3, 3), where they differ."""
    axes = np.eye(3) if axes is None else axes
    ixx, iyy, izz, ixy, ixz, iyz = inertia.tensor
    tensor = axes @ np.array([[ixx, ixy, ixz], [ixy, iyy, iyz], [ixz, iyz, izz]]) @ axes.T
    body.mass = inertia.mass
    body.ipos = axes @ inertia.com
    body.fullinertia = tensor[(0, 1, 2, 0, 0, 1), (0, 1, 2, 1, 2, 2)]
    body.explicitinertial = True


def _quat_from_rpy(rpy: tuple[float, float, float]) -> np.ndarray:
    quat = np.zeros(4)
    mujoco.mju_euler2Quat(quat, np.array(rpy), "XYZ")
    return quat
