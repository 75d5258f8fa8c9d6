"""Demonstrations of LIBERO's tasks by the script: ways to grasp are tried until the benchmark's predicate holds.

Everything is decided by task and initial state: the same episode gives the same demonstration, action for action.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import mujoco
import numpy as np

from piper_twin.demonstrate import Demonstration
from piper_twin.episode import Episode
from vla_policy.errors import VlaError
from vla_rl_trainer.libero.embodiment import ACTION_SIZE, LIBERO_PANDA
from vla_rl_trainer.libero.predicates import Goal
from vla_rl_trainer.libero.scene import LiberoConfig, TaskScene
from vla_rl_trainer.libero.script import Action, Array, Sight, Way, pick_and_place
from vla_rl_trainer.libero.worlds import LiberoWorlds

WAYS: dict[str, Way] = {
    "straight": Way(),
    "from above": Way(over=0.15),
    "turned a little": Way(turn=-0.2),
    "turned a quarter": Way(turn=np.pi / 2.0),
    "turned": Way(turn=0.6),
    "other rim": Way(side=1.0),
    "shallow": Way(depth=0.02),
    "high": Way(over=0.15, lift=0.15, drop=0.04),
}
"""What is tried, in this order."""
FIRST = {"libero_object/1": "turned a little", "libero_spatial/4": "turned a quarter"}
"""Tasks in which another way than the usual one works from every state: a task's demonstrations shall be alike. Beside
the cream cheese stands a can; the open drawer leaves the fingers room on two sides of the bowl."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ScriptedDemonstration(Demonstration):
    """A demonstration, or the last try where every way has failed."""

    way: str
    """In `WAYS`."""
    num_tries: int
    """Ways tried, this one included."""


class ScriptWorlds(LiberoWorlds):
    """One world at a time; a task is forgotten when another is asked for, as demonstrations come task by task."""

    def __init__(self, config: LiberoConfig) -> None:
        """One empty slot."""
        super().__init__(1, config)
        self.config = config

    def scene(self, task: str) -> TaskScene:
        """The scene of a task."""
        if task not in self._scenes:
            self.close()
            self._scenes.clear()
        return super().scene(task)


def ways_for(task: str) -> list[str]:
    """Names of the ways to try, the task's own first."""
    first = FIRST.get(task)
    return sorted(WAYS, key=lambda name: name != first)


class Watcher:
    """Tells the script where things are in one world of a scene."""

    def __init__(self, worlds: ScriptWorlds, task: str, body: int, target: Callable[[mujoco.MjData], Array]) -> None:
        """Look at the world in slot 0.

        Args:
            worlds: Of the task.
            task: Whose scene it is.
            body: What is to be moved.
            target: Where its origin shall be let go [m].
        """
        self._worlds, self._body, self._target = worlds, body, target
        self._shape = Shape(worlds.scene(task).model, body)

    def look(self) -> Sight:
        """The world at the moment that observations show."""
        world = self._worlds.world(0)
        world.observe()
        data, compiled = world.scene.data, world.scene.compiled
        left, right = (data.geom_xpos[list(pads)].mean(axis=0) for pads in (compiled.grasp.left, compiled.grasp.right))
        across = (left - right) * (1.0, 1.0, 0.0)
        fingers = data.qpos[list(compiled.controller.fingers)]
        return Sight(
            hand=data.site_xpos[compiled.controller.site].copy(),
            rotation=data.site_xmat[compiled.controller.site].reshape(3, 3).copy(),
            fingers=across / np.linalg.norm(across),
            opening=float(fingers[0] - fingers[1]),
            object=data.xpos[self._body].copy(),
            corners_N3=self._shape.corners(data),
            goal=self._target(data),
        )


