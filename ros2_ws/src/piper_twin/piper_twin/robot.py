"""Facts about the AgileX Piper, each with its unit and source; nothing here is computed from a model file.

Zero convention: firmware >= S-V1.6-3 (older firmware has J2 and J3 shifted by 2 degrees).
Sources: [SDK] piper_sdk 0.6.2; [URDF] AgileX's 2025 URDF, its inertia tensors moved to the centre of mass and their
product signs corrected (as published they are not physically valid); [CAN] AgileX's CAN protocol document;
[I] our own inference where nothing is published.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from vla_policy.embodiment import Camera, Embodiment, Joint

DEG = math.pi / 180.0


@dataclasses.dataclass(frozen=True, slots=True)
class DhRow:
    """One row of the modified Denavit-Hartenberg table [SDK]: Rx(alpha) Tx(a) Rz(q + theta) Tz(d)."""

    a: float
    """[m]."""
    alpha: float
    """[rad]."""
    d: float
    """[m]."""
    theta: float
    """Joint offset [rad]."""


DH_TABLE: tuple[DhRow, ...] = (
    DhRow(0.0, 0.0, 0.123, 0.0),
    DhRow(0.0, -90 * DEG, 0.0, -172.22 * DEG),
    DhRow(0.28503, 0.0, 0.0, -102.78 * DEG),
    DhRow(-0.02198, 90 * DEG, 0.25075, 0.0),
    DhRow(0.0, -90 * DEG, 0.0, 0.0),
    DhRow(0.0, 90 * DEG, 0.091, 0.0),
)

JOINT_LIMITS: tuple[tuple[float, float], ...] = tuple(
    (low * DEG, high * DEG) for low, high in ((-150, 150), (0, 180), (-170, 0), (-100, 100), (-70, 70), (-120, 120))
)
"""Position limits [rad] of joint 1..6 [SDK]."""

MAX_JOINT_VELOCITY = 3.0
"""[rad/s], the arm's own limit [CAN]."""
MAX_JOINT_ACCELERATION = 5.0
"""[rad/s^2], the arm's largest setting [CAN]."""

GRIPPER_STROKE = 0.07
"""Total opening [m] of the V1 gripper [SDK]; the V2 gripper has 0.10."""
MAX_GRIPPER_VELOCITY = 0.2
"""Rate of the total opening [m/s] [I]: the stroke in about a third of a second."""
MAX_GRIPPER_ACCELERATION = 1.0
"""[m/s^2] [I]."""

FINGER_ORIGIN = 0.1358
"""From the flange to the finger origin along the tool axis [m] [URDF]."""
TOOL_CENTRE = 0.1358
"""From the flange to the point between the finger pads along the tool axis [m] [URDF]."""


@dataclasses.dataclass(frozen=True, slots=True)
class Inertia:
    """Mass, centre of mass and inertia about it, in the link frame of `URDF`."""

    mass: float
    """[kg]."""
    com: tuple[float, float, float]
    """[m]."""
    tensor: tuple[float, float, float, float, float, float]
    """ixx, iyy, izz, ixy, ixz, iyz about the centre of mass [kg m^2]."""


LINK_INERTIAS: dict[str, Inertia] = {
    "base": Inertia(1.02, (-0.00474, 2.6e-5, 0.04145), (9.217e-4, 1.051e-3, 8.734e-4, 6.1e-7, -2.64e-5, 6.9e-7)),
    "link1": Inertia(0.71, (0.000122, 0.000105, -0.004386), (4.755e-4, 3.911e-4, 4.398e-4, 3.7e-7, 1.86e-6, 2.09e-6)),
    "link2": Inertia(
        1.17, (0.198666, -0.010927, 0.001421), (1.027e-3, 2.167e-2, 2.143e-2, -7.39e-4, 7.89e-5, -1.36e-5)
    ),
    "link3": Inertia(
        0.50, (-0.020274, -0.133915, -0.000459), (4.650e-3, 2.446e-4, 4.631e-3, -3.00e-4, 5.1e-6, 3.12e-5)
    ),
    "link4": Inertia(0.38, (-9.67e-5, 8.76e-4, -0.004969), (1.753e-4, 1.803e-4, 1.545e-4, -5.7e-7, -1.02e-6, 6.8e-6)),
    "link5": Inertia(0.383, (-4.1e-5, -0.056649, -0.003721), (4.273e-4, 1.798e-4, 4.141e-4, 8.3e-7, 1.3e-7, 7.05e-5)),
    "link6": Inertia(0.007, (-8.8e-5, 9e-6, -0.002), (5.7e-7, 5.7e-7, 1.07e-6, 0.0, 0.0, 0.0)),
    "gripper": Inertia(0.45, (-1.84e-4, 8.1e-5, 0.032144), (4.644e-4, 2.495e-4, 3.944e-4, -3.5e-7, 4.7e-6, 1.1e-6)),
    "finger": Inertia(0.025, (6.5e-4, -0.049193, 0.009723), (1.085e-5, 5.44e-6, 1.419e-5, 3.3e-7, -5e-8, 1.76e-6)),
}
"""[URDF], corrected. Gripper and finger come from the same-named gripper of AgileX's Nero description [I]."""

