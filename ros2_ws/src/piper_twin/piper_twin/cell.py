"""The work cell: a table, two Pipers, a head camera and light.

World frame: origin between the bases on the table top, x forward, y to the left, z up [m].
"""

from __future__ import annotations

import math

import mujoco

from piper_twin.arm import VISUAL_GROUP, add_arm
from piper_twin.robot import ARM_SPACING, ARMS, HEAD_FOVY

TIMESTEP = 0.004
"""[s]: ten steps a control period."""
TABLE_HALF_SIZE = (0.45, 0.65, 0.02)
TABLE_CENTRE = (0.30, 0.0, -0.02)

HEAD_POSITION = (-0.06, 0.0, 0.98)
HEAD_TARGET = (0.31, 0.0, 0.0)

TEXTURE_SIZE = 64
"""[px]; textures are procedural and small, so that a model costs little memory."""

TABLE_MATERIAL = "table{}"
"""Name of the table materials, numbered from 0."""

_FLAT, _CHECKER, _GRADIENT = (
    mujoco.mjtBuiltin.mjBUILTIN_FLAT,
    mujoco.mjtBuiltin.mjBUILTIN_CHECKER,
    mujoco.mjtBuiltin.mjBUILTIN_GRADIENT,
)
_TABLE_LOOKS = (
    ((0.74, 0.64, 0.52), (0.69, 0.59, 0.47), _FLAT),
    ((0.83, 0.83, 0.81), (0.78, 0.78, 0.77), _FLAT),
    ((0.45, 0.33, 0.24), (0.39, 0.28, 0.20), _GRADIENT),
    ((0.56, 0.60, 0.63), (0.50, 0.54, 0.58), _CHECKER),
    ((0.35, 0.42, 0.38), (0.31, 0.38, 0.34), _FLAT),
)
"""Colour, fleck colour and pattern of each table top; wood first."""
NUM_TABLE_MATERIALS = len(_TABLE_LOOKS)


def empty_cell() -> mujoco.MjSpec:
    """Table, arms, cameras and lights without any object; a task adds its own."""
    spec = mujoco.MjSpec()
    spec.modelname = "dual_piper_cell"
    spec.compiler.degree = False
    spec.compiler.autolimits = True
    _set_options(spec)
    _add_surroundings(spec)
    for index, arm in enumerate(ARMS):
        add_arm(spec, arm, (0.0, (0.5 - index) * ARM_SPACING, 0.0))
    _add_head_camera(spec)
    return spec


def _set_options(spec: mujoco.MjSpec) -> None:
    spec.option.timestep = TIMESTEP
    spec.option.integrator = mujoco.mjtIntegrator.mjINT_IMPLICITFAST
    spec.option.cone = mujoco.mjtCone.mjCONE_ELLIPTIC
    spec.option.impratio = 10.0
    spec.option.iterations = 30
    # Shadows and multisampling dominate software rendering (10 against 412 frames/s), fine tessellation comes next.
    quality = spec.visual.quality
    quality.shadowsize, quality.offsamples = 0, 0
    quality.numslices, quality.numstacks, quality.numquads = 12, 4, 1
    spec.visual.headlight.ambient = (0.35, 0.35, 0.35)
    spec.visual.headlight.diffuse = (0.25, 0.25, 0.25)
    spec.visual.headlight.specular = (0.0, 0.0, 0.0)
    # Multiples of the model's extent: near enough for a wrist camera, far enough for the head camera.
    spec.stat.extent = 1.0
    spec.stat.center = (0.3, 0.0, 0.2)
    spec.visual.map.znear, spec.visual.map.zfar = 0.01, 5.0


def _add_surroundings(spec: mujoco.MjSpec) -> None:
    for index, (colour, fleck, builtin) in enumerate(_TABLE_LOOKS):
        _add_table_material(spec, TABLE_MATERIAL.format(index), colour, fleck, builtin)
    world = spec.worldbody
    world.add_geom(
        name="table", type=mujoco.mjtGeom.mjGEOM_BOX, size=TABLE_HALF_SIZE, pos=TABLE_CENTRE,
        material=TABLE_MATERIAL.format(0), contype=1, conaffinity=3, friction=(0.8, 0.01, 0.001), group=1,
    )  # fmt: skip
    world.add_geom(
        name="floor", type=mujoco.mjtGeom.mjGEOM_BOX, size=(3, 3, 0.01), pos=(0, 0, -0.75),  # a plane draws slower
        rgba=(0.55, 0.57, 0.60, 1.0), contype=0, conaffinity=0, group=VISUAL_GROUP,
    )  # fmt: skip
    world.add_light(
        name="key", pos=(0.2, 0.6, 1.6), dir=(0.05, -0.35, -0.93), diffuse=(0.55, 0.55, 0.53), castshadow=False,
        type=mujoco.mjtLightType.mjLIGHT_DIRECTIONAL,
    )  # fmt: skip
    world.add_light(
        name="fill", pos=(0.6, -0.8, 1.2), dir=(-0.4, 0.5, -0.76), diffuse=(0.25, 0.25, 0.28), castshadow=False,
        type=mujoco.mjtLightType.mjLIGHT_DIRECTIONAL,
    )  # fmt: skip


def _add_table_material(
    spec: mujoco.MjSpec, name: str, colour: tuple[float, ...], fleck: tuple[float, ...], builtin: mujoco.mjtBuiltin
) -> None:
    spec.add_texture(
        name=name, type=mujoco.mjtTexture.mjTEXTURE_2D, builtin=builtin, rgb1=colour, rgb2=fleck, random=0.15,
        mark=mujoco.mjtMark.mjMARK_RANDOM, markrgb=fleck, width=TEXTURE_SIZE, height=TEXTURE_SIZE,
    )  # fmt: skip
    material = spec.add_material(name=name, texrepeat=(3, 4), texuniform=False, specular=0.1, shininess=0.1)
    material.textures[mujoco.mjtTextureRole.mjTEXROLE_RGB] = name


def _add_head_camera(spec: mujoco.MjSpec) -> None:
    forward, down = HEAD_TARGET[0] - HEAD_POSITION[0], HEAD_POSITION[2] - HEAD_TARGET[2]
    length = math.hypot(forward, down)
    spec.worldbody.add_camera(
        name="head",
        pos=HEAD_POSITION,
        fovy=math.degrees(HEAD_FOVY),
        xyaxes=(0, -1, 0, down / length, 0, forward / length),
    )
