"""What a world of the twin looks like, as plain shapes: for pages and others who draw without MuJoCo."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import mujoco
import numpy as np
import numpy.typing as npt

from piper_twin.arm import CONTACT_GROUP
from piper_twin.cell import empty_cell
from piper_twin.episode import Episode
from piper_twin.randomization import find_level
from piper_twin.robot import ARMS, DUAL_PIPER, arm_slice
from piper_twin.worlds import make_world

Array = npt.NDArray[np.float64]
Colour = tuple[float, float, float]

_KINDS = {
    int(mujoco.mjtGeom.mjGEOM_BOX): "box",
    int(mujoco.mjtGeom.mjGEOM_SPHERE): "sphere",
    int(mujoco.mjtGeom.mjGEOM_CYLINDER): "cylinder",
    int(mujoco.mjtGeom.mjGEOM_CAPSULE): "capsule",
    int(mujoco.mjtGeom.mjGEOM_MESH): "mesh",
}


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """One coloured piece of a body."""

    name: str
    """May be empty."""
    body: str
    kind: str
    """box, sphere, cylinder, capsule or mesh; the axis of the middle two is z."""
    size: tuple[float, ...]
    """Box: half its sides. Sphere: radius. Cylinder, capsule: radius and half the length between its ends' centres."""
    pose: Array
    """In the body: position [m] and orientation (w, x, y, z), shape (7,)."""
    colour: Colour
    """Red, green, blue, 0 to 1."""
    vertices: Array
    """Of a mesh [m], shape (num_vertices, 3)."""
    faces: npt.NDArray[np.int32]
    """Of a mesh: corners, shape (num_faces, 3)."""


class Appearance:
    """The work cell and, with an episode, the objects of its task in their colours."""

    def __init__(self, episode: Episode | None = None, randomization: str = "off") -> None:
        """Compile what is to be seen; without an episode the table and the arms.

        Raises:
            VlaError: the episode's task or the randomization level does not exist.
        """
        self._offset = np.zeros(DUAL_PIPER.num_joints)
        if episode is None:
            self._model = empty_cell().compile()
        else:
            world = make_world(episode, find_level(randomization))
            self._model, self._offset = world.model, world.variation.joint_offset
        self._data = mujoco.MjData(self._model)
        model = self._model
        self.shapes = [_shape(model, geom) for geom in range(model.ngeom) if model.geom_group[geom] < CONTACT_GROUP]
        """Everything that is to be drawn."""
        shown = {shape.body for shape in self.shapes}
        self.bodies: list[str] = [
            model.body(body).name for body in range(1, model.nbody) if model.body(body).name in shown
        ]
        """What moves; the shapes of "world" do not."""
        free = np.flatnonzero(model.jnt_type == mujoco.mjtJoint.mjJNT_FREE)
        self.objects: dict[str, int] = {
            model.body(model.jnt_bodyid[joint]).name: int(model.jnt_qposadr[joint]) for joint in free
        }
        """Body of each object to its place among the generalised positions."""

    def poses(self, joints: npt.NDArray[np.floating], objects: Mapping[str, Array]) -> dict[str, Array]:
        """Where each of `bodies` is: position [m] and orientation (w, x, y, z), shape (7,).

        Args:
            joints: As measured [rad], [m], shape (14,).
            objects: Pose of each object that is known, shape (7,).
        """
        angles = joints + self._offset
        for arm in ARMS:
            values = angles[arm_slice(arm)]
            for number in range(6):
                self._data.joint(f"{arm}_joint{number + 1}").qpos = values[number]
            for number in (1, 2):
                self._data.joint(f"{arm}_finger{number}").qpos = values[6] / 2.0
        for name in objects.keys() & self.objects.keys():
            self._data.qpos[self.objects[name] : self.objects[name] + 7] = objects[name]
        mujoco.mj_kinematics(self._model, self._data)
        found = {name: self._data.body(name) for name in self.bodies}
        return {name: np.concatenate([body.xpos, body.xquat]) for name, body in found.items()}


def _shape(model: mujoco.MjModel, geom: int) -> Shape:
    mesh = int(model.geom_dataid[geom])
    vertices, faces = np.zeros((0, 3)), np.zeros((0, 3), dtype=np.int32)
    if mesh >= 0:
        first, corner = int(model.mesh_vertadr[mesh]), int(model.mesh_faceadr[mesh])
        vertices = model.mesh_vert[first : first + model.mesh_vertnum[mesh]].astype(np.float64)
        faces = model.mesh_face[corner : corner + model.mesh_facenum[mesh]].copy()
    return Shape(
        name=model.geom(geom).name,
        body=model.body(model.geom_bodyid[geom]).name,
        kind=_KINDS[int(model.geom_type[geom])],
        size=tuple(float(value) for value in model.geom_size[geom]),
        pose=np.concatenate([model.geom_pos[geom], model.geom_quat[geom]]),
        colour=_colour(model, geom),
        vertices=vertices,
        faces=faces,
    )


def _colour(model: mujoco.MjModel, geom: int) -> Colour:
    """Of the geom, or its material's with the mean of the texture."""
    material = int(model.geom_matid[geom])
    if material < 0:
        colour = model.geom_rgba[geom, :3]
    else:
        colour = model.mat_rgba[material, :3]
        texture = int(model.mat_texid[material, mujoco.mjtTextureRole.mjTEXROLE_RGB])
        if texture >= 0:
            first = int(model.tex_adr[texture])
            count = int(model.tex_width[texture] * model.tex_height[texture] * model.tex_nchannel[texture])
            pixels = model.tex_data[first : first + count].reshape(-1, model.tex_nchannel[texture])
            colour = colour * pixels[:, :3].mean(axis=0) / 255.0
    red, green, blue = (float(value) for value in np.clip(colour, 0.0, 1.0))
    return red, green, blue
