"""Meshes computed in code, for looks only: surfaces of revolution and bent tubes with few faces."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import mujoco
import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

SEGMENTS = 16
"""Corners of a surface of revolution: round enough in a 128 px image, and few faces are fast in software."""


def add_lathe(spec: mujoco.MjSpec, name: str, profile: Sequence[tuple[float, float]], segments: int = SEGMENTS) -> None:
    """Add the mesh that a profile sweeps round the z axis.

    Args:
        spec: Grows by the mesh.
        name: Of the mesh.
        profile: Radius and height [m] of each ring; counter-clockwise as seen with z up and the radius to the right,
            so from the bottom of the outside upwards. A radius of 0 is a pole.
        segments: Corners of each ring.
    """
    angles = np.linspace(0.0, 2.0 * math.pi, segments, endpoint=False)
    circle = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    vertices: list[Array] = []
    rings: list[npt.NDArray[np.int64]] = []
    for radius, height in profile:
        corners = 1 if radius == 0.0 else segments
        first = sum(len(ring) for ring in vertices)
        rings.append(first + np.arange(segments) % corners)
        vertices.append(np.column_stack([radius * circle[:corners], np.full(corners, height)]))
    _add_mesh(spec, name, np.concatenate(vertices), _skin(rings))


def add_tube(
    spec: mujoco.MjSpec, name: str, path: Sequence[tuple[float, float, float]], radius: float, sides: int = 6
) -> None:
    """Add the mesh of a round bar bent along `path` [m], which lies in a plane."""
    points = np.array(path)
    tangents = np.gradient(points, axis=0)
    normal = np.cross(tangents[0], tangents[-1])
    normal /= np.linalg.norm(normal)
    vertices, rings = [points[:1]], [np.zeros(sides, dtype=np.int64)]
    angles = np.linspace(0.0, 2.0 * math.pi, sides, endpoint=False)[:, None]
    for index, (point, tangent) in enumerate(zip(points, tangents, strict=True)):
        across = np.cross(tangent, normal) / np.linalg.norm(tangent)
        vertices.append(point + radius * (np.cos(angles) * normal + np.sin(angles) * across))
        rings.append(1 + index * sides + np.arange(sides))
    vertices.append(points[-1:])
    rings.append(np.full(sides, 1 + len(points) * sides))
    _add_mesh(spec, name, np.concatenate(vertices), _skin(rings))


def add_loft(spec: mujoco.MjSpec, name: str, sections: Sequence[Array]) -> None:
    """Add the mesh through closed sections of as many corners each [m], shape (corners, 3), with both ends shut.

    Corners go counter-clockwise as seen against the way from the first section to the last: from above, on the way up.
    """
    corners = len(sections[0])
    vertices = [sections[0].mean(axis=0)[None], *sections, sections[-1].mean(axis=0)[None]]
    inner = [1 + index * corners + np.arange(corners) for index in range(len(sections))]
    last = 1 + len(sections) * corners
    rings = [np.zeros(corners, dtype=np.int64), *inner, np.full(corners, last)]
    _add_mesh(spec, name, np.concatenate(vertices), _skin(rings))


def _skin(rings: list[npt.NDArray[np.int64]]) -> npt.NDArray[np.int64]:
    """Triangles between consecutive rings of vertex numbers, without those that a pole makes empty."""
    faces = []
    for lower, upper in itertools.pairwise(rings):
        next_lower, next_upper = np.roll(lower, -1), np.roll(upper, -1)
        faces += [np.stack([lower, next_lower, next_upper], axis=1), np.stack([lower, next_upper, upper], axis=1)]
    triangles = np.concatenate(faces)
    a, b, c = triangles.T
    return triangles[(a != b) & (b != c) & (c != a)]


def _add_mesh(spec: mujoco.MjSpec, name: str, vertices: Array, faces: npt.NDArray[np.int64]) -> None:
    mesh = spec.add_mesh(name=name, uservert=vertices.ravel(), userface=faces.ravel().astype(np.int32))
    mesh.inertia = mujoco.mjtMeshInertia.mjMESH_INERTIA_SHELL  # open surfaces have no volume
