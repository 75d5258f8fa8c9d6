"""Images of LIBERO's two cameras: as the benchmark draws them, or without what a small image cannot show."""

from __future__ import annotations

import math

import mujoco
import numpy as np
import numpy.typing as npt

from piper_twin.camera_renderer import make_current
from vla_policy.types import Image
from vla_rl_trainer.libero.protocol import resized, turned_half

MAX_GEOMS = 1000
_HIDDEN = 5
"""A group of geoms that is not drawn."""
_MARGIN = 1e-3
"""What is this near to the edge of a view is drawn [m]."""


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
        self._groups = model.geom_group.copy()
        # A mirror shows, and a shadow tells of, what is beside the view.
        self._culls = not reflections and not model.light_castshadow.any()
        self._turned = turned
        self._pixels = np.empty((size, size, 3), dtype=np.uint8)

    def draw(self, model: mujoco.MjModel, data: mujoco.MjData, out_CHW3: Image) -> None:
        """Draw every camera into `out_CHW3`, brought to its size; `data` must have its kinematics up to date."""
        make_current()
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN, self._drawing)
        for index, camera in enumerate(self._cameras):
            self._camera.fixedcamid = camera
            if self._culls:
                model.geom_group[:] = np.where(beside_view(model, data, camera), _HIDDEN, self._groups)
            mujoco.mjv_updateScene(  # anew for each camera: the headlight moves with it
                model, data, self._option, None, self._camera, mujoco.mjtCatBit.mjCAT_ALL.value, self._scene
            )
            mujoco.mjr_render(self._viewport, self._scene, self._drawing)
            mujoco.mjr_readPixels(self._pixels, None, self._viewport, self._drawing)
            image = turned_half(self._pixels) if self._turned else self._pixels
            out_CHW3[index] = resized(image, out_CHW3.shape[1])
        model.geom_group[:] = self._groups

    def close(self) -> None:
        """Free what was uploaded."""
        make_current()
        self._drawing.free()


def beside_view(model: mujoco.MjModel, data: mujoco.MjData, camera: int) -> npt.NDArray[np.bool_]:
    """Which geoms (ngeom,) a camera with square images cannot show: the boxes around them are outside its view.

    Drawing in software transforms every vertex, of whatever is in the image or not, and the camera on the hand sees
    little of the arm.
    """
    half = math.radians(model.cam_fovy[camera]) / 2.0
    c, s = math.cos(half), math.sin(half)
    # Of four planes through the camera, which looks along -z; they point out of its view.
    normals_43 = (
        np.array([[c, 0.0, s], [-c, 0.0, s], [0.0, c, s], [0.0, -c, s]]) @ data.cam_xmat[camera].reshape(3, 3).T
    )
    normals_G43 = normals_43 @ data.geom_xmat.reshape(-1, 3, 3)
    middles_G4 = (data.geom_xpos - data.cam_xpos[camera]) @ normals_43.T
    middles_G4 += (normals_G43 @ model.geom_aabb[:, :3, None])[..., 0]
    reach_G4 = (np.abs(normals_G43) @ model.geom_aabb[:, 3:, None])[..., 0]
    is_bounded = model.geom_rbound > 0.0  # a plane is not
    return is_bounded & (middles_G4 > reach_G4 + _MARGIN).any(axis=1)
