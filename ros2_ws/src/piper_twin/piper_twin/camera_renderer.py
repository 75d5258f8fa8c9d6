"""Off-screen images of many worlds with one OpenGL context a thread.

The settings that decide speed stand in `cell.py`: no shadows, no multisampling, coarse tessellation. The scene is
built once an observation and drawn once a camera. Images are laid on a sheet and read back together: every reading
waits for the device and, where several processes draw on one GPU, for its turn. Each is drawn in the same place and
copied there, because elsewhere in a buffer the edges round otherwise.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import mujoco
import numpy as np

from vla_policy.embodiment import Camera
from vla_policy.errors import VlaError
from vla_policy.types import Image

MAX_GEOMS = 400
MAX_HEIGHT = 4096
"""Of a sheet [px]: every OpenGL 3 has twice as much."""

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
        self._whole = mujoco.MjrRect(0, 0, width, height)
        self._sheet = Sheet(width, height, MAX_HEIGHT // height)
        self._scene = mujoco.MjvScene(model, maxgeom=MAX_GEOMS)
        self._option = mujoco.MjvOption()
        self._option.geomgroup[3:] = 0
        self._camera = mujoco.MjvCamera()
        self._camera.type = mujoco.mjtCamera.mjCAMERA_FIXED

    @property
    def capacity(self) -> int:
        """Images that can be drawn before they are taken."""
        return self._sheet.capacity

    def draw(self, model: mujoco.MjModel, data: mujoco.MjData, cameras: Sequence[Camera]) -> None:
        """Draw every camera of one world, to be taken later; there must be room for as many images.

        Args:
            model: The world's own copy of the model.
            data: Its kinematics must be up to date.
            cameras: To draw, in this order.
        """
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN, self._drawing)
        self._camera.fixedcamid = model.camera(cameras[0].name).id
        mujoco.mjv_updateScene(
            model, data, self._option, None, self._camera, mujoco.mjtCatBit.mjCAT_ALL.value, self._scene
        )
        for camera in cameras:
            self._camera.fixedcamid = model.camera(camera.name).id
            mujoco.mjv_updateCamera(model, data, self._camera, self._scene)
            mujoco.mjr_render(self._whole, self._scene, self._drawing)
            self._sheet.lay(self._drawing.offFBO)

    def take(self) -> Image:
        """Every image drawn since the last call, in order (N, height, width, 3); nobody else writes to them."""
        return self._sheet.take()

    def close(self) -> None:
        """Free what was uploaded."""
        make_current()
        self._sheet.free()
        self._drawing.free()


class Sheet:
    """A texture that holds images one above the other until they are read back."""

    def __init__(self, width: int, height: int, capacity: int) -> None:
        """Of images of one size; at least one fits."""
        from OpenGL import GL as gl  # noqa: N811  loads the library, which may be missing where nothing is drawn

        self._gl: Any = gl
        self.capacity = max(1, capacity)
        self._width, self._height, self._num_laid = width, height, 0
        self._texture, self._frame = gl.glGenTextures(1), gl.glGenFramebuffers(1)
        gl.glBindTexture(gl.GL_TEXTURE_2D, self._texture)
        size = (width, height * self.capacity)
        gl.glTexImage2D(gl.GL_TEXTURE_2D, 0, gl.GL_RGB8, *size, 0, gl.GL_RGB, gl.GL_UNSIGNED_BYTE, None)
        gl.glBindFramebuffer(gl.GL_READ_FRAMEBUFFER, self._frame)
        gl.glFramebufferTexture2D(gl.GL_READ_FRAMEBUFFER, gl.GL_COLOR_ATTACHMENT0, gl.GL_TEXTURE_2D, self._texture, 0)

    def lay(self, frame: int) -> None:
        """Copy what was drawn into a frame buffer onto the next free place."""
        assert self._num_laid < self.capacity, "take what was drawn first"
        gl = self._gl
        gl.glBindFramebuffer(gl.GL_READ_FRAMEBUFFER, frame)
        gl.glBindTexture(gl.GL_TEXTURE_2D, self._texture)
        place = (0, self._num_laid * self._height)
        gl.glCopyTexSubImage2D(gl.GL_TEXTURE_2D, 0, *place, 0, 0, self._width, self._height)
        self._num_laid += 1

    def take(self) -> Image:
        """See `CameraRenderer`."""
        gl = self._gl
        pixels = np.empty((self._num_laid, self._height, self._width, 3), dtype=np.uint8)
        gl.glBindFramebuffer(gl.GL_READ_FRAMEBUFFER, self._frame)
        gl.glPixelStorei(gl.GL_PACK_ALIGNMENT, 1)
        size = (self._width, self._num_laid * self._height)
        gl.glReadPixels(0, 0, *size, gl.GL_RGB, gl.GL_UNSIGNED_BYTE, pixels)
        self._num_laid = 0
        return pixels[:, ::-1]  # OpenGL counts rows from below

    def free(self) -> None:
        """Give the memory back."""
        self._gl.glDeleteFramebuffers(1, [self._frame])
        self._gl.glDeleteTextures([self._texture])
