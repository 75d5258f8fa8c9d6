"""Many short episodes one after the other: whether the workers' memory grows, and whether anything stops the run.

    python -m vla_rl_trainer.libero.endurance --suites libero_object --num-episodes 10000 --out runs/endurance.json

Every episode is reset from a recorded state of the next task in turn, acts at random, and is cut short: what leaks does
so when episodes begin and end and when images are drawn, not while physics goes on. Memory is compared from when every
task has been met, since each is read once and kept.
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

from piper_twin.episode import Episode
from vla_policy.errors import VlaError
from vla_policy.provenance import provenance
from vla_rl_trainer.bench_worlds import resident_memory
from vla_rl_trainer.command import run_command
from vla_rl_trainer.config_checks import require_above, require_at_least
from vla_rl_trainer.disk import write_atomically
from vla_rl_trainer.envs.libero_env import LiberoVectorEnv, compile_missing
from vla_rl_trainer.envs.process_env import ProcessVectorEnv, available_cores
from vla_rl_trainer.libero.cache import default_cache
from vla_rl_trainer.libero.scene import LiberoConfig
from vla_rl_trainer.libero.suites import HORIZONS, NUM_STATES, expand
from vla_rl_trainer.progress import Progress


@dataclasses.dataclass(frozen=True, kw_only=True)
class EnduranceConfig:
    """How many episodes, of what, and how much memory they may take."""

    suites: tuple[str, ...] = tuple(HORIZONS)
    """Suites, or single tasks such as libero_object/3; each is about 150 MB of every worker."""
    num_episodes: int = 10_000
    chunks: int = 2
    """Of an episode; images are drawn after each."""
    chunk: int = 2
    """Control steps of a chunk."""
    slots_per_worker: int = 8
    num_workers: int | None = None
    """Simulation processes; one a core by default."""
    image_size: int = 128
    """[px]."""
    num_looks: int = 20
    """Times that memory is read."""
    max_growth_mb: float = 32.0
    """How much the workers' memory, all together, may grow once every task has been met."""
    out: Path = Path("runs/endurance.json")
    """File for the numbers, replaced where there is one."""
    cache: Path = dataclasses.field(default_factory=default_cache)

    def __post_init__(self) -> None:
        """Refuse what shows nothing."""
        require_at_least(self, 1, "num_episodes", "chunks", "chunk", "slots_per_worker", "image_size")
        require_at_least(self, 2, "num_looks")
        require_above(self, 0.0, "max_growth_mb")
        if not self.tasks:
            raise VlaError("no task was given; name a suite or a task with --suites")

    @property
    def tasks(self) -> tuple[str, ...]:
        """Every task asked for."""
        return tuple(dict.fromkeys(expand(self.suites)))


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """The state of a run at one moment."""

    num_episodes: int
    """Begun and ended so far."""
    seconds: float
    megabytes: tuple[float, ...]
    """Resident memory of each worker."""
    num_dropped: int
    """Episodes whose physics broke down, or whose worker died."""
    num_replaced: int
    """Workers that died."""


def episodes_of(tasks: tuple[str, ...]) -> Iterator[Episode]:
    """Every recorded state of every task, again and again: the first state of all tasks first."""
    for number in itertools.count():
        yield Episode(tasks[number % len(tasks)], number // len(tasks) % NUM_STATES, "evaluation")


def endure(env: ProcessVectorEnv, config: EnduranceConfig) -> list[Look]:
    """Run the episodes, as many side by side as there are slots; each worker meets every task before the first look."""
    rng, episodes = np.random.default_rng(0), episodes_of(config.tasks)
    slots = list(range(env.num_slots))
    for task in config.tasks:
        one_each = slots[: env.num_workers]  # worker k owns slot k
        env.reset(one_each, [Episode(task, 0, "evaluation")] * env.num_workers)
        env.step_chunk(one_each, _actions(rng, env.num_workers, config.chunk))
    started, done, dropped = time.monotonic(), 0, 0
    looks = [Look(num_episodes=0, seconds=0.0, megabytes=_memory(env), num_dropped=0, num_replaced=env.num_restarts)]
    with Progress("episodes", config.num_episodes) as progress:
        while done < config.num_episodes:
            running = slots[: config.num_episodes - done]
            count = len(running)
            env.reset(running, list(itertools.islice(episodes, count)))
            done += count
            for _ in range(config.chunks):
                _, outcome = env.step_chunk(running, _actions(rng, len(running), config.chunk))
                dropped += int(outcome.dropped_B.sum())
                running = [slot for slot, over in zip(running, outcome.done_B, strict=True) if not over]
                if not running:
                    break
            if done >= len(looks) * config.num_episodes / config.num_looks:
                looks.append(
                    Look(
                        num_episodes=done, seconds=time.monotonic() - started, megabytes=_memory(env),
                        num_dropped=dropped, num_replaced=env.num_restarts,
                    )
                )  # fmt: skip
            progress.advance(count, note=f"{sum(looks[-1].megabytes):.0f} MB")
    return looks


def _actions(rng: np.random.Generator, count: int, length: int) -> np.ndarray:
    return rng.uniform(-1.0, 1.0, (count, length, 7)).astype(np.float32)


def _memory(env: ProcessVectorEnv) -> tuple[float, ...]:
    return tuple(resident_memory(process) / 1e6 for process in env.process_ids)


def growth(looks: list[Look]) -> float:
    """Of the workers' memory, all together, from the second look to the last [MB].

    The first batches fill what is allocated once: buffers, caches of the allocator, pages of the shared images.
    """
    return sum(looks[-1].megabytes) - sum(looks[1].megabytes)


def summarise(looks: list[Look], config: EnduranceConfig) -> dict[str, Any]:
    """The numbers, and what is wrong with them."""
    last, grown = looks[-1], growth(looks)
    wrong = [f"memory grew by {grown:.0f} MB, more than {config.max_growth_mb:.0f}"] * (grown > config.max_growth_mb)
    wrong += [f"{last.num_replaced} workers died"] * (last.num_replaced > 0)
    return {
        "num_episodes": last.num_episodes,
        "seconds": last.seconds,
        "growth_mb": grown,
        "num_dropped": last.num_dropped,
        "num_replaced": last.num_replaced,
        "wrong": wrong,
        "looks": [dataclasses.asdict(look) for look in looks],
    }


def main(config: EnduranceConfig) -> int:
    """Run, write, tell; 1 when memory grew too much or a worker died."""
    worlds = LiberoConfig(states="official", image_size=config.image_size, cache=config.cache)
    compile_missing(config.tasks, worlds)
    workers = config.num_workers or available_cores()
    with LiberoVectorEnv(workers * config.slots_per_worker, worlds, num_workers=workers) as env:
        summary = summarise(endure(env, config), config)
    about = {**dataclasses.asdict(config), "out": str(config.out), "cache": str(config.cache)}
    write_atomically(config.out, json.dumps({**summary, "config": about, **provenance(0)}, indent=2) + "\n")
    for name in ("num_episodes", "seconds", "growth_mb", "num_dropped", "num_replaced"):
        print(f"{name:>14} {summary[name]:.4g}")
    for sentence in summary["wrong"]:
        print(f"{sentence}; see looks in {config.out}")
    return 1 if summary["wrong"] else 0


if __name__ == "__main__":
    run_command(main, EnduranceConfig)
