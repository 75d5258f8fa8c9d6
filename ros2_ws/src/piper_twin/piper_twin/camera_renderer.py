"""Off-screen images of many worlds with one OpenGL context a thread.

The settings that decide speed stand in `cell.py`: no shadows, no multisampling, coarse tessellation. The scene is
built once an observation and drawn once a camera.
"""

from __future__ import annotations

import threading

import mujoco
import numpy as np

from vla_policy.embodiment import Camera
from vla_policy.errors import VlaError
from vla_policy.types import Image

MAX_GEOMS = 400


_OF_THIS_THREAD = threading.local()


def _context() -> mujoco.GLContext:
    """The thread's OpenGL context; images are drawn into buffers of their own, so its size does not matter."""
    if not hasattr(_OF_THIS_THREAD, "context"):
        _OF_THIS_THREAD.context = mujoco.GLContext(16, 16)
    return _OF_THIS_THREAD.context


def make_current() -> None:
    """Let OpenGL calls of this thread go to its context.

    Raises:
        VlaError: OpenGL cannot be started here.
    """
    try:
        _context().make_current()
    except Exception as error:  # MuJoCo raises whatever its backend does
        raise VlaError(
            f"off-screen OpenGL does not start ({error}); install it with apt-get install libosmesa6 (or libegl1), or "
            "choose another with MUJOCO_GL=osmesa or egl"
        ) from error


class CameraRenderer:
    """Draws one model's cameras; worlds that share the model's structure may differ in every visual field.

    It belongs to the thread that makes it.
    """

    def __init__(self, model: mujoco.MjModel, width: int, height: int) -> None:
        """Upload `model` to the thread's context.

        Raises:
            VlaError: OpenGL cannot be started here.
        """
        make_current()
        self._drawing = mujoco.MjrContext(model, mujoco.mjtFontScale.mjFONTSCALE_50)
        mujoco.mjr_resizeOffscreen(width, height, self._drawing)
        self._viewport = mujoco.MjrRect(0, 0, width, height)
        self._scene = mujoco.MjvScene(model, maxgeom=MAX_GEOMS)
        self._option = mujoco.MjvOption()
        self._option.geomgroup[3:] = 0
        self._camera = mujoco.MjvCamera()
        self._camera.type = mujoco.mjtCamera.mjCAMERA_FIXED
        self._pixels = np.empty((height, width, 3), dtype=np.uint8)

    def render(self, model: mujoco.MjModel, data: mujoco.MjData, cameras: tuple[Camera, ...], out_CHW3: Image) -> None:
        """Draw every camera of one world into `out_CHW3`.

        Args:
            model: The world's own copy of the model.
            data: Its kinematics must be up to date.
            cameras: To draw, in this order.
            out_CHW3: Filled.
        """
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN, self._drawing)
        self._camera.fixedcamid = model.camera(cameras[0].name).id
        mujoco.mjv_updateScene(
            model, data, self._option, None, self._camera, mujoco.mjtCatBit.mjCAT_ALL.value, self._scene
        )
        for index, camera in enumerate(cameras):
            self._camera.fixedcamid = model.camera(camera.name).id
            mujoco.mjv_updateCamera(model, data, self._camera, self._scene)
            mujoco.mjr_render(self._viewport, self._scene, self._drawing)
            mujoco.mjr_readPixels(self._pixels, None, self._viewport, self._drawing)
            out_CHW3[index] = self._pixels[::-1]

    def close(self) -> None:
        """Free what was uploaded."""
        make_current()
        self._drawing.free()
