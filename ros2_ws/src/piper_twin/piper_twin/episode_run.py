"""One world stepped by itself, physics step by physics step, for whoever lives beside it: the robot graph.

Start, physics, randomisation, images and success are those of `worlds.WorldBatch`, bit for bit; only commands come one
by one instead of in chunks.
"""

from __future__ import annotations

import dataclasses

import mujoco
import numpy as np
import numpy.typing as npt

from piper_twin.camera_renderer import CameraRenderer
from piper_twin.cell import TIMESTEP
from piper_twin.command_line import arrive
from piper_twin.compiled_task import STATE
from piper_twin.episode import Episode
from piper_twin.pixels import add_noise
from piper_twin.randomization import find_level
from piper_twin.robot import DUAL_PIPER
from piper_twin.task import Readings
from piper_twin.worlds import SETTLE_STEPS, SUBSTEPS, World, make_world
from vla_policy.errors import VlaError
from vla_policy.types import Image, Vector

Array = npt.NDArray[np.float64]


@dataclasses.dataclass(frozen=True, slots=True)
class Moment:
    """What a world looks like between two physics steps; never changed, so that any thread may read it."""

    world: World
    state: Array
    """MuJoCo's state; its first number is the time since the world was made [s]."""
    joints: Vector
    """As the encoders report them [rad], [m], shape (14,)."""
    steps: int = 0
    """Physics steps since the episode began."""
    solved_after: float | None = None
    """Time from the episode's begin to its success [s]; None: not solved so far."""
    is_broken: bool = False
    """Physics broke down; the world stands still from here on."""

    def objects(self) -> dict[str, Array]:
        """Where each object stands: position [m] and orientation (w, x, y, z), shape (7,)."""
        model = self.world.model
        poses: dict[str, Array] = {}
        for joint in np.flatnonzero(model.jnt_type == mujoco.mjtJoint.mjJNT_FREE):
            first = 1 + model.jnt_qposadr[joint]  # after the time
            poses[model.body(model.jnt_bodyid[joint]).name] = self.state[first : first + 7].copy()
        return poses


class EpisodeRun:
    """An episode in progress. One thread at a time steps it; any may send."""

    def __init__(self, episode: Episode, randomization: str) -> None:
        """Make the world and let its objects come to rest.

        Raises:
            VlaError: the episode's task or the randomization level does not exist.
        """
        self._world = make_world(episode, find_level(randomization))
        model = self._world.model
        self._data = mujoco.MjData(model)
        mujoco.mj_setState(model, self._data, self._world.state, STATE)
        self._data.ctrl[:] = self._world.command + self._world.variation.joint_offset
        for _ in range(SETTLE_STEPS):
            mujoco.mj_step(model, self._data)
        self._world.start = self._data.sensordata.copy()
        self._data.qacc_warmstart[:] = 0.0  # as a batch starts its first chunk
        self._begin: float = self._data.time
        self._start = Readings(self._world.compiled.layout, self._world.start)
        self._sent = self._world.command.copy()
        self.moment = self._look(0, None)
        """The newest."""
        # A breakdown is told by the moment; MuJoCo would also write a log into the current folder.
        mujoco.set_mju_user_warning(_ignore)

    def send(self, targets: npt.NDArray[np.floating]) -> None:
        """Put joint targets [rad], gripper openings [m], shape (14,), on the wire; they stay there until the next ones.

        Raises:
            VlaError: they have another shape, or are not finite.
        """
        sent = np.array(targets, dtype=np.float64)
        if sent.shape != self._sent.shape or not np.isfinite(sent).all():
            raise VlaError(f"the twin takes {len(self._sent)} finite joint targets, not {sent}")
        self._sent = sent

    def step(self) -> None:
        """One physics step."""
        before = self.moment
        if before.is_broken:
            return
        self._data.ctrl[:] = arrive([self._world.line], self._sent[None, None])[0, 0]
        mujoco.mj_step(self._world.model, self._data)
        steps, solved_after = before.steps + 1, before.solved_after
        if solved_after is None and steps % SUBSTEPS == 0 and self._is_solved():  # once a control period, as a batch
            solved_after = steps * TIMESTEP
        self.moment = self._look(steps, solved_after)

    def _is_solved(self) -> bool:
        now = Readings(self._world.compiled.layout, self._data.sensordata)
        task = self._world.compiled.task
        met = task.prerequisite(now, self._start)
        self._world.earned |= met is None or bool(met)
        return self._world.earned and bool(task.success(now, self._start))

    def _look(self, steps: int, solved_after: float | None) -> Moment:
        world, data = self._world, self._data
        state = np.empty(mujoco.mj_stateSize(world.model, STATE))
        mujoco.mj_getState(world.model, data, state, STATE)
        # Where physics breaks down MuJoCo starts the world over: its clock is behind.
        is_late = self._begin + steps * TIMESTEP - state[0] > 0.5 * TIMESTEP
        if is_late or not np.isfinite(state).all():
            return dataclasses.replace(self.moment, is_broken=True)
        joints = data.sensordata[world.compiled.joint_columns] - world.variation.joint_offset
        return Moment(world, state, joints.astype(np.float32), steps, solved_after)


class Painter:
    """Draws moments, and belongs to the thread that makes it."""

    def __init__(self) -> None:
        """Nothing is uploaded to OpenGL before the first image of a task."""
        self._renderers: dict[str, CameraRenderer] = {}
        self._canvases: dict[str, mujoco.MjData] = {}

    def images(self, moment: Moment) -> dict[str, Image]:
        """What every camera sees, by name, with the world's pixel noise.

        Raises:
            VlaError: OpenGL cannot be started here.
        """
        world, cameras = moment.world, DUAL_PIPER.cameras
        name, height, width = world.compiled.task.name, cameras[0].height, cameras[0].width
        if name not in self._renderers:
            self._renderers[name] = CameraRenderer(world.compiled.model, width, height)
            self._canvases[name] = mujoco.MjData(world.compiled.model)
        canvas = self._canvases[name]
        mujoco.mj_setState(world.model, canvas, moment.state, STATE)
        mujoco.mj_kinematics(world.model, canvas)
        mujoco.mj_camlight(world.model, canvas)
        self._renderers[name].draw(world.model, canvas, cameras)
        frame = self._renderers[name].take()
        if world.variation.image_noise > 0.0:
            frame = add_noise(frame, world.variation.image_noise, world.image_rng)
        return dict(zip(DUAL_PIPER.camera_names, frame, strict=True))

    def close(self) -> None:
        """Free what was uploaded."""
        for renderer in self._renderers.values():
            renderer.close()
        self._renderers.clear()


def _ignore(warning: str) -> None:
    del warning
