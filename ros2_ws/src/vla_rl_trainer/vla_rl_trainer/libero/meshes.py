"""Fewer triangles and smaller textures for a model that is only looked at: drawing costs vertices, not pixels.

Software rendering of a stock LIBERO scene spends its time on a quarter of a million triangles that a 128 px image
cannot show. Meshes that collide are never touched: physics must not change.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import mujoco
import numpy as np
import numpy.typing as npt

from vla_policy.errors import VlaError

Array = npt.NDArray[np.float64]

MAX_FACES = 700
"""Triangles of one mesh: at 128 px half as far from the benchmark's images as what multisampling smooths."""
ARM_FACES = 400
"""Triangles of one of the arm's meshes, of which there are dozens, each a part of a link."""
_ARM = "robot0_"
"""What the names of its meshes begin with."""
MAX_TEXTURE = 512
"""Side of a texture [px]."""
_MAY_DIFFER = ("dof_length", "geom_matid", "geom_dataid")
"""Of a physical field's kind, but not used in stepping: sizes for putting bodies to sleep, references to looks."""
_WELDS = (1e-7, 2e-3, 4e-3, 8e-3)
"""Vertices nearer than this are one [m]. The others are for meshes whose triangles hang together so little that no edge
can be drawn in: the pedestal's stay at 5,769."""
_NEARLY = 1.5
"""Times the wanted triangles that are few enough."""


def max_faces(name: str) -> int:
    """Triangles that a mesh of this name may have."""
    return ARM_FACES if name.startswith(_ARM) else MAX_FACES


def visual_meshes(model: mujoco.MjModel) -> dict[int, bool]:
    """Meshes that are looked at and have more triangles than a small image needs; True: they collide, too."""
    is_mesh = model.geom_type == mujoco.mjtGeom.mjGEOM_MESH
    solid = set(model.geom_dataid[is_mesh & _is_solid(model)].tolist())
    seen = set(model.geom_dataid[is_mesh & ~_is_solid(model)].tolist())
    return {mesh: mesh in solid for mesh in sorted(seen) if model.mesh_facenum[mesh] > max_faces(model.mesh(mesh).name)}


def _is_solid(model: mujoco.MjModel) -> npt.NDArray[np.bool_]:
    """Geoms that collide, or stand for what does."""
    return (model.geom_contype != 0) | (model.geom_conaffinity != 0) | (model.geom_group == 0)


def lighten(spec: mujoco.MjSpec, model: mujoco.MjModel, folder: Path) -> mujoco.MjModel:
    """Compile `spec` again with decimated visual meshes, small textures, and neither multisampling nor reflections.

    Args:
        spec: Of `model`, not compiled yet: compiling leaves normals in it that do not fit fewer triangles; changed.
        model: Compiled from such a `spec` as the benchmark has it.
        folder: For temporary files; needed until this returns.
    """
    for mesh, collides in visual_meshes(model).items():
        name = model.mesh(mesh).name
        found = next(one for one in spec.meshes if one.name == name)
        if collides:
            found = _separate(spec, model, mesh)
        points, faces, corners = _original(model, mesh)
        _replace(found, *_decimate(points, faces, corners, max_faces(name)))
    for texture in spec.textures:
        _reduce(texture, folder)
    for material in spec.materials:
        material.reflectance = 0.0
    light = spec.compile()
    light.vis.quality.offsamples = 0
    light.site_rgba[:] = model.site_rgba
    require_same_physics(model, light)
    return light


def _separate(spec: mujoco.MjSpec, model: mujoco.MjModel, mesh: int) -> Any:
    """A mesh of its own, still empty, for the geoms that only show what others collide with."""
    name = model.mesh(mesh).name
    for geom in np.flatnonzero((model.geom_dataid == mesh) & ~_is_solid(model)):
        spec.geoms[geom].meshname = f"{name}_shown"
    return spec.add_mesh(name=f"{name}_shown")


def require_same_physics(model: mujoco.MjModel, other: mujoco.MjModel) -> None:
    """Refuse a model that would move otherwise.

    Raises:
        VlaError: names the first field that differs.
    """
    collides = np.flatnonzero((model.geom_contype != 0) | (model.geom_conaffinity != 0))
    for name in dir(model):
        value = getattr(model, name) if name.startswith(("body_", "jnt_", "dof_", "actuator_", "geom_", "qpos")) else 0
        if not isinstance(value, np.ndarray) or name in _MAY_DIFFER or "bvh" in name:
            continue
        mine, theirs = value, getattr(other, name)
        if name.startswith("geom_"):
            mine, theirs = mine[collides], theirs[collides]
        if mine.shape != theirs.shape or not np.array_equal(mine, theirs):
            raise VlaError(f"decimating visual meshes changed {name}; please report this task, and use visuals=stock")


