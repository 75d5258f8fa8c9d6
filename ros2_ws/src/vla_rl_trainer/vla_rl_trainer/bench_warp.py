"""How fast the twin is on mujoco_warp with a policy beside it, by the number of worlds.

    python -m vla_rl_trainer.bench_warp --worlds 1024 2048 4096        # on a GPU; part of `make bench` there
    python -m vla_rl_trainer.bench_warp --worlds 4 --preset tiny --warp.device cpu --seconds 1   # that it runs

Worlds, pictures and network share one device; pictures are never copied to the host. What is measured is sampling as in
training: two cohorts of worlds take turns, everything the learner needs is kept, episodes start at different ages and
are restarted when they end. Time by phase is measured apart, with the device waited for between phases, so phases add
up to more than a round takes. One whole step of GRPO is measured beside it, and the same
with the worlds on the CPU.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import json
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from piper_twin.episode import Episode
from piper_twin.mjwarp.device import Backend, WarpConfig, find_device, is_installed
from piper_twin.tasks import find_task
from piper_twin.worlds import ChunkOutcome, TwinConfig
from vla_policy.errors import VlaError
from vla_policy.fast_answers import Compile, accelerate
from vla_policy.policy import VlaPolicy
from vla_policy.provenance import provenance
from vla_rl_trainer.bench import fresh_policy
from vla_rl_trainer.bench_vla_iteration import IterationConfig, iteration
from vla_rl_trainer.command import run_command
from vla_rl_trainer.config_checks import require_above, require_at_least
from vla_rl_trainer.disk import write_atomically
from vla_rl_trainer.envs.vector_env import Observations
from vla_rl_trainer.envs.warp_env import WarpTwinVectorEnv
from vla_rl_trainer.learner import LearnerConfig
from vla_rl_trainer.rollout import run_episodes, sampling
from vla_rl_trainer.trajectory import Trajectory

TEMPERATURE = 1.6
NUM_WARM_UP = 3
"""Rounds that are not counted: memory is taken and graphs are recorded in them."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class WarpBenchConfig:
    """What is measured, and for how long."""

    out: Path = Path("runs/bench-warp")
    """Folder of summary.json."""
    worlds: tuple[int, ...] = (1024, 2048, 4096)
    """Side by side, one measurement each."""
    task: str = "click_bell"
    randomization: str = "standard"
    preset: str = "small"
    """Of the network."""
    seconds: float = 20.0
    """Of each measurement."""
    num_cohorts: int = 2
    """Parts of the worlds that take turns: one moves and is drawn while the policy thinks about another."""
    members: int = 8
    """Episodes of one seed, as in GRPO: they begin alike."""
    compile: Compile = "fused"
    """How the network is asked, and learns."""
    grpo_episodes: int = 1024
    """Of a step of GRPO, all side by side; 0: none is measured."""
    grpo_backends: tuple[Backend, ...] = ("warp", "mujoco")
    """On which it is."""
    micro_batch: int = 512
    """Chunks a pass of its learner."""
    warp: WarpConfig = dataclasses.field(default_factory=WarpConfig)

    def __post_init__(self) -> None:
        """Refuse what measures nothing."""
        require_above(self, 0.0, "seconds")
        require_at_least(self, 1, "members", "micro_batch", "num_cohorts")
        require_at_least(self, 0, "grpo_episodes")
        find_task(self.task)
        if not self.worlds or min(self.worlds) < 1:
            raise VlaError("worlds count from 1; give at least one number of them")


