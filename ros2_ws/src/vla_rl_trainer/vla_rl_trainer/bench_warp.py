"""How fast the twin is on mujoco_warp with a policy beside it, by the number of worlds.

    python -m vla_rl_trainer.bench_warp --worlds 1024 2048 4096        # on a GPU; part of `make bench` there
    python -m vla_rl_trainer.bench_warp --worlds 4 --preset tiny --warp.device cpu --seconds 1   # that it runs

Worlds, pictures and network share one device; pictures are never copied to the host. Episodes start at different ages
and are restarted when they end, which is part of the time. Time by phase is measured apart, with the device waited for
between phases, so phases add up to more than a round takes. One whole step of GRPO is measured beside it, and the same
with the worlds on the CPU.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from piper_twin.episode import Episode
from piper_twin.mjwarp.device import Backend, WarpConfig, find_device, is_installed
from piper_twin.tasks import find_task
from piper_twin.worlds import TwinConfig
from vla_policy.errors import VlaError
from vla_policy.fast_answers import Compile, accelerate
from vla_policy.policy import VlaPolicy
from vla_policy.provenance import provenance
from vla_rl_trainer.bench import fresh_policy
from vla_rl_trainer.bench_vla_iteration import IterationConfig, iteration
from vla_rl_trainer.command import run_command
from vla_rl_trainer.config_checks import require_above, require_at_least
from vla_rl_trainer.disk import write_atomically
from vla_rl_trainer.envs.warp_env import WarpTwinVectorEnv
from vla_rl_trainer.learner import LearnerConfig

TEMPERATURE = 1.6
NUM_WARM_UP = 2
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
        require_at_least(self, 1, "members", "micro_batch")
        require_at_least(self, 0, "grpo_episodes")
        find_task(self.task)
        if not self.worlds or min(self.worlds) < 1:
            raise VlaError("worlds count from 1; give at least one number of them")


class Round:
    """All worlds once: look, decide, step, restart what ended. Pictures stay on the device."""

    def __init__(self, env: WarpTwinVectorEnv, policy: VlaPolicy, config: WarpBenchConfig) -> None:
        """Start every world; the first episodes are cut short at different ages, so that restarts are spread."""
        self._env, self._policy = env, policy
        self._max_chunks = -(-find_task(config.task).horizon // policy.config.chunk_length)
        self._slots = list(range(env.num_slots))
        self._ages = np.arange(env.num_slots) % self._max_chunks
        self._episodes = (Episode(config.task, number // config.members) for number in itertools.count())
        self._generator = torch.Generator(policy.device).manual_seed(0)
        self._restart(self._slots)

    def _restart(self, slots: list[int]) -> None:
        if slots:
            self._env.worlds.reset(slots, [next(self._episodes) for _ in slots])

    def go(self) -> int:
        """One round; returns the control steps that count."""
        images, states = self._env.observe_tensors(self._slots)
        actions = self.decide(images, states.cpu().numpy())
        outcome = self._env.worlds.step_chunk(self._slots, actions)
        self._ages += 1
        ended = np.flatnonzero(outcome.done_B | (self._ages >= self._max_chunks))
        self._ages[ended] = 0
        self._restart(ended.tolist())
        return int(outcome.steps_B.sum())

    def decide(self, images: torch.Tensor, states: np.ndarray) -> np.ndarray:
        """Sampled joint targets."""
        instructions = [self._env.worlds.instruction(slot) for slot in self._slots]
        inputs = self._policy.inputs_from_arrays(images, states, instructions)
        return self._policy.sample(inputs, states, TEMPERATURE, self._generator).actions_BKA


def measure(config: WarpBenchConfig, num_worlds: int) -> dict[str, Any]:
    """One row: control steps a second, memory, and the time of each phase."""
    device = find_device(config.warp.device)
    policy = fresh_policy(config.preset)
    accelerate(policy, config.compile)
    free = _free_memory(device)
    twin = TwinConfig(randomization=config.randomization, image_size=policy.config.image_size)
    with WarpTwinVectorEnv(num_worlds, twin, config.warp) as env:
        rounds = Round(env, policy, config)
        for _ in range(NUM_WARM_UP):
            rounds.go()
        taken = free - _free_memory(device)
        steps = spent = 0.0
        while spent < config.seconds:
            started = time.perf_counter()
            steps += rounds.go()
            spent += time.perf_counter() - started
        row = {"worlds": num_worlds, "control_steps_per_s": steps / spent, "phases_ms": _phases(env, rounds)}
        return row | {"bytes_per_world": taken / num_worlds if device.type == "cuda" else None}


def _phases(env: WarpTwinVectorEnv, rounds: Round, count: int = 3) -> dict[str, float]:
    """Mean time of each phase of a round [ms]."""
    with env.worlds.timing() as seconds:
        started = time.perf_counter()
        for _ in range(count):
            rounds.go()
        total = time.perf_counter() - started
    images, states = env.observe_tensors(range(env.num_slots))
    started = time.perf_counter()
    rounds.decide(images, states.cpu().numpy())
    policy = time.perf_counter() - started
    found = {name: 1000.0 * value / count for name, value in seconds.items()}
    return found | {"policy": 1000.0 * policy, "round": 1000.0 * total / count}


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
