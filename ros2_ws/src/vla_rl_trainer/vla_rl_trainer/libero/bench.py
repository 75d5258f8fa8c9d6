"""How fast LIBERO runs here, beside the benchmark's own environment on the same machine.

    make bench-libero    # or: python -m vla_rl_trainer.libero.bench --tasks libero_object/0 libero_spatial/0

A step is a control step of 50 ms. Ours draws two images at the end of every chunk of 8 steps, theirs after every step:
that is how each is used. Restarting finished worlds is part of ours. Every figure is the median of its repetitions.
"""

from __future__ import annotations

import dataclasses
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from piper_twin.episode import Episode
from vla_policy.errors import VlaError
from vla_policy.provenance import provenance
from vla_rl_trainer.bench_worlds import WorldLoop, worker_memory
from vla_rl_trainer.command import run_command
from vla_rl_trainer.config_checks import require_above, require_at_least
from vla_rl_trainer.disk import write_atomically
from vla_rl_trainer.envs.libero_env import LiberoVectorEnv
from vla_rl_trainer.envs.process_env import available_cores
from vla_rl_trainer.envs.vector_env import Observations
from vla_rl_trainer.libero import controller, stock
from vla_rl_trainer.libero.cache import default_cache, read_task
from vla_rl_trainer.libero.protocol import Visuals
from vla_rl_trainer.libero.suites import NUM_STATES, TaskName
from vla_rl_trainer.libero.worlds import LiberoConfig, LiberoWorlds
from vla_rl_trainer.progress import Progress
from vla_rl_trainer.rollout import Decide
from vla_rl_trainer.trajectory import Trajectory

FEW_WORLDS, MANY_WORLDS = 8, 64
"""Worlds of one worker between which its memory is compared."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class LiberoBenchConfig:
    """What is measured, and for how long."""

    out: Path = Path("runs/bench-libero")
    """Folder of summary.json."""
    tasks: tuple[str, ...] = ("libero_object/0",)
    """The first one gives the headline figures."""
    seconds: float = 10.0
    """Of each measurement, shared by its repetitions."""
    num_repetitions: int = 3
    num_workers: int | None = None
    """Simulation processes, ours and theirs; one a core by default."""
    worlds_per_worker: int = 8
    chunk: int = 8
    """Control steps between two looks."""
    image_size: int = 128
    """[px]."""
    visuals: Visuals = "lean"
    stock: bool = True
    """Measure the benchmark's own environment too, where it is installed."""
    cache: Path = dataclasses.field(default_factory=default_cache)

    def __post_init__(self) -> None:
        """Refuse what measures nothing."""
        require_above(self, 0.0, "seconds")
        require_at_least(self, 1, "num_repetitions", "worlds_per_worker", "chunk", "image_size")
        if not self.tasks or (self.num_workers is not None and self.num_workers < 1):
            raise VlaError("nothing to measure; name a task, and give at least one worker")

    @property
    def processes(self) -> int:
        """Simulation processes."""
        return self.num_workers or available_cores()

    @property
    def worlds(self) -> LiberoConfig:
        """How the worlds are drawn."""
        return LiberoConfig(states="official", visuals=self.visuals, image_size=self.image_size, cache=self.cache)


def random_actions(length: int) -> Decide:
    """Uniform in all seven numbers, as the benchmark is measured."""
    rng = np.random.default_rng(0)

    def decide(observations: Observations, trajectories: Sequence[Trajectory]) -> np.ndarray:
        del trajectories
        return rng.uniform(-1.0, 1.0, (len(observations.instructions), length, 7)).astype(np.float32)

    return decide


def our_steps(config: LiberoBenchConfig, task: str) -> list[float]:
    """Control steps a second in each repetition, all processes together."""
    slots = config.processes * config.worlds_per_worker
    with LiberoVectorEnv(slots, config.worlds, num_workers=config.processes, max_chunk=config.chunk) as env:
        chunks = TaskName.parse(task).horizon // config.chunk
        loop = WorldLoop(env, task, random_actions(config.chunk), chunks)
        loop.lap()

        def once() -> float:
            steps = spent = 0.0
            while spent < config.seconds / config.num_repetitions:
                lap = loop.lap()
                steps, spent = steps + lap.num_steps, spent + lap.total_s
            return steps / spent

        return [once() for _ in range(config.num_repetitions)]