class Shape:
    """The boxes around the colliding parts of a body."""

    def __init__(self, model: mujoco.MjModel, body: int) -> None:
        """Read them once."""
        collides = (model.geom_bodyid == body) & (model.geom_contype | model.geom_conaffinity).astype(bool)
        self._geoms = np.flatnonzero(collides)
        signs = np.array(list(itertools.product((-1.0, 1.0), repeat=3)))
        boxes = model.geom_aabb[self._geoms, None, :]  # centre and half sides, seen from the geom
        self._corners_G83 = boxes[..., :3] + signs * boxes[..., 3:]

    def corners(self, data: mujoco.MjData) -> Array:
        """Where the boxes' corners are now (N, 3) [m]."""
        turned_G33 = data.geom_xmat[self._geoms].reshape(-1, 3, 3)
        corners = np.einsum("gij,gnj->gni", turned_G33, self._corners_G83) + data.geom_xpos[self._geoms, None]
        return corners.reshape(-1, 3)


def goal_watcher(worlds: ScriptWorlds, task: str) -> Watcher:
    """For what the task asks for.

    Raises:
        VlaError: the task is no single placement of an object.
    """
    goal = placement(task, worlds.scene(task).compiled.goals)

    def target(data: mujoco.MjData) -> Array:
        if goal.site >= 0:
            return data.site_xpos[goal.site] + (0.0, 0.0, goal.size[2])
        return data.xpos[goal.other].copy()

    return Watcher(worlds, task, goal.body, target)


def placement(task: str, goals: tuple[Goal, ...]) -> Goal:
    """The goal of a task that asks for one object to be placed.

    Raises:
        VlaError: it asks for something else.
    """
    if len(goals) != 1 or goals[0].kind == "joints":
        wanted = " and ".join(goal.name for goal in goals)
        raise VlaError(f"{task} cannot be scripted: it asks for {wanted}, the script places one object; choose "
                       "libero_object or libero_spatial")  # fmt: skip
    return goals[0]


def demonstrate(worlds: ScriptWorlds, episode: Episode, look_every: int | None = 1) -> ScriptedDemonstration:
    """Let the script try an episode in slot 0 of `worlds`, one way after the other until one succeeds.

    Args:
        worlds: What is in them is lost.
        episode: Task and initial state.
        look_every: Control steps from image to image, the first of them drawn by the seed; None: never look.

    Raises:
        VlaError: the task is nothing that the script can do.
    """
    watcher = goal_watcher(worlds, episode.task)
    found: dict[str, Any] = {}
    for number, name in enumerate(ways_for(episode.task), start=1):
        found = run(worlds, episode, scripted(watcher, WAYS[name]), None) | {"way": name, "num_tries": number}
        if found["success"]:
            break
    if found["success"] and look_every is not None:
        found |= run(worlds, episode, found["action_TA"], look_every)  # images cost more than all the tries
    return ScriptedDemonstration(**found, instruction=worlds.instruction(0))


def scripted(watcher: Watcher, way: Way) -> Iterator[Action]:
    """Starts to look when it is asked for the first action: the world has been reset by then."""
    yield from pick_and_place(watcher.look, way)


def run(worlds: ScriptWorlds, episode: Episode, actions: Iterable[Action], look_every: int | None) -> dict[str, Any]:
    """Run an episode with these actions until it is done; the fields of a `Demonstration` but the instruction."""
    worlds.reset([0], [episode])
    config = worlds.config
    shape = (len(LIBERO_PANDA.cameras), config.image_size, config.image_size, 3)
    done: list[Action] = []
    frames, states, looked, success = [], [], [], False
    for step, action in enumerate(actions):
        state = np.empty((1, config.state_size), dtype=np.float32)
        worlds.joint_states([0], state)
        states.append(state[0])
        if look_every and step % look_every == episode.seed % look_every:
            frames.append(np.empty(shape, dtype=np.uint8))
            worlds.images([0], frames[-1:])
            looked.append(step)
        outcome = worlds.step_chunk([0], action[None, None])
        done.append(outcome.sent_BKA[0, 0])
        success = bool(outcome.success_B[0])
        if outcome.done_B[0]:
            break
    return {
        "images_LCHW3": np.array(frames, dtype=np.uint8).reshape(-1, *shape),
        "looked_L": np.array(looked, dtype=np.int64),
        "state_TS": np.array(states, dtype=np.float32).reshape(-1, config.state_size),
        "action_TA": np.array(done, dtype=np.float32).reshape(-1, ACTION_SIZE),
        "success": success,
    }
