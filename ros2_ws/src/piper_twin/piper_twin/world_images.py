"""What the cameras of many worlds see: drawn task by task, read back as many at a time as a sheet holds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import mujoco

from piper_twin.camera_renderer import CameraRenderer, make_current
from piper_twin.compiled_task import STATE, compiled_task
from piper_twin.pixels import add_noise, average_down
from piper_twin.robot import DUAL_PIPER
from vla_policy.types import Image

if TYPE_CHECKING:
    from piper_twin.worlds import World

CAMERA_SIZE = DUAL_PIPER.cameras[0].height
"""Side of the images as the cameras take them [px]."""


class WorldImages:
    """The images of one process's worlds; a renderer a task, made when it is first needed."""

    def __init__(self, image_size: int) -> None:
        """Images are averaged down to `image_size` [px]."""
        self._size = image_size
        self._renderers: dict[str, CameraRenderer] = {}

    def draw(self, worlds: Sequence[World], out: Sequence[Image] | Image) -> None:
        """Camera images of each world, noise included, into its entry of `out` (cameras, size, size, 3)."""
        make_current()
        for task in dict.fromkeys(world.episode.task for world in worlds):
            rows = [row for row, world in enumerate(worlds) if world.episode.task == task]
            renderer = self._renderer(task)
            at_once = renderer.capacity // len(DUAL_PIPER.cameras)
            for first in range(0, len(rows), at_once):
                part = rows[first : first + at_once]
                for row in part:
                    _draw(worlds[row], renderer)
                frames = renderer.take().reshape(len(part), len(DUAL_PIPER.cameras), CAMERA_SIZE, CAMERA_SIZE, 3)
                for row, frame in zip(part, frames, strict=True):
                    out[row][:] = self._seen(worlds[row], frame)

    def _renderer(self, task: str) -> CameraRenderer:
        if task not in self._renderers:
            self._renderers[task] = CameraRenderer(compiled_task(task).model, CAMERA_SIZE, CAMERA_SIZE)
        return self._renderers[task]

    def _seen(self, world: World, frame: Image) -> Image:
        """What the policy gets of what was drawn."""
        deviation = world.variation.image_noise
        if deviation > 0.0:
            frame = add_noise(frame, deviation, world.image_rng)
        return average_down(frame, self._size)

    def close(self) -> None:
        """Free what was uploaded to OpenGL."""
        for renderer in self._renderers.values():
            renderer.close()


def _draw(world: World, renderer: CameraRenderer) -> None:
    data = world.compiled.data
    mujoco.mj_setState(world.model, data, world.state, STATE)
    mujoco.mj_kinematics(world.model, data)
    mujoco.mj_camlight(world.model, data)
    renderer.draw(world.model, data, DUAL_PIPER.cameras)