def stock_steps(config: LiberoBenchConfig, task: str) -> float | None:
    """Control steps a second of the benchmark's own environment, all processes together; None: not installed."""
    if not (config.stock and stock.is_installed()):
        return None
    # Several processes with threads of their own get into each other's way, theirs no less than ours.
    environment = os.environ | dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1") | {"LP_NUM_THREADS": "0"}
    words = ["-m", "vla_rl_trainer.libero.stock_speed", task, str(config.image_size), str(config.seconds)]
    running = [
        subprocess.Popen([sys.executable, *words], env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        for _ in range(config.processes)
    ]
    answers = [process.communicate()[0].decode().split() for process in running]
    if any(process.returncode for process in running):
        raise VlaError(f"the benchmark's own environment failed: run python {' '.join(words)} to see why")
    return sum(float(words[-1]) for words in answers)


def in_one_process(config: LiberoBenchConfig, task: str) -> dict[str, float]:
    """Milliseconds to open a compiled task, to start an episode, and to look at a world."""
    started = time.perf_counter()
    worlds = LiberoWorlds(1, config.worlds)
    worlds.scene(task)
    open_ms = 1e3 * (time.perf_counter() - started)
    images = np.zeros((1, 2, config.image_size, config.image_size, 3), dtype=np.uint8)

    def timed(function: Callable[[int], object]) -> float:
        function(0)
        times = []
        for seed in range(NUM_STATES):
            before = time.perf_counter()
            function(seed)
            times.append(1e3 * (time.perf_counter() - before))
        return statistics.median(times)

    reset_ms = timed(lambda seed: worlds.reset([0], [Episode(task, seed)]))
    look_ms = timed(lambda seed: worlds.images([0], images))
    worlds.close()
    return {"open_ms": open_ms, "reset_ms": reset_ms, "look_ms": look_ms}


def bytes_per_world(config: LiberoBenchConfig, task: str) -> float:
    """Growth of a worker's resident memory from few to many worlds, its share of the images included."""
    with LiberoVectorEnv(MANY_WORLDS, config.worlds, num_workers=1) as env:
        few = worker_memory(env, task, range(FEW_WORLDS))
        return (worker_memory(env, task, range(MANY_WORLDS)) - few) / (MANY_WORLDS - FEW_WORLDS)


def measure(config: LiberoBenchConfig, task: str) -> dict[str, Any]:
    """Every figure of one task."""
    repetitions = our_steps(config, task)
    ours, theirs = statistics.median(repetitions), stock_steps(config, task)
    return {
        "steps_per_s": ours,
        "stock_steps_per_s": theirs,
        "ratio": ours / theirs if theirs else None,
        **in_one_process(config, task),
        "bytes_per_world": bytes_per_world(config, task),
        "repetitions": repetitions,
        "assets": read_task(config.cache, TaskName.parse(task)).origin["assets"],
    }


def main(config: LiberoBenchConfig) -> dict[str, Any]:
    """Measure everything; returns the summary."""
    found: dict[str, dict[str, Any]] = {}
    with Progress("measuring LIBERO", len(config.tasks)) as progress:
        for task in config.tasks:
            found[task] = measure(config, task)
            progress.advance(note=f"{task} {found[task]['steps_per_s']:.0f} steps/s")
    summary = {
        **found[config.tasks[0]],
        "processes": config.processes,
        "visuals": config.visuals,
        "image_size": config.image_size,
        "chunk": config.chunk,
        "opengl": os.environ.get("MUJOCO_GL"),
        "controller": "compiled" if controller.IS_COMPILED else "plain Python",
        "tasks": found,
        **{name: value for name, value in provenance(0).items() if name != "seed"},
    }
    write_atomically(config.out / "summary.json", json.dumps(summary, indent=2) + "\n")
    for name in ("steps_per_s", "stock_steps_per_s", "ratio", "processes", "reset_ms", "look_ms", "bytes_per_world"):
        print(f"{name:>18} {summary[name]:.4g}" if summary[name] is not None else f"{name:>18} not measured")
    return summary


if __name__ == "__main__":
    run_command(main, LiberoBenchConfig)
