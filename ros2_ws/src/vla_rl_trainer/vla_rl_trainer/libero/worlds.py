"""Many LIBERO worlds in one process: reset by state, run a chunk of actions, look at its end.

Worlds of one task share a model and one set of MuJoCo's working arrays; of each world only what it needs to go on is
kept, a few kilobytes. Fixtures stand in the model, so they are put in place whenever a world's turn comes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import mujoco
import numpy as np
import numpy.typing as npt

from piper_twin.episode import Episode
from piper_twin.worlds import ChunkOutcome
from vla_policy.errors import VlaError
from vla_policy.types import Image
from vla_rl_trainer.libero.controller import ARM_DOFS, ControllerState
from vla_rl_trainer.libero.embodiment import ACTION_SIZE
from vla_rl_trainer.libero.perturbation import Looks, Perturbation, has
from vla_rl_trainer.libero.protocol import state_of
from vla_rl_trainer.libero.scene import LiberoConfig, TaskScene
from vla_rl_trainer.libero.suites import TaskName

Array = npt.NDArray[np.float64]


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
    looks: Looks | None = None
    """Other than the model's own where they are perturbed."""
    steps: int = 0

    def enter(self) -> None:
        """Make it this world's turn."""
        self.scene.enter(self.physics, self.state, self.looks)

    def observe(self) -> None:
        """Make it this world's turn, with everything where observations show it."""
        self.enter()
        self.scene.place(self.seen[0])

    def perturb(self, perturbation: Perturbation) -> None:
        """Be other than usual, as the episode draws it."""
        scene = self.scene
        self.looks = scene.looks.disturbed(self.episode, perturbation, scene.compiled.cameras[0])
        if has(perturbation, "pose"):
            self.enter()
            rng = self.episode.generator("perturbed pose")
            self.controller.goal_rotation = scene.displace_arm(self.physics, rng)
            self.seen[:, :ARM_DOFS] = scene.data.qpos[:ARM_DOFS]


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
            world = self._worlds[slot] = World(episode, scene, state, physics, controller, seen)
            if self._config.perturbation != "none":
                world.perturb(self._config.perturbation)

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
        world.enter()
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
