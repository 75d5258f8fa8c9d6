"""What every camera of every world sees, drawn where the worlds are, without OpenGL."""

from __future__ import annotations

from typing import Any

import mujoco
import mujoco_warp
import numpy as np
import numpy.typing as npt
import warp as wp
from torch import Tensor

from piper_twin.arm import CONTACT_GROUP
from piper_twin.mjwarp.lane import Lane
from piper_twin.mjwarp.physics import Physics
from piper_twin.mjwarp.shading import Cameras, Looks, Shapes, draw
from piper_twin.robot import DUAL_PIPER
from vla_policy.errors import VlaError

DRAWN = frozenset(
    int(kind)
    for kind in (
        mujoco.mjtGeom.mjGEOM_BOX,
        mujoco.mjtGeom.mjGEOM_SPHERE,
        mujoco.mjtGeom.mjGEOM_CAPSULE,
        mujoco.mjtGeom.mjGEOM_CYLINDER,
        mujoco.mjtGeom.mjGEOM_ELLIPSOID,
        mujoco.mjtGeom.mjGEOM_MESH,
        mujoco.mjtGeom.mjGEOM_PLANE,
    )
)
"""Shapes that look here as in OpenGL."""
SHARP = 0.8
"""Cosine of the angle from which on MuJoCo draws an edge of a mesh as one (`mjr_uploadMesh`)."""


THREADS = 128
"""A block that draws: 256 take 59 ms for 2,048 worlds on an H200, 128 take 53, 64 take 54."""


class Renderer:
    """Draws the worlds of one `Physics` as they stand."""

    def __init__(self, physics: Physics, lane: Lane) -> None:
        """Upload meshes and textures.

        Raises:
            VlaError: the task has something that cannot be drawn.
        """
        mjm = physics.compiled.model
        require_drawable(mjm, physics.compiled.task.name)
        self._physics, self._lane = physics, lane
        self._size = DUAL_PIPER.cameras[0].height
        num_cameras = len(DUAL_PIPER.cameras)
        with lane.entered():
            self._context = mujoco_warp.create_render_context(
                mjm,
                physics.num_rows,
                (self._size, self._size),
                render_rgb=False,  # its own pictures are not used, see `shading`
                render_depth=False,
                render_seg=False,
                enabled_geom_groups=list(range(CONTACT_GROUP)),
                use_precomputed_rays=False,  # fields of view differ
            )
            self._images = wp.zeros((physics.num_rows, num_cameras, self._size**2, 3), dtype=wp.uint8)
            self._is_wanted = wp.zeros(physics.num_rows, dtype=bool)
            self._scene = _shapes(physics, self._context), _looks(physics), _cameras(physics, self._context)
        self._draw = None

    def render(self, rows: Tensor, without_B: Tensor | None = None) -> Tensor:
        """Images of some rows (len(rows), cameras, H, W, 3), RGB bytes; a copy that nobody else writes to.

        Those that are also in `without_B` (all rows, bool) are not drawn anew: whatever was there is handed out.
        """
        with self._lane.entered():
            wanted = wp.to_torch(self._is_wanted)
            wanted.zero_()
            wanted.index_fill_(0, rows, True)  # `wanted[rows] = True` would wait for the device
            if without_B is not None:
                wanted &= ~without_B
            if self._draw is None:
                self._draw = self._lane.record(self._work)
            self._draw()
            return wp.to_torch(self._images)[rows].unflatten(2, (self._size, self._size))

    def _work(self) -> None:
        model, data = self._physics.model, self._physics.data
        mujoco_warp.kinematics(model, data)
        mujoco_warp.camlight(model, data)
        mujoco_warp.refit_bvh(model, data, self._context)
        wp.launch(
            draw,
            dim=(data.nworld, len(DUAL_PIPER.cameras), self._size**2),
            inputs=[*self._scene, self._context.textures, self._is_wanted],
            outputs=[self._images],
            block_dim=THREADS,
        )


