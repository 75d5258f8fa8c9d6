"""Fewer triangles for what is only looked at, and nothing else for what collides."""

import mujoco
import numpy as np
import pytest

from vla_policy.errors import VlaError
from vla_rl_trainer.libero.meshes import MAX_FACES, lighten, require_same_physics, visual_meshes

pytestmark = pytest.mark.libero

SIDE = 45
"""Squares along one side of a plate; two triangles each."""


def plate(together=True):
    """Points (P, 3) of a wavy plate [m] and its triangles (F, 3), each with points of its own if not together."""
    across = np.linspace(-0.1, 0.1, SIDE + 1)
    x, y = np.meshgrid(across, across)
    points = np.stack([x, y, 0.01 * np.sin(30 * x)], axis=-1).reshape(-1, 3)
    corner = (np.arange(SIDE)[:, None] * (SIDE + 1) + np.arange(SIDE)).reshape(-1, 1)
    faces = np.concatenate([corner + np.array(square) for square in ([0, 1, SIDE + 2], [0, SIDE + 2, SIDE + 1])])
    if together:
        return points, faces
    apart = np.random.default_rng(0).uniform(-3e-4, 3e-4, (faces.size, 3))
    return points[faces.ravel()] + apart, np.arange(faces.size).reshape(-1, 3)


def scene(folder, collides, points, faces):
    """A body that shows a plate, and, where it collides, touches with the same mesh."""
    lines = [*("v {} {} {}".format(*point) for point in points), *("f {} {} {}".format(*face) for face in faces + 1)]
    (folder / "plate.obj").write_text("\n".join(lines))
    spec = mujoco.MjSpec()
    mesh = spec.add_mesh(name="plate", file=str(folder / "plate.obj"))
    mesh.inertia = mujoco.mjtMeshInertia.mjMESH_INERTIA_SHELL
    body = spec.worldbody.add_body(name="plate", mass=1.0, inertia=[1, 1, 1], explicitinertial=True)
    body.add_freejoint()
    shown = {"type": mujoco.mjtGeom.mjGEOM_MESH, "meshname": "plate"}
    body.add_geom(name="shown", contype=0, conaffinity=0, group=1, **shown)
    if collides:
        body.add_geom(name="solid", group=0, **shown)
    return spec, spec.copy().compile()


def triangles(model, geom):
    return model.mesh_facenum[model.geom_dataid[model.geom(geom).id]]


def corners(model, geom):
    """Corners of the box round a geom's mesh (2, 3) in its body's frame [m]."""
    geom = model.geom(geom).id
    mesh = model.mesh(model.geom_dataid[geom])
    start = mesh.vertadr[0]
    rotation = np.empty(9)
    mujoco.mju_quat2Mat(rotation, model.geom_quat[geom])
    points = model.mesh_vert[start : start + mesh.vertnum[0]] @ rotation.reshape(3, 3).T + model.geom_pos[geom]
    return np.stack([points.min(axis=0), points.max(axis=0)])


def test_a_mesh_that_is_only_shown_loses_triangles_and_keeps_its_place(tmp_path):
    spec, model = scene(tmp_path, False, *plate())
    assert visual_meshes(model) == {0: False}
    light = lighten(spec, model, tmp_path)
    assert triangles(model, "shown") == 2 * SIDE**2
    assert triangles(light, "shown") <= 1.1 * MAX_FACES
    np.testing.assert_allclose(corners(light, "shown"), corners(model, "shown"), atol=1e-3)


def test_triangles_that_hang_together_by_nothing_are_joined_first(tmp_path):
    spec, model = scene(tmp_path, False, *plate(together=False))
    light = lighten(spec, model, tmp_path)
    assert triangles(light, "shown") <= 1.5 * MAX_FACES


def test_what_collides_with_a_mesh_that_is_shown_too_keeps_all_of_it(tmp_path):
    spec, model = scene(tmp_path, True, *plate())
    assert visual_meshes(model) == {0: True}
    light = lighten(spec, model, tmp_path)
    assert triangles(light, "solid") == 2 * SIDE**2
    assert triangles(light, "shown") <= 1.1 * MAX_FACES
    np.testing.assert_array_equal(light.body_inertia, model.body_inertia)


def test_a_model_that_would_move_otherwise_is_refused(tmp_path):
    _, model = scene(tmp_path, True, *plate())
    _, other = scene(tmp_path, True, *plate())
    other.body_mass[1] = 2.0
    with pytest.raises(VlaError, match="changed body_mass; please report"):
        require_same_physics(model, other)