def _original(model: mujoco.MjModel, mesh: int) -> tuple[Array, npt.NDArray[np.int64], Array | None]:
    """Vertices (V, 3) as the file had them but scaled, faces (F, 3), and texture coordinates of corners (F, 3, 2)."""
    vertices = slice(model.mesh_vertadr[mesh], model.mesh_vertadr[mesh] + model.mesh_vertnum[mesh])
    faces = slice(model.mesh_faceadr[mesh], model.mesh_faceadr[mesh] + model.mesh_facenum[mesh])
    rotation = np.empty(9)
    mujoco.mju_quat2Mat(rotation, model.mesh_quat[mesh])
    points = model.mesh_vert[vertices].astype(np.float64) @ rotation.reshape(3, 3).T + model.mesh_pos[mesh]
    corners = None
    if model.mesh_texcoordadr[mesh] >= 0:
        start = model.mesh_texcoordadr[mesh]
        coordinates = model.mesh_texcoord[start : start + model.mesh_texcoordnum[mesh]].astype(np.float64)
        corners = coordinates[model.mesh_facetexcoord[faces]]
    return points, model.mesh_face[faces].astype(np.int64), corners


def _decimate(
    points: Array, faces: npt.NDArray[np.int64], corners: Array | None, target: int
) -> tuple[Array, npt.NDArray[np.int64], Array | None]:
    for weld in _WELDS:
        new_points, new_faces = _simplify(points, faces, weld, target)
        if len(new_faces) <= _NEARLY * target:
            break
    if corners is None:
        return new_points, new_faces, None
    return new_points, new_faces, _transfer(points, faces, corners, new_points[new_faces])


def _simplify(
    points: Array, faces: npt.NDArray[np.int64], weld: float, target: int
) -> tuple[Array, npt.NDArray[np.int64]]:
    library: Any = importlib.import_module("fast_simplification")
    _, first, same = np.unique(np.round(points / weld).astype(np.int64), axis=0, return_index=True, return_inverse=True)
    welded = same.reshape(-1)[faces]
    is_flat = (welded == np.roll(welded, 1, axis=1)).any(axis=1)
    points, faces = points[first], welded[~is_flat]
    if len(faces) <= target:
        return points, faces
    new_points, new_faces = library.simplify(points.astype(np.float32), faces.astype(np.int32), target_count=target)
    return new_points.astype(np.float64), new_faces.astype(np.int64)


def _transfer(points: Array, faces: npt.NDArray[np.int64], corners: Array, triangles: Array) -> Array:
    """Texture coordinates (N, 3, 2) of new triangles (N, 3, 3): those of the nearest old face, extended evenly."""
    spatial: Any = importlib.import_module("scipy.spatial")
    old = points[faces]
    _, nearest = spatial.cKDTree(old.mean(axis=1)).query(triangles.mean(axis=1))
    near = old[nearest]
    edges = (near[:, 1:] - near[:, :1]).transpose(0, 2, 1)  # (N, 3, 2)
    weights = (triangles - near[:, :1]) @ np.linalg.pinv(edges).transpose(0, 2, 1)  # (N, 3, 2)
    turns = corners[nearest, 1:] - corners[nearest, :1]
    return corners[nearest, :1] + weights @ turns


def _replace(mesh: Any, points: Array, faces: npt.NDArray[np.int64], corners: Array | None) -> None:
    mesh.file = ""
    mesh.content_type = ""
    mesh.scale = [1.0, 1.0, 1.0]
    mesh.refpos, mesh.refquat = [0.0, 0.0, 0.0], [1.0, 0.0, 0.0, 0.0]
    mesh.uservert, mesh.userface = points.ravel().tolist(), faces.ravel().tolist()
    mesh.usernormal = []
    if corners is not None:
        mesh.usertexcoord = corners.ravel().tolist()
        mesh.userfacetexcoord = np.arange(faces.size).tolist()


def _reduce(texture: Any, folder: Path) -> None:
    from PIL import Image

    if not texture.file:
        return
    with Image.open(texture.file) as image:
        if max(image.size) <= MAX_TEXTURE:
            return
        scale = MAX_TEXTURE / max(image.size)
        size = tuple(max(1, round(side * scale)) for side in image.size)
        small = folder / f"{texture.name or 'texture'}-{abs(hash(texture.file))}.png"
        image.convert("RGB").resize(size, Image.Resampling.LANCZOS).save(small)
    texture.file = str(small)
