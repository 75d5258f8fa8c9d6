"""A picture of each task for the documentation: the expert at work, and what the policy sees at that moment.

The policy's images are drawn without shadows, for speed; here a copy of the cell gets shadows, finer shapes and a sky.
"""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import NoReturn

import mujoco
import numpy as np
import tyro
from PIL import Image as Picture

from piper_twin.camera_renderer import CameraRenderer
from piper_twin.cell import empty_cell
from piper_twin.compiled_task import STATE
from piper_twin.episode import Episode
from piper_twin.exit_codes import exit_after
from piper_twin.expert import commands
from piper_twin.robot import DEG, DUAL_PIPER
from piper_twin.task import Readings
from piper_twin.tasks import find_task
from piper_twin.worlds import TwinConfig, World, WorldBatch
from vla_policy.embodiment import Camera
from vla_policy.errors import VlaError
from vla_policy.types import Image

MOMENTS: dict[str, tuple[int, float]] = {
    "click_bell": (0, 0.66),
    "place_empty_cup": (3, 0.58),
    "pick_bottle": (4, 0.75),
    "stack_bowls": (7, 0.58),
    "move_can_pot": (0, 0.55),
    "handover_mic": (0, 0.62),
    "handover_block": (0, 0.50),
    "blocks_rank_rgb": (2, 0.955),
    "put_bottles_dustbin": (0, 0.30),
    "blocks_stack": (0, 0.96),
    "shoe_place": (0, 0.60),
    "place_a2b_left": (1, 0.76),
    "place_a2b_right": (2, 0.76),
    "beat_hammer_block": (1, 0.72),
    "pick_dual_bottles": (0, 0.75),
    "lift_pot": (0, 0.85),
    "place_phone_stand": (0, 0.76),
}
"""Task to seed (split "demonstration") and share of the expert's plan."""

_POSITION = (1.22, -0.40, 0.72)
_TARGET = (0.20, 0.0, 0.085)
"""Where the camera stands and what it looks at [m]."""
_FOVY = 43 * DEG
_OVERSAMPLING = 2
"""Pixels drawn per pixel shown, in each direction: works without multisampling buffers."""
_MARGIN = 8
"""Around each inset [px]."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class PortraitConfig:
    """Which pictures to draw."""

    out: Path
    """Folder for `<task>.png`; made when missing."""
    tasks: tuple[str, ...] = tuple(MOMENTS)
    """Names of tasks."""
    width: int = 640
    """[px]."""
    height: int = 480
    """[px]."""

    def __post_init__(self) -> None:
        """Refuse sizes into which the three insets do not fit."""
        inset = DUAL_PIPER.cameras[0].height
        if min(self.width, self.height) < 2 * inset:
            raise VlaError(
                f"a picture of {self.width}x{self.height} px is too small; take at least {2 * inset} px a side"
            )


def draw_portraits(config: PortraitConfig) -> list[Path]:
    """Write one picture a task.

    Returns:
        The files.

    Raises:
        VlaError: a task does not exist, or off-screen OpenGL does not start.
    """
    for name in config.tasks:
        find_task(name)
    config.out.mkdir(parents=True, exist_ok=True)
    files = []
    for name in config.tasks:
        worlds = WorldBatch(1, TwinConfig())
        _play(worlds, name)
        seen = np.empty((len(DUAL_PIPER.cameras), worlds.image_size, worlds.image_size, 3), dtype=np.uint8)
        worlds.images([0], [seen])
        picture = _draw(worlds.world(0), config.width, config.height)
        worlds.close()
        _inset(picture, seen)
        files.append(config.out / f"{name}.png")
        Picture.fromarray(picture).save(files[-1], optimize=True)
    return files


def _play(worlds: WorldBatch, name: str) -> None:
    """Let the expert work until the moment of the picture."""
    seed, share = MOMENTS.get(name, (0, 0.5))
    worlds.reset([0], [Episode(name, seed, "demonstration")])
    world = worlds.world(0)
    plan = commands(world.compiled.task.plan(Readings(world.compiled.layout, world.start)), world.command)
    worlds.step_chunk([0], plan[None, : max(1, int(share * len(plan)))])


def _draw(world: World, width: int, height: int) -> Image:
    """The world from a visitor's place (height, width, 3)."""
    camera = Camera(name="visitor", height=_OVERSAMPLING * height, width=_OVERSAMPLING * width, fovy=_FOVY)
    spec = empty_cell()
    world.compiled.task.add_objects(spec)
    _beautify(spec)
    _add_visitor(spec, camera)
    model = spec.compile()
    model.geom_rgba[: world.model.ngeom] = world.model.geom_rgba
    data = mujoco.MjData(model)
    mujoco.mj_setState(model, data, world.state, STATE)
    mujoco.mj_forward(model, data)
    renderer = CameraRenderer(model, camera.width, camera.height)
    renderer.draw(model, data, (camera,))
    fine = renderer.take()[0]
    renderer.close()
    blocks = fine.reshape(height, _OVERSAMPLING, width, _OVERSAMPLING, 3)
    return blocks.mean(axis=(1, 3)).round().astype(np.uint8)


def _beautify(spec: mujoco.MjSpec) -> None:
    """Shadows, fine shapes, softer light, a sky."""
    quality = spec.visual.quality
    quality.shadowsize, quality.offsamples = 4096, 0
    quality.numslices, quality.numstacks, quality.numquads = 40, 20, 4
    spec.visual.map.shadowclip = 1.0
    spec.visual.headlight.ambient = (0.30, 0.30, 0.31)
    spec.visual.headlight.diffuse = (0.15, 0.15, 0.15)
    key = next(light for light in spec.lights if light.name == "key")
    key.castshadow = True
    spec.add_texture(
        name="sky", type=mujoco.mjtTexture.mjTEXTURE_SKYBOX, builtin=mujoco.mjtBuiltin.mjBUILTIN_GRADIENT,
        rgb1=(0.86, 0.89, 0.93), rgb2=(0.55, 0.60, 0.66), width=64, height=64,
    )  # fmt: skip


def _add_visitor(spec: mujoco.MjSpec, camera: Camera) -> None:
    backward = np.subtract(_POSITION, _TARGET)
    right = np.cross((0.0, 0.0, 1.0), backward)
    up = np.cross(backward, right)
    axes = np.concatenate([right / np.linalg.norm(right), up / np.linalg.norm(up)])
    spec.worldbody.add_camera(name=camera.name, pos=_POSITION, fovy=math.degrees(camera.fovy), xyaxes=axes)


def _inset(picture: Image, images: Image) -> None:
    """Put the policy's images in a row at the bottom: head, left wrist, right wrist."""
    count, size = len(images), images.shape[1]
    while count * (size + _MARGIN) + _MARGIN > picture.shape[1]:
        images, size = images[:, ::2, ::2], size // 2
    top = picture.shape[0] - size - _MARGIN
    for number, image in enumerate(images):
        left = picture.shape[1] - (count - number) * (size + _MARGIN)
        picture[top - 2 : top + size + 2, left - 2 : left + size + 2] = 255
        picture[top : top + size, left : left + size] = image


def main() -> NoReturn:
    """Draw the pictures the command line asks for."""
    exit_after(lambda: print(*draw_portraits(tyro.cli(PortraitConfig)), sep="\n"))


if __name__ == "__main__":
    main()
