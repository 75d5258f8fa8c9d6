"""A task's scripted expert in a person's place, so that recording can be tried in the twin.

The expert must know where the objects are, which only the process with the world does. But an episode determines its
world: built here a second time, it gives the same plan as `piper_twin.demonstrate` follows.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from piper_bringup.teleop.source import Tell
from piper_twin.episode import Episode
from piper_twin.robot import CONTROL_PERIOD, DUAL_PIPER
from vla_policy.errors import VlaError
from vla_policy.types import Vector

if TYPE_CHECKING:
    from piper_twin.worlds import WorldBatch

Array = npt.NDArray[np.float64]

START_TOLERANCE = math.radians(5.0)
"""The arms must stand this near the episode's start [rad]."""
CHUNK_LENGTH = 8
LAG = 25
"""Control periods by which the arms may be behind the plan: 1 s."""
ASTRAY = 0.3
"""An arm is off the plan when a joint is further than this from all of it that they may be at [rad]."""

_IS_JOINT = np.array([not joint.is_gripper for joint in DUAL_PIPER.joints])


class ExpertSource:
    """Plays the plan of one episode by the clock, from `start` on; past its end it stays at the last row.

    It gives up when the arms do not follow: released after a stop they must not make up for what they have missed.
    """

    interval = CONTROL_PERIOD

    def __init__(self, tell: Tell) -> None:
        """Nothing to play before `start`; `tell` hears when it gives up."""
        self._tell = tell
        self._worlds: dict[str, WorldBatch] = {}
        self._plan: Array | None = None
        self._begin: float | None = None

    def start(self, state: Vector, now: float, world: Mapping[str, object]) -> str:
        """Plan; the first question for targets starts the clock.

        Raises:
            VlaError: there is no world, the arms do not stand at its start, or the expert finds no way.
        """
        del now  # planning takes a second
        self._plan = self._begin = None
        if "task" not in world or "seed" not in world:
            raise VlaError("the expert plays in the twin only: start the graph with the twin (sim, or emulate:=true)")
        episode = Episode(str(world["task"]), int(str(world["seed"])), str(world.get("split", "evaluation")))
        plan, home = self._planned(episode, str(world.get("randomization", "off")))
        if np.abs(state - home)[_IS_JOINT].max() > START_TOLERANCE:
            raise VlaError(
                f"the arms do not stand at the start of {episode.task}, seed {episode.seed}; call /world/reset first"
            )
        self._plan = plan
        return f"playing {episode.task}, seed {episode.seed}: {len(plan) * CONTROL_PERIOD:.1f} s"

    def _planned(self, episode: Episode, randomization: str) -> tuple[Array, Array]:
        """The expert's commands (steps, 14) and where the arms stand before them (14,)."""
        from piper_twin.expert import commands  # mink and scipy, 0.5 s
        from piper_twin.task import Readings
        from piper_twin.worlds import TwinConfig, WorldBatch

        if randomization not in self._worlds:
            self._worlds[randomization] = WorldBatch(1, TwinConfig(randomization=randomization, images=False))
        self._worlds[randomization].reset([0], [episode])
        world = self._worlds[randomization].world(0)
        compiled: Any = world.compiled
        moves = compiled.task.plan(Readings(compiled.layout, world.start))
        return commands(moves, world.command), world.command

    def targets(self, state: Vector | None, now: float) -> Vector | None:
        """The rows of the plan from `now` [s] on, shape (8, 14); None before a start."""
        if self._plan is None or state is None:
            return None
        self._begin = now if self._begin is None else self._begin
        first = max(0, round((now - self._begin) / CONTROL_PERIOD))
        last = len(self._plan) - 1
        passed = self._plan[min(max(0, first - LAG), last) : first + 1]
        off = np.maximum(passed.min(axis=0) - state, state - passed.max(axis=0))
        if off[_IS_JOINT].max() > ASTRAY:
            self._plan = None
            self._tell("the arms do not follow the expert: it gives up; call /world/reset, then /policy/run")
            return None
        return self._plan[np.minimum(first + np.arange(CHUNK_LENGTH), last)].astype(np.float32)

    def close(self) -> None:
        """Free the worlds."""
        for worlds in self._worlds.values():
            worlds.close()