def require_drawable(mjm: mujoco.MjModel, task: str) -> None:
    """Refuse what would look other than in OpenGL, or not at all.

    Raises:
        VlaError: names it.
    """
    shown = np.flatnonzero(mjm.geom_group < CONTACT_GROUP)
    for geom in shown:
        if int(mjm.geom_type[geom]) not in DRAWN:
            kind = mujoco.mjtGeom(int(mjm.geom_type[geom])).name.removeprefix("mjGEOM_").lower()
            raise VlaError(_cannot_draw(f"shapes of the kind {kind} ({mjm.geom(geom).name or geom})", task))
        textured = mjm.geom_matid[geom] >= 0 and mjm.mat_texid[mjm.geom_matid[geom]].max() >= 0
        if textured and mjm.geom_type[geom] != mujoco.mjtGeom.mjGEOM_BOX:
            raise VlaError(_cannot_draw(f"textures on anything but boxes ({mjm.geom(geom).name or geom})", task))
        if mjm.geom_rgba[geom, 3] < 1.0:
            raise VlaError(_cannot_draw(f"transparent shapes ({mjm.geom(geom).name or geom})", task))
    if mjm.nflex or mjm.nskin:
        raise VlaError(_cannot_draw("soft bodies", task))
    if (mjm.light_type != mujoco.mjtLightType.mjLIGHT_DIRECTIONAL).any() or mjm.light_castshadow.any():
        raise VlaError(_cannot_draw("lights that are not directional, or cast shadows", task))


def _cannot_draw(what: str, task: str) -> str:
    return f"the batch renderer cannot draw {what}, which {task} has; choose --backend mujoco for it"


def _shapes(physics: Physics, context: mujoco_warp.RenderContext) -> Any:
    return _filled(Shapes(), physics.model, physics.data, context)


def _looks(physics: Physics) -> Any:
    mjm, looks = physics.compiled.model, Looks()
    looks.mat_specular = wp.array(mjm.mat_specular, dtype=float)
    looks.mat_shininess = wp.array(mjm.mat_shininess, dtype=float)
    corners, normals = _triangles(mjm)
    looks.face_corners, looks.face_normals = wp.array(corners, dtype=wp.vec3), wp.array(normals, dtype=wp.vec3)
    looks.light_specular = wp.array(mjm.light_specular, dtype=wp.vec3)
    looks.light_diffuse = physics.light_diffuse
    looks.head_ambient = wp.vec3(*(float(value) for value in mjm.vis.headlight.ambient))
    looks.head_diffuse = wp.vec3(*(float(value) for value in mjm.vis.headlight.diffuse))
    looks.head_camera = int(mjm.camera(DUAL_PIPER.cameras[0].name).id)
    return _filled(looks, physics.model, physics.data)


def _triangles(mjm: mujoco.MjModel) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Corners of every mesh's triangles, and normals there, (faces, 3, 3): a triangle's own where others lean away."""
    mesh = np.repeat(np.arange(mjm.nmesh), mjm.mesh_facenum)
    corners = mjm.mesh_vert[mjm.mesh_face + mjm.mesh_vertadr[mesh, None]]
    smooth = mjm.mesh_normal[mjm.mesh_facenormal + mjm.mesh_normaladr[mesh, None]]
    flat = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    flat /= np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-12)
    leans = np.einsum("fcx,fx->fc", smooth, flat) < SHARP
    return corners, np.where(leans[..., None], flat[:, None], smooth)


def _cameras(physics: Physics, context: mujoco_warp.RenderContext) -> Any:
    cameras, mjm = Cameras(), physics.compiled.model
    ids = [mjm.camera(camera.name).id for camera in DUAL_PIPER.cameras]
    cameras.numbers = wp.array(ids, dtype=int)
    cameras.size = DUAL_PIPER.cameras[0].height
    return _filled(cameras, physics.model, physics.data, context)


def _filled(struct: Any, *sources: Any) -> Any:
    """Set every member that one of `sources` has under the same name."""
    for name in type(struct).cls.__annotations__:
        for source in sources:
            if hasattr(source, name):
                setattr(struct, name, getattr(source, name))
    return struct
