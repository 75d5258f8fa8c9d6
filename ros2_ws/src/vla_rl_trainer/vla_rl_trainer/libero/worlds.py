"""Many LIBERO worlds in one process: reset by state, run a chunk of actions, look at its end.

Worlds of one task share a model and one set of MuJoCo's working arrays; of each world only what it needs to go on is
kept, a few kilobytes. Fixtures stand in the model, so they are put in place whenever a world's turn comes.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path

import mujoco
import numpy as np
import numpy.typing as npt

from piper_twin.episode import Episode
from piper_twin.worlds import ChunkOutcome
from vla_policy.errors import VlaError
from vla_policy.types import Image
from vla_rl_trainer.libero.cache import STATE, VISUALS, CompiledTask, Visuals, default_cache, read_model, read_task
from vla_rl_trainer.libero.camera import LiberoCameras
from vla_rl_trainer.libero.controller import Controller, ControllerState
from vla_rl_trainer.libero.embodiment import ACTION_SIZE, STATE_SIZE
from vla_rl_trainer.libero.protocol import STATE_SPLITS, StateSplit, state_of
from vla_rl_trainer.libero.suites import TaskName

Array = npt.NDArray[np.float64]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class LiberoConfig:
    """How worlds are drawn and seen."""

    states: StateSplit = "held_out"
    """Which recorded initial states training and evaluation use; official: all of them, both."""
    visuals: Visuals = "lean"
    """stock: drawn as the benchmark does, at a fraction of the speed."""
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
        for field, allowed in (("states", STATE_SPLITS), ("visuals", VISUALS)):
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
        self.data = mujoco.MjData(self.model)
        self.controller = Controller(self.model, self.data, self.compiled.controller)
        self._cameras: LiberoCameras | None = None
        self._config = config
        self._fixtures = list(self.compiled.fixtures)

    def enter(self, physics: Array, state: int) -> None:
        """Make this a world's turn: its physics, and the fixtures of the initial state it started from."""
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


@dataclasses.dataclass(slots=True)
class World:
    """One running episode."""

    episode: Episode
    scene: TaskScene
    state: int
    """Number of the initial state."""
    physics: Array
    controller: ControllerState
    seen: Array
    """Joint positions (2, nq) that observations show, a few milliseconds before `physics`, as in the benchmark."""
    steps: int = 0

    def observe(self) -> None:
        """Make it this world's turn, with everything where observations show it."""
        self.scene.enter(self.physics, self.state)
        self.scene.place(self.seen[0])


