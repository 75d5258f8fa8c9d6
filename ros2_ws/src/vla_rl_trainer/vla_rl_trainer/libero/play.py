"""Play in LIBERO's scenes: anything is picked up and placed on anything else, the free data a base is pretrained on.

What is where is drawn anew for each episode: the task's objects are pushed about and turned, and the arm starts away
from home, so that a policy learns to close the offset it sees. No task of the benchmark is solved in it: an episode in
which that happens is thrown away. A base for tests of one suite is pretrained in scenes of the others.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import mujoco
import numpy as np
import numpy.typing as npt

from piper_twin.demonstrate import Demonstration
from piper_twin.episode import Episode
from vla_rl_trainer.libero.demonstrate import WAYS, ScriptWorlds, Shape, Watcher, run, scripted
from vla_rl_trainer.libero.scene import TaskScene
from vla_rl_trainer.libero.script import CLOSED, Action
from vla_rl_trainer.libero.suites import WAIT_ACTION
from vla_rl_trainer.libero.worlds import World

Array = npt.NDArray[np.float64]

PUSHED = 0.1
"""Objects are moved by up to this along either axis [m]."""
_TRIES = 10
"""Places tried for an object before it stays where it is."""
SETTLE_STEPS = 15
"""Control steps in which what was moved comes to rest."""
APART = 0.12
"""From where an object is taken to where it goes, at least [m]."""
NEAR = 0.08
"""From what it was placed on to where it ends, at most [m]."""
MAX_SIZE = 0.2
"""What is larger along an axis is no object to pick up [m]."""
MAX_WAYS = 2
"""Ways to grasp that are tried."""
LIFTED, MISSED_STEPS = 0.02, 30
"""An object that is not this much higher [m] after so many control steps with closed fingers was missed."""
_NAMES = {
    "akita black bowl": "black bowl",
    "glazed rim porcelain ramekin": "ramekin",
    "cookies": "cookie box",
    "new salad dressing": "salad dressing",
    "porcelain mug": "white mug",
    "chefmate 8 frypan": "frying pan",
}
"""As the benchmark's instructions call what its models call otherwise."""
_OBJECTS = (
    *("alphabet soup", "cream cheese", "salad dressing", "bbq sauce", "ketchup", "tomato sauce", "butter", "milk"),
    *("chocolate pudding", "orange juice", "basket", "black bowl", "plate", "ramekin", "cookie box", "wine bottle"),
    *("wooden cabinet", "stove", "top drawer", "middle drawer", "bottom drawer", "rack", "moka pot", "white mug"),
    *("yellow and white mug", "microwave", "book", "caddy", "back compartment", "table center", "frying pan"),
)
"""What instructions of all four suites are about."""


class PlayWorlds(ScriptWorlds):
    """One world at a time, its objects pushed about; what is to be moved where is drawn with it."""

    def reset(self, slots: Sequence[int], episodes: Sequence[Episode]) -> None:
        """Start the episode of the only slot."""
        super().reset(slots, episodes)
        world, rng = self.world(0), episodes[0].generator("play")
        world.enter()
        push_about(world.scene, rng)
        world.scene.leave(world.physics)
        self._run(world, np.tile(WAIT_ACTION, (SETTLE_STEPS, 1)))
        world.steps = 0
        self.moved, self.target = self._choose(world, rng)

    def _choose(self, world: World, rng: np.random.Generator) -> tuple[int, int]:
        """A body to move, and one to place it on."""
        world.observe()
        model, data = world.scene.model, world.scene.data
        bodies = free_bodies(model)
        small = [body for body in bodies if np.ptp(Shape(model, body).corners(data), axis=0).max() < MAX_SIZE]
        moved = int(rng.choice(small or bodies))
        away = [body for body in bodies if np.linalg.norm((data.xpos[body] - data.xpos[moved])[:2]) > APART]
        return moved, int(rng.choice(away or bodies))

    def instruction(self, slot: int) -> str:
        """What the policy is told."""
        model = self.world(slot).scene.model
        return sentence(*(name_of(model.body(body).name) for body in (self.moved, self.target)))

    def is_placed(self) -> bool:
        """Whether what was to be moved lies near what it was to be placed on."""
        self.world(0).observe()
        places = self.world(0).scene.data.xpos
        return bool(np.linalg.norm((places[self.moved] - places[self.target])[:2]) < NEAR)