class Staggered:
    """Worlds whose first episodes are cut short at different ages, so that restarts are spread; steps are counted."""

    def __init__(self, env: WarpTwinVectorEnv, max_chunks: int) -> None:
        """Episodes of `env` end after `max_chunks` at the latest."""
        self.embodiment, self.num_slots = env.embodiment, env.num_slots
        self.steps = 0
        """Control steps that count, so far."""
        self.worlds = env.worlds
        self._env, self._max_chunks = env, max_chunks
        self._ages = np.zeros(env.num_slots, np.int64)
        self.stagger()

    def stagger(self) -> None:
        """The next episode of every world is cut short."""
        self._first_age = np.arange(self.num_slots) % self._max_chunks

    def reset(self, slots: Sequence[int], episodes: Sequence[Episode]) -> Observations:
        """As the environment's."""
        chosen = list(slots)
        self._ages[chosen], self._first_age[chosen] = self._first_age[chosen], 0
        return self._env.reset(slots, episodes)

    def step_chunk(self, slots: Sequence[int], actions_BKA: np.ndarray) -> tuple[Observations, ChunkOutcome]:
        """As the environment's."""
        return self.launch_chunk(slots, actions_BKA)()

    def launch_chunk(
        self, slots: Sequence[int], actions_BKA: np.ndarray
    ) -> Callable[[], tuple[Observations, ChunkOutcome]]:
        """As the environment's; episodes end at their age."""
        finish, chosen = self._env.launch_chunk(slots, actions_BKA), list(slots)

        def ended() -> tuple[Observations, ChunkOutcome]:
            seen, outcome = finish()
            self.steps += int(outcome.steps_B.sum())
            self._ages[chosen] += 1
            return seen, dataclasses.replace(outcome, done_B=outcome.done_B | (self._ages[chosen] >= self._max_chunks))

        return ended

    def close(self) -> None:
        """The environment is closed by who opened it."""