class LiberoWorlds:
    """A fixed number of slots, each holding one world at a time; tasks are read when they are first asked for."""

    def __init__(self, num_slots: int, config: LiberoConfig) -> None:
        """Slots are empty until `reset`."""
        self._config = config
        self._worlds: list[World | None] = [None] * num_slots
        self._scenes: dict[str, TaskScene] = {}
        # A world that breaks down is reported as dropped; MuJoCo would also write a log into the current folder.
        mujoco.set_mju_user_warning(_ignore)

    def world(self, slot: int) -> World:
        """The world in a slot that has been reset."""
        world = self._worlds[slot]
        assert world is not None, f"slot {slot} was never reset"
        return world

    def instruction(self, slot: int) -> str:
        """What the policy is told in a slot that has been reset."""
        return self.world(slot).scene.compiled.instruction

    def scene(self, task: str) -> TaskScene:
        """The scene of a task, read once."""
        if task not in self._scenes:
            self._scenes[task] = TaskScene(TaskName.parse(task), self._config)
        return self._scenes[task]

    def reset(self, slots: Sequence[int], episodes: Sequence[Episode]) -> None:
        """Start an episode in each slot, from its state after the wait."""
        for slot, episode in zip(slots, episodes, strict=True):
            scene = self.scene(episode.task)
            compiled = scene.compiled
            state = state_of(episode, self._config.states, compiled.num_states)
            physics, seen = compiled.states_NS[state].copy(), compiled.seen_N2Q[state].copy()
            controller = ControllerState(compiled.goal_rotations_N33[state].copy(), compiled.grippers_N2[state].copy())
            self._worlds[slot] = World(episode, scene, state, physics, controller, seen)

    def step_chunk(self, slots: Sequence[int], actions_BKA: npt.NDArray[np.floating]) -> ChunkOutcome:
        """Run a chunk of actions in each slot.

        Args:
            slots: Slots to step; each must hold an episode that is not done.
            actions_BKA: As LIBERO takes them, see `LIBERO_PANDA`, shape (len(slots), chunk, 7).
        """
        actions = np.clip(np.asarray(actions_BKA, dtype=np.float64), -1.0, 1.0)
        if actions.shape[-1] != ACTION_SIZE:
            raise VlaError(f"actions have {actions.shape[-1]} numbers; LIBERO takes {ACTION_SIZE}")
        done = [self._run(self.world(slot), chunk) for slot, chunk in zip(slots, actions, strict=True)]
        success, dropped, steps, signals = zip(*done, strict=True) if done else ((), (), (), ())
        success_B, dropped_B = np.array(success, dtype=bool), np.array(dropped, dtype=bool)
        ended = [self.world(slot).steps >= self.world(slot).scene.compiled.horizon for slot in slots]
        return ChunkOutcome(
            success_B=success_B,
            done_B=success_B | dropped_B | np.array(ended, dtype=bool),
            dropped_B=dropped_B,
            steps_B=np.array(steps, dtype=np.int64),
            sent_BKA=actions.astype(np.float32),
            refused_B=np.zeros(len(slots), dtype=np.int64),
            signals=tuple(signals),
        )

    def _run(self, world: World, chunk_KA: Array) -> tuple[bool, bool, int, dict[str, bool]]:
        """Success, breakdown, control steps that count, and signals of one world's chunk."""
        scene, compiled = world.scene, world.scene.compiled
        scene.enter(world.physics, world.state)
        signals = dict.fromkeys((goal.name for goal in compiled.goals), False)
        signals |= {f"grasped {name}": False for name in compiled.grasp.objects}
        success = broken = False
        count = 0
        for action in chunk_KA[: compiled.horizon - world.steps]:
            started = scene.data.time
            count += 1
            try:
                scene.controller.step(world.controller, action, world.seen)
                # Where physics breaks down MuJoCo starts the world over: its clock falls behind.
                broken = not scene.data.time > started or not np.isfinite(scene.data.qpos).all()
            except np.linalg.LinAlgError:
                broken = True
            if broken:
                break
            reached = {goal.name: goal.holds(scene.data) for goal in compiled.goals}
            held = [f"grasped {name}" for name in compiled.grasp.held(scene.data)]
            signals |= {name: True for name in (*(name for name, holds in reached.items() if holds), *held)}
            success = all(reached.values())
            if success:
                break
        world.steps += count
        scene.leave(world.physics)
        return success, broken, count, signals

    def joint_states(self, slots: Sequence[int], out_BS: npt.NDArray[np.float32]) -> None:
        """State of the arm in each slot, as `LIBERO_PANDA` has it, into `out_BS`."""
        for row, slot in enumerate(slots):
            world = self.world(slot)
            world.observe()
            fingers = world.seen[1][list(world.scene.compiled.controller.fingers)]
            out_BS[row] = world.scene.proprioception(fingers)

    def images(self, slots: Sequence[int], out: Sequence[Image] | Image) -> None:
        """Camera images of each slot into its entry of `out` (cameras, image_size, image_size, 3)."""
        for slot, image in zip(slots, out, strict=True):
            world = self.world(slot)
            world.observe()
            world.scene.draw(image)

    def close(self) -> None:
        """Free what was uploaded to OpenGL."""
        for scene in self._scenes.values():
            scene.close()


def _ignore(warning: str) -> None:
    del warning