def sentence(moved: str, target: str) -> str:
    """An instruction."""
    return f"pick up the {moved} and place it on the {target}"


def texts() -> Iterator[str]:
    """Sentences with all words of the benchmark, for a tokenizer that need not spell them."""
    for name in _OBJECTS:
        yield from (sentence(name, "plate"), f"open the {name}", f"turn on the {name} and put both next to it")
    yield "pick up the bowl between the plate and the ramekin in the top drawer and place it in the basket"


def name_of(body: str) -> str:
    """Of an object, from its body's: alphabet_soup_1_main is the alphabet soup."""
    words = re.sub(r"_\d+(_main)?$", "", body).replace("_", " ")
    return _NAMES.get(words, words)


def free_bodies(model: mujoco.MjModel) -> list[int]:
    """Bodies that nothing holds."""
    free = model.jnt_type == mujoco.mjtJoint.mjJNT_FREE
    return model.jnt_bodyid[free].tolist()


def push_about(scene: TaskScene, rng: np.random.Generator) -> None:
    """Move and turn every object of the world whose turn it is, unless it would touch what it did not touch."""
    model, data = scene.model, scene.data
    mujoco.mj_fwdPosition(model, data)
    for body in rng.permutation(free_bodies(model)):
        touching = _touching(model, data)
        address = model.jnt_qposadr[model.body_jntadr[body]]
        pose = data.qpos[address : address + 7]
        before = pose.copy()
        for _ in range(_TRIES):
            pose[:2] = before[:2] + rng.uniform(-PUSHED, PUSHED, 2)
            half = rng.uniform(-np.pi, np.pi) / 2.0
            mujoco.mju_mulQuat(pose[3:], np.array([np.cos(half), 0.0, 0.0, np.sin(half)]), before[3:])
            mujoco.mj_fwdPosition(model, data)
            if _touching(model, data) <= touching:
                break
        else:
            pose[:] = before
            mujoco.mj_fwdPosition(model, data)


def _touching(model: mujoco.MjModel, data: mujoco.MjData) -> set[tuple[int, int]]:
    """Pairs of bodies that touch."""
    return {(int(one), int(other)) for one, other in model.geom_bodyid[data.contact.geom].reshape(-1, 2)}


def play(worlds: PlayWorlds, episode: Episode, look_every: int | None = 1) -> Demonstration:
    """Let the script try an episode in slot 0 of `worlds`; success means that the object lies where it was to go.

    Args:
        worlds: What is in them is lost.
        episode: The scene is that of its task.
        look_every: Control steps from image to image, the first of them drawn by the seed; None: never look.
    """
    worlds.reset([0], [episode])
    ways = episode.generator("ways").permutation(list(WAYS))[:MAX_WAYS]
    found: dict[str, Any] = {}
    for name in ways:
        watcher = _watcher(worlds, episode.task)
        found = run(worlds, episode, until_missed(scripted(watcher, WAYS[name]), watcher), look_every)
        found["success"] = worlds.is_placed() and not found["success"]
        if found["success"]:
            break
    return Demonstration(**found, instruction=worlds.instruction(0))


def until_missed(actions: Iterable[Action], watcher: Watcher) -> Iterator[Action]:
    """Actions of the script, which would go through all motions, as long as they may succeed."""
    started, closed = None, 0
    for action in actions:
        height = watcher.look().object[2]
        started = height if started is None else started
        closed = closed + 1 if action[-1] == CLOSED else 0
        if closed == MISSED_STEPS and height < started + LIFTED:
            return
        yield action


def _watcher(worlds: PlayWorlds, task: str) -> Watcher:
    model = worlds.scene(task).model
    moved, below = worlds.moved, Shape(model, worlds.target)
    own = Shape(model, moved)

    def target(data: mujoco.MjData) -> Array:
        corners = below.corners(data)
        middle = (corners.min(axis=0) + corners.max(axis=0)) / 2.0
        height = data.xpos[moved][2] - own.corners(data)[:, 2].min()
        return np.array([*middle[:2], corners[:, 2].max() + height])

    return Watcher(worlds, task, moved, target)