URDF_JOINT_FRAMES: tuple[tuple[tuple[float, float, float], tuple[float, float, float]], ...] = (
    ((0.0, 0.0, 0.123), (0.0, 0.0, 0.0)),
    ((0.0, 0.0, 0.0), (math.pi / 2, -7.78 * DEG, -math.pi)),
    ((0.28503, 0.0, 0.0), (0.0, 0.0, -102.78 * DEG)),
    ((-0.02198, -0.25075, 0.0), (math.pi / 2, 0.0, 0.0)),
    ((0.0, 0.0, 0.0), (-math.pi / 2, 0.0, 0.0)),
    ((0.0, -0.091, 0.0), (math.pi / 2, 0.0, 0.0)),
)
"""Position [m] and fixed-axis roll, pitch, yaw [rad] of joint 1..6 in its parent [URDF], written from the DH table so
that the URDF's rounding of 0.1 mm vanishes."""


@dataclasses.dataclass(frozen=True, slots=True)
class Actuator:
    """A position servo as MuJoCo models it; to be fitted with step responses of a real arm [I]."""

    kp: float
    """[N m/rad] or [N/m]."""
    damping: float
    """Of the servo, [N m s/rad] or [N s/m]."""
    force: float
    """Largest torque [N m] or force [N], gravity's share included; wire ranges of the motor messages [CAN]."""
    armature: float
    """[kg m^2] or [kg]."""


JOINT_ACTUATORS: tuple[Actuator, ...] = (
    Actuator(300.0, 20.0, 32.0, 0.1),
    Actuator(300.0, 20.0, 32.0, 0.1),
    Actuator(250.0, 16.0, 32.0, 0.1),
    Actuator(80.0, 3.0, 8.0, 0.02),
    Actuator(60.0, 2.5, 8.0, 0.02),
    Actuator(30.0, 1.2, 8.0, 0.01),
)
FINGER_ACTUATOR = Actuator(1500.0, 0.0, 20.0, 0.05)
JOINT_DAMPING = 1.0
"""Of each joint's bearing and gear [N m s/rad] [I]."""
FINGER_DAMPING = 45.0
"""Of each finger's rail and the servo together [N s/m] [I]; in the joint, because a servo that saturates at its force
loses its own damping, and so light a finger then chatters without ever arriving."""

ARMS: tuple[str, ...] = ("left", "right")
"""Order of the arms in state and action vectors."""
ARM_SPACING = 0.60
"""Between the two bases [m], as RoboTwin's two Pipers."""
DOF = 7
"""Six joints and a gripper."""

HOME = np.array([0.0, 1.22, -0.98, 0.0, 0.90, 0.0, GRIPPER_STROKE])
"""Start posture of one arm [rad, m]: the tool 0.2 m above the table, 30 degrees from pointing straight down (J5 ends
at 70 degrees, so the tool cannot point straight down up there), gripper open."""
HOME.setflags(write=False)

CONTROL_PERIOD = 0.04
"""[s]: 25 commands a second, ten physics steps of 4 ms each."""

HEAD_FOVY = 42.5 * DEG
"""RealSense D435 colour at 640x480, measured on one unit."""
WRIST_FOVY = 58.0 * DEG
"""RealSense D405, data sheet."""
IMAGE_SIZE = 128
"""Square crop of the camera image handed to the policy [px]."""


def arm_slice(arm: str) -> slice:
    """Where one arm's seven numbers stand in a state or action vector."""
    start = ARMS.index(arm) * DOF
    return slice(start, start + DOF)


def _arm_joints(arm: str) -> tuple[Joint, ...]:
    joints = tuple(
        Joint(
            name=f"{arm}_joint{number}",
            lower=lower,
            upper=upper,
            max_velocity=MAX_JOINT_VELOCITY,
            max_acceleration=MAX_JOINT_ACCELERATION,
        )
        for number, (lower, upper) in enumerate(JOINT_LIMITS, start=1)
    )
    gripper = Joint(
        name=f"{arm}_gripper",
        lower=0.0,
        upper=GRIPPER_STROKE,
        max_velocity=MAX_GRIPPER_VELOCITY,
        max_acceleration=MAX_GRIPPER_ACCELERATION,
        is_gripper=True,
    )
    return (*joints, gripper)


def _camera(name: str, fovy: float) -> Camera:
    return Camera(name=name, height=IMAGE_SIZE, width=IMAGE_SIZE, fovy=fovy)


DUAL_PIPER = Embodiment(
    name="dual_piper",
    joints=tuple(joint for arm in ARMS for joint in _arm_joints(arm)),
    cameras=(_camera("head", HEAD_FOVY), *(_camera(f"{arm}_wrist", WRIST_FOVY) for arm in ARMS)),
    control_period=CONTROL_PERIOD,
)
"""Two Pipers side by side: 14 numbers, left joint1..6 and opening, right likewise; head and two wrist cameras."""
