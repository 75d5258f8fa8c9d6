"""How LIBERO's worlds are drawn, and one task's model with everything that its worlds share."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import mujoco
import numpy as np
import numpy.typing as npt

from vla_policy.errors import VlaError
from vla_policy.types import Image
from vla_rl_trainer.libero.cache import STATE, CompiledTask, default_cache, read_model, read_task
from vla_rl_trainer.libero.camera import LiberoCameras
from vla_rl_trainer.libero.controller import ARM_DOFS, Controller
from vla_rl_trainer.libero.embodiment import STATE_SIZE
from vla_rl_trainer.libero.perturbation import PERTURBATIONS, Looks, Perturbation, displacement
from vla_rl_trainer.libero.protocol import STATE_SPLITS, VISUALS, StateSplit, Visuals
from vla_rl_trainer.libero.suites import TaskName

Array = npt.NDArray[np.float64]

_TRIES = 100
"""Ways in which the arm may be displaced before there is no room."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class LiberoConfig:
    """How worlds are drawn and seen."""

    states: StateSplit = "held_out"
    """Which recorded initial states training and evaluation use; official: all of them, both."""
    visuals: Visuals = "lean"
    """stock: drawn as the benchmark does, at a fraction of the speed."""
    perturbation: Perturbation = "none"
    """What is other than usual in every episode: the camera, the light, the arm's first pose, or all of them."""
    image_size: int = 128
    """Side of the square images handed out [px]."""
    render_size: int = 0
    """Side at which they are drawn [px]; 0: at `image_size`. Published policies see 224 drawn at 256."""
    images: bool = True
    """False: physics only, observations carry empty images."""
    turned: bool = True
    """Images turned by half a circle, as policies are trained on them; False for a policy that does so itself."""
    fingers: bool = False
    """State with both fingers' positions instead of the opening between them: eight numbers, as published policies
    with proprioception have it."""
    cache: Path = dataclasses.field(default_factory=default_cache)
    """Folder of the compiled tasks."""

    def __post_init__(self) -> None:
        """Refuse what cannot be drawn."""
        for field, allowed in (
            ("states", STATE_SPLITS),
            ("visuals", VISUALS),
            ("perturbation", PERTURBATIONS),
        ):
            if getattr(self, field) not in allowed:
                raise VlaError(f"{field} is {getattr(self, field)!r}; choose one of {', '.join(allowed)}")
        if self.image_size < 1 or self.render_size < 0:
            raise VlaError(f"image_size {self.image_size} and render_size {self.render_size} must not be negative")

    @property
    def state_size(self) -> int:
        """Numbers in the state of the arm."""
        return STATE_SIZE + self.fingers


class TaskScene:
    """One task's model, with the working arrays that all its worlds share."""

    def __init__(self, task: TaskName, config: LiberoConfig) -> None:
        """Read the compiled task.

        Raises:
            VlaError: it is not in the cache.
        """
        self.compiled: CompiledTask = read_task(config.cache, task)
        self.model = read_model(config.cache, task, config.visuals)
        # Nothing reads the wrist's force and torque, which cost a pass over all bodies in every physics step.
        self.model.opt.disableflags |= mujoco.mjtDisableBit.mjDSBL_SENSOR.value
        self.data = mujoco.MjData(self.model)
        self.looks = Looks.of(self.model)
        self.controller = Controller(self.model, self.data, self.compiled.controller)
        self._cameras: LiberoCameras | None = None
        self._config = config
        self._fixtures = list(self.compiled.fixtures)

    def enter(self, physics: Array, state: int, looks: Looks | None = None) -> None:
        """Make this a world's turn: its physics, the fixtures of the initial state it started from, and its looks."""
        if looks is not None:
            looks.put_on(self.model)
        if self._fixtures:
            poses = self.compiled.fixture_poses_NF7[state]
            self.model.body_pos[self._fixtures] = poses[:, :3]
            self.model.body_quat[self._fixtures] = poses[:, 3:]
        mujoco.mj_setState(self.model, self.data, physics, STATE)

    def leave(self, physics: Array) -> None:
        """Keep the world's physics."""
        mujoco.mj_getState(self.model, self.data, physics, STATE)

    def place(self, joints: Array) -> None:
        """Where everything is at these joint positions."""
        self.data.qpos[:] = joints
        mujoco.mj_kinematics(self.model, self.data)
        mujoco.mj_comPos(self.model, self.data)
        mujoco.mj_camlight(self.model, self.data)

    def displace_arm(self, physics: Array, rng: np.random.Generator) -> Array:
        """Move the arm of the world whose turn it is, so that it touches nothing it did not touch.

        Args:
            physics: Of that world; changed.
            rng: Draws the way.

        Returns:
            The hand's rotation there (3, 3), which the controller is to hold.

        Raises:
            VlaError: there is no room.
        """
        data, limits = self.data, self.model.jnt_range[:ARM_DOFS]
        mujoco.mj_fwdPosition(self.model, data)
        start, touching = data.qpos[:ARM_DOFS].copy(), _touching(data)
        for _ in range(_TRIES):
            data.qpos[:ARM_DOFS] = start + displacement(rng, ARM_DOFS)
            if (data.qpos[:ARM_DOFS] < limits[:, 0]).any() or (data.qpos[:ARM_DOFS] > limits[:, 1]).any():
                continue
            mujoco.mj_fwdPosition(self.model, data)
            if _touching(data) <= touching:
                self.leave(physics)
                return data.site_xmat[self.compiled.controller.site].reshape(3, 3).copy()
        raise VlaError(
            f"the arm cannot start elsewhere in {self.compiled.name}; leave the perturbation of the pose out"
        )

    def draw(self, out_CHW3: Image) -> None:
        """Images of the world whose turn it is."""
        if self._cameras is None:
            size = self._config.render_size or self._config.image_size
            stock = self._config.visuals == "stock"
            self._cameras = LiberoCameras(
                self.model, self.compiled.cameras, size, reflections=stock, turned=self._config.turned
            )
        for lamp in self.compiled.lamps:
            lamp.show(self.model, self.data)
        self._cameras.draw(self.model, self.data, out_CHW3)

    def proprioception(self, fingers: Array) -> Array:
        """State of the arm of the world whose turn it is: hand position, axis times angle, fingers or opening.

        Args:
            fingers: Their positions [m]; the benchmark reads them a physics step later than the rest.
        """
        data, constants = self.data, self.compiled.controller
        w, *axis = data.xquat[constants.hand]
        length = math.sqrt(max(0.0, 1.0 - w * w))
        turn = np.array(axis) * (2.0 * math.acos(min(1.0, max(-1.0, w))) / length if length else 0.0)
        grip = fingers if self._config.fingers else fingers[:1] - fingers[1:]
        return np.concatenate([data.site_xpos[constants.site], turn, grip])

    def close(self) -> None:
        """Free what was uploaded to OpenGL."""
        if self._cameras is not None:
            self._cameras.close()


def _touching(data: mujoco.MjData) -> set[tuple[int, int]]:
    """Pairs of shapes that touch."""
    return {(int(one), int(other)) for one, other in data.contact.geom}
