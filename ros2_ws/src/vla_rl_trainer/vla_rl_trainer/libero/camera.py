"""Images of LIBERO's two cameras: as the benchmark draws them, or without what a small image cannot show."""

from __future__ import annotations

import mujoco
import numpy as np

from piper_twin.camera_renderer import make_current
from vla_policy.types import Image
from vla_rl_trainer.libero.protocol import resized, turned_half

MAX_GEOMS = 1000


class LiberoCameras:
    """Draws one model; it belongs to the thread that makes it."""

    def __init__(
        self, model: mujoco.MjModel, cameras: tuple[int, ...], size: int, *, reflections: bool, turned: bool = True
    ) -> None:
        """Upload `model`.

        Args:
            model: Its looks are read anew for every image, its meshes and textures only here.
            cameras: Numbers of the cameras, in the order of the images.
            size: Side of what is drawn [px].
            turned: Whether images are turned by half a circle; otherwise OpenGL's rows, bottom first.
            reflections: Whether shiny surfaces mirror, as the benchmark's own renderer has it.

        Raises:
            VlaError: OpenGL cannot be started here.
        """
        make_current()
        self._drawing = mujoco.MjrContext(model, mujoco.mjtFontScale.mjFONTSCALE_50)
        mujoco.mjr_resizeOffscreen(size, size, self._drawing)
        self._viewport = mujoco.MjrRect(0, 0, size, size)
        self._scene = mujoco.MjvScene(model, maxgeom=MAX_GEOMS)
        self._scene.flags[mujoco.mjtRndFlag.mjRND_REFLECTION] = reflections
        self._option = mujoco.MjvOption()
        self._option.geomgroup[0] = 0  # what collides
        self._camera = mujoco.MjvCamera()
        self._camera.type = mujoco.mjtCamera.mjCAMERA_FIXED
        self._cameras = cameras
        self._turned = turned
        self._pixels = np.empty((size, size, 3), dtype=np.uint8)

    def draw(self, model: mujoco.MjModel, data: mujoco.MjData, out_CHW3: Image) -> None:
        """Draw every camera into `out_CHW3`, brought to its size; `data` must have its kinematics up to date."""
        make_current()
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN, self._drawing)
        for index, camera in enumerate(self._cameras):
            self._camera.fixedcamid = camera
            mujoco.mjv_updateScene(  # anew for each camera: the headlight moves with it
                model, data, self._option, None, self._camera, mujoco.mjtCatBit.mjCAT_ALL.value, self._scene
            )
            mujoco.mjr_render(self._viewport, self._scene, self._drawing)
            mujoco.mjr_readPixels(self._pixels, None, self._viewport, self._drawing)
            image = turned_half(self._pixels) if self._turned else self._pixels
            out_CHW3[index] = resized(image, out_CHW3.shape[1])

    def close(self) -> None:
        """Free what was uploaded."""
        make_current()
        self._drawing.free()
