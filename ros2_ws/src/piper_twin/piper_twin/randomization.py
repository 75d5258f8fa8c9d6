"""How worlds differ in looks, bodies and timing, beyond where the objects start.

A `Variation` is drawn from an episode's own random stream. It becomes model fields (`fields`), which the CPU writes
into a world's copy of the model and a GPU backend into its batch, and timing values the simulation applies itself.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import mujoco
import numpy as np
import numpy.typing as npt

from piper_twin.cell import NUM_TABLE_MATERIALS, TABLE_MATERIAL
from piper_twin.robot import ARMS, DEG, DOF
from piper_twin.task import OBJECT_GROUP
from vla_policy.errors import VlaError

Array = npt.NDArray[np.float64]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Randomization:
    """Ranges; every value is the half width of a uniform distribution unless said otherwise."""

    colour: float = 0.0
    """Of each object's red, green and blue."""
    table_materials: bool = False
    """Whether the table top's texture is drawn."""
    table_colour: float = 0.0
    """Of the table's red, green and blue."""
    light_intensity: float = 0.0
    """Share of each lamp's brightness."""
    light_direction: float = 0.0
    """[rad], of each lamp."""
    camera_position: float = 0.0
    """[m], of each camera and axis."""
    camera_angle: float = 0.0
    """[rad], of each camera about each axis."""
    camera_fovy: float = 0.0
    """Share of the field of view."""
    mass: float = 0.0
    """Share of each object's mass and inertia."""
    friction: float = 0.0
    """Share of each object's sliding friction."""
    joint_offset: float = 0.0
    """Zero error of each joint [rad]."""
    max_latency: float = 0.0
    """Commands arrive late by up to this [s], drawn from 0."""
    max_gripper_lag: float = 0.0
    """Time constant of the gripper's answer [s], drawn from 0."""
    image_noise: float = 0.0
    """Standard deviation of pixel noise, of 255."""
    beyond: float = 0.0
    """Share of every range, around its middle, that is never drawn: 0.5 leaves the outer halves."""


LEVELS: dict[str, Randomization] = {
    "off": Randomization(),
    "standard": Randomization(
        colour=0.06, table_materials=True, table_colour=0.06, light_intensity=0.25, light_direction=10 * DEG,
        camera_position=0.005, camera_angle=1.0 * DEG, camera_fovy=0.02, mass=0.15, friction=0.15,
        joint_offset=0.3 * DEG, max_latency=0.04, max_gripper_lag=0.05, image_noise=2.0,
    ),
    "wide": Randomization(
        colour=0.18, table_materials=True, table_colour=0.20, light_intensity=0.5, light_direction=30 * DEG,
        camera_position=0.015, camera_angle=3.0 * DEG, camera_fovy=0.06, mass=0.4, friction=0.3,
        joint_offset=0.8 * DEG, max_latency=0.12, max_gripper_lag=0.15, image_noise=5.0,
    ),
    "shifted": Randomization(
        colour=0.18, table_materials=True, table_colour=0.20, light_intensity=0.5, light_direction=30 * DEG,
        camera_position=0.018, camera_angle=3.6 * DEG, camera_fovy=0.07, mass=0.5, friction=0.36,
        joint_offset=1.0 * DEG, max_latency=0.12, max_gripper_lag=0.18, image_noise=5.0, beyond=0.5,
    ),
    "new_objects": Randomization(colour=0.3, mass=0.4, friction=0.3, beyond=0.5),
    "new_backgrounds": Randomization(
        table_materials=True, table_colour=0.3, light_intensity=0.5, light_direction=30 * DEG, beyond=0.5
    ),
}  # fmt: skip
"""Randomisation levels by name. Worlds of `shifted` stand for a robot that no training saw: everything is off by half
to all of a range a fifth wider than that of `wide`, and commands are 60 to 120 ms late. The new ones change looks and
bodies alone."""


def find_level(name: str) -> Randomization:
    """The level of that name.

    Raises:
        VlaError: there is none; the message lists those there are.
    """
    if name not in LEVELS:
        raise VlaError(f"randomization level {name!r} does not exist; choose one of {', '.join(LEVELS)}")
    return LEVELS[name]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Variation:
    """One world's draw."""

    model_fields: Mapping[str, Array]
    """MjModel field name to its whole new value."""
    joint_offset: Array
    """Added to commands and taken from readings [rad], shape (14,); 0 for grippers."""
    latency: float
    """[s]."""
    gripper_lag: float
    """[s]."""
    image_noise: float
    """Of 255."""