class Rollouts:
    """Sampling as in training, episode after episode, until it is told to end."""

    def __init__(self, envs: Sequence[Staggered], policy: VlaPolicy, config: WarpBenchConfig) -> None:
        """Worlds of several environments take turns."""
        self._envs, self._device = envs, policy.device
        self._sample = sampling(policy, TEMPERATURE, torch.Generator(policy.device).manual_seed(0))
        self._episodes = (Episode(config.task, number // config.members) for number in itertools.count())
        self.policy_s = 0.0
        """Spent on the policy [s], where phases are measured."""

    def run(self, goes_on: Callable[[], bool], *, timed: bool = False) -> None:
        """Ask `goes_on` before every decision; once it denies, what runs is brought to its end."""
        is_on = True

        def decide(observations: Observations, trajectories: Sequence[Trajectory]) -> np.ndarray:
            nonlocal is_on
            is_on = is_on and goes_on()
            if not timed:
                return self._sample(observations, trajectories)
            _wait(self._device)
            started = time.perf_counter()
            actions = self._sample(observations, trajectories)
            _wait(self._device)
            self.policy_s += time.perf_counter() - started
            return actions

        def on_finished(trajectory: Trajectory) -> Sequence[Episode]:
            trajectory.forget()
            return [next(self._episodes)] if is_on else ()

        for env in self._envs:
            env.stagger()
        count = sum(env.num_slots for env in self._envs)
        run_episodes(self._envs, decide, list(itertools.islice(self._episodes, count)), on_finished)


def measure(config: WarpBenchConfig, num_worlds: int) -> dict[str, Any]:
    """One row: control steps a second, memory, and the time of each phase."""
    device = find_device(config.warp.device)
    policy = fresh_policy(config.preset)
    accelerate(policy, config.compile)
    free = _free_memory(device)
    twin = TwinConfig(randomization=config.randomization, image_size=policy.config.image_size)
    max_chunks = -(-find_task(config.task).horizon // policy.config.chunk_length)
    with contextlib.ExitStack() as stack:
        shares = [len(part) for part in np.array_split(np.arange(num_worlds), min(config.num_cohorts, num_worlds))]
        opened = [stack.enter_context(WarpTwinVectorEnv(share, twin, config.warp)) for share in shares]
        envs = [Staggered(one, max_chunks) for one in opened]
        rollouts = Rollouts(envs, policy, config)
        speed = _speed(envs, rollouts, config.seconds)
        taken = free - _free_memory(device)
        return {
            "worlds": num_worlds,
            "control_steps_per_s": speed,
            "phases_ms": _phases(envs, rollouts),
            "bytes_per_world": taken / num_worlds if device.type == "cuda" else None,
        }


def _speed(envs: Sequence[Staggered], rollouts: Rollouts, seconds: float) -> float:
    """Control steps a second, the first rounds and the bringing to an end left out."""
    told: list[tuple[float, int]] = []

    def goes_on() -> bool:
        told.append((time.perf_counter(), sum(env.steps for env in envs)))
        counted = told[NUM_WARM_UP * len(envs) :]
        return len(counted) < 2 or counted[-1][0] - counted[0][0] < seconds

    rollouts.run(goes_on)
    (begin, before), (end, after) = told[NUM_WARM_UP * len(envs)], told[-1]
    return (after - before) / (end - begin)


def _phases(envs: Sequence[Staggered], rollouts: Rollouts, count: int = 3) -> dict[str, float]:
    """Mean time of each phase of a round of all worlds, each waited for [ms]; it is slower then."""
    told: list[dict[str, float]] = []

    def goes_on() -> bool:
        found = {name: sum(one.get(name, 0.0) for one in seconds) for name in set().union(*seconds)}
        told.append(found | {"policy": rollouts.policy_s, "round": time.perf_counter()})
        return len(told) < (1 + count) * len(envs)

    with contextlib.ExitStack() as stack:
        seconds = [stack.enter_context(env.worlds.timing()) for env in envs]
        rollouts.run(goes_on, timed=True)
    begin, end = told[len(envs) - 1], told[-1]  # all worlds have begun, and `count` rounds later
    return {name: 1000.0 * (value - begin.get(name, 0.0)) / count for name, value in sorted(end.items())}


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _free_memory(device: torch.device) -> int:
    return torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else 0


def grpo_step(config: WarpBenchConfig, backend: Backend) -> dict[str, Any]:
    """One step of GRPO over fresh worlds, rewards drawn; the step before it, as large, is not counted."""
    count = max(1, config.grpo_episodes // config.members)
    worlds = IterationConfig(
        task=config.task,
        num_groups=count,
        group_size=config.members,
        num_slots=count * config.members,
        backend=backend,
        warp=config.warp,
        num_warm_up_groups=count,
    )
    learner = LearnerConfig(micro_batch=config.micro_batch)
    return iteration(fresh_policy(config.preset), worlds, learner, config.compile)


def measurements(config: WarpBenchConfig) -> Iterator[dict[str, Any]]:
    """All figures so far, one more each time: rows of worlds, the most worlds at the top, then steps of GRPO."""
    found: dict[str, Any] = {}
    rows: list[dict[str, Any]] = []
    for count in sorted(config.worlds):
        rows.append(measure(config, count))
        found["warp"] = rows[-1] | {"rows": rows}
        yield found
    for backend in config.grpo_backends if config.grpo_episodes else ():
        found.setdefault("grpo_step", {})[backend] = grpo_step(config, backend)
        yield found


def default_worlds() -> tuple[int, ...]:
    """What is measured where nothing is said: nothing without CUDA or mujoco_warp."""
    return (1024, 2048, 4096) if torch.cuda.is_available() and is_installed() else ()


def main(config: WarpBenchConfig) -> dict[str, Any]:
    """Measure everything; returns the summary, which is written after every measurement."""
    told = {name: value for name, value in provenance(0).items() if name != "seed"}
    summary: dict[str, Any] = {}
    for summary in measurements(config):
        write_atomically(config.out / "summary.json", json.dumps(summary | told, indent=2) + "\n")
    print(json.dumps(summary, indent=2))
    return summary | told


if __name__ == "__main__":
    run_command(main, WarpBenchConfig)
