"""LIBERO's worlds a little other than a policy was trained on: the camera, the light, or where the arm starts.

The ranges of camera and arm are those of LIBERO-plus (arXiv:2510.13626), read off the names of its tasks and the poses
in its repository (sylvestf/LIBERO-plus at 4976dc3): only the camera that looks at the scene is moved, in one of three
ways; the arm's joints start away from home by a vector of 0.1, 0.2 or 0.3 rad in a random direction. Its lights are
scene files outside its repository, so the ranges of light are our own. What an episode draws depends on the episode
alone, and each part has a random stream of its own: "all" is the three of them together.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Literal, get_args

import mujoco
import numpy as np
import numpy.typing as npt

from piper_twin.episode import Episode

Array = npt.NDArray[np.float64]
Perturbation = Literal["none", "camera", "light", "pose", "all"]
PERTURBATIONS: tuple[str, ...] = get_args(Perturbation)

DISTANCES = (1.15, 2.0)
"""Of the camera from what it looks at, as a multiple of the usual one."""
AZIMUTH, ELEVATIONS = math.radians(75.0), (0.0, math.radians(15.0))
"""The camera goes round what it looks at by up to the one, and is lifted by one of the others [rad]."""
TURNS = math.radians(2.0), math.radians(10.0)
"""The camera looks past it by these about the vertical and up or down [rad]."""
LOOKS_AT = 1.04
"""How far ahead of the camera that is [m]: LIBERO-plus turns its camera about a point as far away."""
DISPLACEMENTS = (0.1, 0.2, 0.3)
"""Length of the vector that is added to the arm's seven joints [rad]."""
INTENSITY, TINT = (0.4, 1.6), (0.7, 1.3)
"""Factors of all lights, and of each of their colours."""
LIGHT_AZIMUTH, LIGHT_TILT = math.pi, math.radians(30.0)
"""Lights go round the scene by up to the one and are tipped by up to the other [rad]. They cast no shadows, as LIBERO's
do not."""

_UP = np.array([0.0, 0.0, 1.0])
_FIELDS = ("cam_pos", "cam_quat", "light_pos", "light_dir", "light_diffuse", "light_specular")
_HEADLIGHT = ("ambient", "diffuse", "specular")


def has(perturbation: Perturbation, part: str) -> bool:
    """Whether a level disturbs a part."""
    return perturbation in (part, "all")


@dataclasses.dataclass(frozen=True, slots=True)
class Looks:
    """What decides how a model is drawn, beside its shapes and colours."""

    fields: Mapping[str, Array]
    """Fields of the model by name."""
    headlight: Mapping[str, Array]
    """The light that goes with the camera."""

    @staticmethod
    def of(model: mujoco.MjModel) -> Looks:
        """A copy of the model's own."""
        light = model.vis.headlight
        return Looks(
            {name: np.array(getattr(model, name), dtype=np.float64) for name in _FIELDS},
            {name: np.array(getattr(light, name), dtype=np.float64) for name in _HEADLIGHT},
        )

    def put_on(self, model: mujoco.MjModel) -> None:
        """Let the model look so; nothing of its physics changes."""
        for name, value in self.fields.items():
            getattr(model, name)[:] = value
        for name, value in self.headlight.items():
            getattr(model.vis.headlight, name)[:] = value

    def disturbed(self, episode: Episode, perturbation: Perturbation, camera: int) -> Looks:
        """As the episode draws them.

        Args:
            episode: Whose random streams are used.
            perturbation: Says which parts are disturbed.
            camera: Number of the camera that looks at the scene.
        """
        fields, headlight = {name: value.copy() for name, value in self.fields.items()}, dict(self.headlight)
        position, rotation = self.fields["cam_pos"][camera], self.fields["cam_quat"][camera]
        centre = position + _turned(-LOOKS_AT * _UP, rotation)
        if has(perturbation, "camera"):
            moved = _moved_camera(episode.generator("perturbed camera"), position, rotation, centre)
            fields["cam_pos"][camera], fields["cam_quat"][camera] = moved
        if has(perturbation, "light"):
            rng = episode.generator("perturbed light")
            colour = rng.uniform(*INTENSITY) * rng.uniform(*TINT, 3)
            spin = _spin(_UP, rng.uniform(-LIGHT_AZIMUTH, LIGHT_AZIMUTH))
            tip = rng.uniform(-math.pi, math.pi)
            spin = _after(_spin(np.array([math.cos(tip), math.sin(tip), 0.0]), rng.uniform(0.0, LIGHT_TILT)), spin)
            fields["light_pos"] = np.array([centre + _turned(one - centre, spin) for one in fields["light_pos"]])
            fields["light_dir"] = np.array([_turned(one, spin) for one in fields["light_dir"]])
            for name in ("light_diffuse", "light_specular"):
                fields[name] = fields[name] * colour
            headlight = {name: value * colour for name, value in headlight.items()}
        return Looks(fields, headlight)


def _moved_camera(rng: np.random.Generator, position: Array, rotation: Array, centre: Array) -> tuple[Array, Array]:
    """Position and quaternion of a camera that is farther away, goes round `centre`, or looks past it."""
    offset = position - centre
    side = np.cross(offset, _UP)
    side /= np.linalg.norm(side)
    way = rng.integers(3)
    if way == 0:
        return centre + rng.uniform(*DISTANCES) * offset, rotation
    if way == 1:
        spin = _after(_spin(_UP, rng.uniform(-AZIMUTH, AZIMUTH)), _spin(side, rng.choice(ELEVATIONS)))
        return centre + _turned(offset, spin), _after(spin, rotation)
    about_up, about_side = rng.uniform(*TURNS, 2) * rng.choice([-1.0, 1.0], 2)
    return position, _after(_after(_spin(_UP, about_up), _spin(side, about_side)), rotation)


def displacement(rng: np.random.Generator, num_joints: int) -> Array:
    """What is added to the arm's joints [rad], shape (num_joints,)."""
    direction = rng.normal(size=num_joints)
    return rng.choice(DISPLACEMENTS) * direction / np.linalg.norm(direction)


def _spin(axis: Array, angle: float) -> Array:
    """Quaternion of a turn about an axis [rad]."""
    found = np.empty(4)
    mujoco.mju_axisAngle2Quat(found, axis, angle)
    return found


def _after(second: Array, first: Array) -> Array:
    """Quaternion of two turns, one after the other."""
    found = np.empty(4)
    mujoco.mju_mulQuat(found, second, first)
    return found


def _turned(vector: Array, quaternion: Array) -> Array:
    found = np.empty(3)
    mujoco.mju_rotVecQuat(found, vector, quaternion)
    return found