def draw_variation(level: Randomization, model: mujoco.MjModel, colours: Array, rng: np.random.Generator) -> Variation:
    """Draw one world's variation; the same generator state always gives the same world.

    Args:
        level: The ranges.
        model: The task's model.
        colours: The scene's geom colours before variation (num_geoms, 4).
        rng: The episode's stream.
    """
    fields: dict[str, Array] = {"geom_rgba": colours}
    if level != LEVELS["off"]:
        fields |= _draw_surfaces(level, model, colours, rng)
        fields |= _draw_lights(level, model, rng)
        fields |= _draw_cameras(level, model, rng)
        fields |= _draw_bodies(level, model, rng)
    offset = _spread(level, rng, level.joint_offset, (len(ARMS), DOF))
    offset[:, 6] = 0.0
    return Variation(
        model_fields=fields,
        joint_offset=offset.ravel(),
        latency=rng.uniform(level.beyond * level.max_latency, level.max_latency),
        gripper_lag=rng.uniform(level.beyond * level.max_gripper_lag, level.max_gripper_lag),
        image_noise=level.image_noise,
    )


def _spread(level: Randomization, rng: np.random.Generator, width: float, shape: int | tuple[int, ...]) -> Array:
    """Numbers between -width and width, none nearer to 0 than `level.beyond` of it."""
    drawn = rng.uniform(-width, width, shape)
    return np.sign(drawn) * (level.beyond * width + (1.0 - level.beyond) * np.abs(drawn))


def _draw_surfaces(
    level: Randomization, model: mujoco.MjModel, colours: Array, rng: np.random.Generator
) -> dict[str, Array]:
    colours = colours.copy()
    objects = model.geom_group == OBJECT_GROUP
    colours[objects, :3] += _spread(level, rng, level.colour, (int(objects.sum()), 3))
    materials = model.mat_rgba.copy()
    materials[:, :3] += _spread(level, rng, level.table_colour, 3)
    material_of_geom = model.geom_matid.copy()
    if level.table_materials:
        choice = TABLE_MATERIAL.format(int(rng.integers(NUM_TABLE_MATERIALS)))
        material_of_geom[model.geom("table").id] = model.material(choice).id
    return {
        "geom_rgba": np.clip(colours, 0.0, 1.0),
        "mat_rgba": np.clip(materials, 0.0, 1.3),
        "geom_matid": material_of_geom,
    }


def _draw_lights(level: Randomization, model: mujoco.MjModel, rng: np.random.Generator) -> dict[str, Array]:
    brightness = 1.0 + _spread(level, rng, level.light_intensity, (model.nlight, 1))
    turn = _spread(level, rng, level.light_direction, (model.nlight, 3))
    direction = model.light_dir + np.cross(turn, model.light_dir)
    return {
        "light_diffuse": model.light_diffuse * brightness,
        "light_dir": direction / np.linalg.norm(direction, axis=1, keepdims=True),
    }


def _draw_cameras(level: Randomization, model: mujoco.MjModel, rng: np.random.Generator) -> dict[str, Array]:
    quat = model.cam_quat.copy()
    for camera in range(model.ncam):
        turn = np.zeros(4)
        angles = _spread(level, rng, level.camera_angle, 3)
        mujoco.mju_euler2Quat(turn, angles, "xyz")
        mujoco.mju_mulQuat(quat[camera], model.cam_quat[camera], turn)
    shift = _spread(level, rng, level.camera_position, (model.ncam, 3))
    fovy = model.cam_fovy * (1.0 + _spread(level, rng, level.camera_fovy, model.ncam))
    return {"cam_quat": quat, "cam_pos": model.cam_pos + shift, "cam_fovy": fovy}


def _draw_bodies(level: Randomization, model: mujoco.MjModel, rng: np.random.Generator) -> dict[str, Array]:
    # Objects are what hangs on a free joint; some of their geoms are felt but not drawn, so the group does not tell.
    is_free = np.zeros(model.nbody, dtype=bool)
    is_free[model.jnt_bodyid[model.jnt_type == mujoco.mjtJoint.mjJNT_FREE]] = True
    is_object = is_free[model.body_rootid]
    objects = is_object[model.geom_bodyid]
    scale = np.where(is_object, 1.0 + _spread(level, rng, level.mass, model.nbody), 1.0)
    friction = model.geom_friction.copy()
    friction[objects, 0] *= 1.0 + _spread(level, rng, level.friction, int(objects.sum()))
    return {
        "body_mass": model.body_mass * scale,
        "body_inertia": model.body_inertia * scale[:, None],
        "geom_friction": friction,
    }
