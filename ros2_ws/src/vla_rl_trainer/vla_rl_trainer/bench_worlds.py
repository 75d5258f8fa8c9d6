"""Worlds that run for ever, so that the benchmark can time them chunk by chunk."""

from __future__ import annotations

import dataclasses
import itertools
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from piper_twin.episode import Episode
from vla_policy.errors import VlaError
from vla_rl_trainer.envs.process_env import ProcessVectorEnv
from vla_rl_trainer.envs.vector_env import Observations
from vla_rl_trainer.rollout import Decide
from vla_rl_trainer.trajectory import Trajectory

_MOTION = 0.01
"""Standard deviation of a control step's motion [rad], [m]."""


@dataclasses.dataclass(frozen=True, slots=True)
class Lap:
    """One chunk in every world."""

    num_going_on: int
    """Worlds that were not done after it, for which images were drawn."""
    num_steps: int
    """Control steps that count."""
    step_s: float
    """Simulation and images [s]."""
    total_s: float
    """The same with the policy, and with restarting worlds [s]."""


class WorldLoop:
    """All slots of an environment, each restarted after `max_chunks` or when its episode ends.

    The first episodes are cut short at different ages: restarts are spread evenly from then on, as they are in the
    middle of a long run.
    """

    def __init__(self, env: ProcessVectorEnv, task: str, decide: Decide, max_chunks: int) -> None:
        """Start every slot."""
        self._env = env
        self._decide = decide
        self._max_chunks = max_chunks
        self._episodes = (Episode(task, seed) for seed in itertools.count())
        self._ages = np.arange(env.num_slots) % max_chunks
        self._trajectories = [Trajectory(next(self._episodes)) for _ in range(env.num_slots)]
        self._seen = env.reset(range(env.num_slots), [one.episode for one in self._trajectories])

    def lap(self) -> Lap:
        """Decide and step once in every slot, then restart those whose time has come."""
        started = time.perf_counter()
        actions = self._decide(self._seen, self._trajectories)
        decided = time.perf_counter()
        self._seen, outcome = self._env.step_chunk(range(self._env.num_slots), actions)
        stepped = time.perf_counter()
        self._ages += 1
        self._restart(np.flatnonzero(outcome.done_B | (self._ages >= self._max_chunks)).tolist())
        return Lap(
            num_going_on=int((~outcome.done_B).sum()),
            num_steps=int(outcome.steps_B.sum()),
            step_s=stepped - decided,
            total_s=time.perf_counter() - started,
        )

    def _restart(self, slots: list[int]) -> None:
        if not slots:
            return
        for slot in slots:
            self._trajectories[slot] = Trajectory(next(self._episodes))
        fresh = self._env.reset(slots, [self._trajectories[slot].episode for slot in slots])
        self._ages[slots] = 0
        self._seen.images_BCHW3[slots] = fresh.images_BCHW3
        self._seen.state_BS[slots] = fresh.state_BS
        texts = dict(enumerate(self._seen.instructions)) | dict(zip(slots, fresh.instructions, strict=True))
        self._seen = dataclasses.replace(self._seen, instructions=tuple(texts.values()))


def small_motions(length: int) -> Decide:
    """Joint targets that wander about where the arms are."""
    rng = np.random.default_rng(0)

    def decide(observations: Observations, trajectories: Sequence[Trajectory]) -> np.ndarray:
        del trajectories
        state_BS = observations.state_BS
        steps = rng.normal(0.0, _MOTION, (len(state_BS), length, state_BS.shape[1])).cumsum(axis=1)
        return (state_BS[:, None] + steps).astype(np.float32)

    return decide


def worker_memory(env: ProcessVectorEnv, task: str, slots: Sequence[int]) -> int:
    """Resident memory of the only worker [B] once these worlds have started and run a chunk."""
    (process,) = env.process_ids
    seen = env.reset(slots, [Episode(task, slot) for slot in slots])
    env.step_chunk(slots, small_motions(length=8)(seen, []))
    return resident_memory(process)


def resident_memory(process: int) -> int:
    """Resident set of a process [B]; the shared images count in full."""
    file = Path(f"/proc/{process}/smaps_rollup")
    for line in file.read_text().splitlines():
        if line.startswith("Rss:"):
            return int(line.split()[1]) * 1024
    raise VlaError(f"{file} names no resident memory; measure on Linux")
