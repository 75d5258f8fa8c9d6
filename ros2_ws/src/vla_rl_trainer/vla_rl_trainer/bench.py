"""How fast everything is: the simulation, the policy, the learner, and the rollout that joins them.

    make bench           # or: python -m vla_rl_trainer.bench --out runs/bench --table

Every figure is the median of several repetitions after one that is thrown away; `summary.json` keeps the repetitions.
A sample is one observation with its chunk of actions. Policies are fresh: speed does not depend on what was learned.
"""

from __future__ import annotations

import dataclasses
import json
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from piper_twin.episode import Episode
from piper_twin.robot import DUAL_PIPER
from piper_twin.tasks import TASKS
from piper_twin.worlds import TwinConfig
from vla_policy.errors import VlaError
from vla_policy.fast_answers import accelerate
from vla_policy.normalization import DatasetStatistics, Statistics
from vla_policy.policy import VlaPolicy
from vla_policy.presets import PRESETS
from vla_policy.prompt import train_tokenizer
from vla_policy.provenance import provenance
from vla_rl_trainer.bench_worlds import WorldLoop, small_motions, worker_memory
from vla_rl_trainer.command import run_command
from vla_rl_trainer.config_checks import require_above, require_at_least
from vla_rl_trainer.devices import pick_device
from vla_rl_trainer.disk import write_atomically
from vla_rl_trainer.envs.process_env import available_cores
from vla_rl_trainer.envs.twin_env import TwinVectorEnv
from vla_rl_trainer.envs.vector_env import Observations
from vla_rl_trainer.learner import LearnerConfig, make_optimizer, update
from vla_rl_trainer.progress import Progress
from vla_rl_trainer.rollout import sampling
from vla_rl_trainer.trajectory import Group, Trajectory

TASK = "click_bell"
TEMPERATURE = 1.6
FEW_WORLDS, MANY_WORLDS = 8, 64
"""Worlds of one worker between which its memory is compared."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class BenchConfig:
    """What is measured, and for how long; the defaults are what `make bench` runs."""

    out: Path = Path("runs/bench")
    """Folder of summary.json."""
    seconds: float = 10.0
    """Of each measurement, shared by its repetitions; a single call that takes longer is never cut short."""
    num_repetitions: int = 5
    num_slots: int = 64
    """Worlds side by side."""
    num_workers: int | None = None
    """Simulation processes; one a core by default."""
    batch: int = 64
    """Observations a policy call, and chunks a forward and backward pass."""
    table: bool = False
    """Also measure the twin by workers and worlds."""
    table_workers: tuple[int, ...] = ()
    """Rows of that table; 1, 2, 4, ... up to the number of cores by default."""
    table_slots: tuple[int, ...] = (16, 64, 256)
    """Columns of that table."""
    warp_worlds: tuple[int, ...] | None = None
    """Worlds on mujoco_warp; 1024, 2048 and 4096 where CUDA is, none elsewhere by default."""

    def __post_init__(self) -> None:
        """Refuse what measures nothing."""
        require_above(self, 0.0, "seconds")
        require_at_least(self, 1, "num_repetitions", "num_slots")
        require_at_least(self, 2, "batch")
        if min((1 if self.num_workers is None else self.num_workers, *self.table_workers, *self.table_slots)) < 1:
            raise VlaError("workers and worlds count from 1; give at least 1 of each")


Work = Callable[[], tuple[float, float]]
"""Does a little; answers how much of what is counted, and the seconds it took."""


def rates(work: Work, config: BenchConfig) -> list[float]:
    """Units a second in each repetition, without the first."""
    return [_rate(work, config.seconds / config.num_repetitions) for _ in range(config.num_repetitions + 1)][1:]


def _rate(work: Work, seconds: float) -> float:
    done = spent = 0.0
    while spent < seconds:
        more, took = work()
        done += more
        spent += took
    return done / spent


def _timed(function: Callable[[], object], units: int) -> Work:
    def work() -> tuple[float, float]:
        started = time.perf_counter()
        function()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        return units, time.perf_counter() - started

    return work


def twin_chunks(config: BenchConfig, num_workers: int | None, num_slots: int) -> list[float]:
    """Chunks of 8 actions a second, three 128 px images each, under small random motions.

    Worlds are restarted one chunk before their horizon, outside the time that counts. Should one end earlier, its last
    chunk, for which no image is drawn, counts for nothing; its time does.
    """
    with TwinVectorEnv(num_slots, TwinConfig(), num_workers=num_workers) as env:
        loop = WorldLoop(env, TASK, small_motions(length=8), (TASKS[TASK].horizon - 1) // 8)

        def work() -> tuple[float, float]:
            lap = loop.lap()
            return lap.num_going_on, lap.step_s

        return rates(work, config)


def bytes_per_world(config: BenchConfig) -> list[float]:
    """Growth of a worker's resident memory from few to many worlds, its share of the images included."""
    found = []
    for _ in range(config.num_repetitions):
        with TwinVectorEnv(MANY_WORLDS, TwinConfig(), num_workers=1) as env:
            before = worker_memory(env, TASK, range(FEW_WORLDS))
            after = worker_memory(env, TASK, range(MANY_WORLDS))
        found.append((after - before) / (MANY_WORLDS - FEW_WORLDS))
    return found


def fresh_policy(preset: str) -> VlaPolicy:
    """An untrained policy that makes small motions, asked as in training."""
    rng = np.random.default_rng(0)
    rows = (rng.uniform(-size, size, (16, DUAL_PIPER.num_joints)) for size in (0.05, 1.0))
    action, proprio = (Statistics.of(row) for row in rows)
    described = DatasetStatistics(action=action, proprio=proprio, num_transitions=16, num_trajectories=1)
    texts = [text for task in TASKS.values() for text in task.instructions]
    config, tokenizer = PRESETS[preset](DUAL_PIPER), train_tokenizer(texts)
    policy = VlaPolicy.create(config, DUAL_PIPER, described, tokenizer, device=pick_device())
    accelerate(policy, "auto")
    return policy


def _generator(policy: VlaPolicy) -> torch.Generator:
    return torch.Generator(policy.device).manual_seed(0)


def random_observations(policy: VlaPolicy, batch: int) -> Observations:
    """Noise of the size that the policy sees in a rollout."""
    rng, size, texts = np.random.default_rng(0), policy.config.image_size, TASKS[TASK].instructions
    return Observations(
        rng.integers(0, 256, (batch, policy.config.num_cameras, size, size, 3), dtype=np.uint8),
        rng.uniform(-0.5, 0.5, (batch, policy.config.state_dim)).astype(np.float32),
        tuple(texts[row % len(texts)] for row in range(batch)),
    )


def policy_samples(config: BenchConfig, policy: VlaPolicy) -> list[float]:
    """Observations a second from arrays to joint targets: inputs, forward, sampling, decoding."""
    seen, generator = random_observations(policy, config.batch), _generator(policy)

    def sample() -> None:
        inputs = policy.inputs_from_arrays(seen.images_BCHW3, seen.state_BS, seen.instructions)
        policy.sample(inputs, seen.state_BS, TEMPERATURE, generator)

    return rates(_timed(sample, config.batch), config)


def learner_samples(config: BenchConfig, policy: VlaPolicy) -> list[float]:
    """Chunks a second through GRPO's update: one forward and backward pass, one optimiser step.

    In training several passes share one optimiser step, so this is a lower bound, close unless the pass is short.
    """
    tries = [Trajectory(Episode(TASK, 0), success=success) for success in (True, False)]
    owners = [tries[row % 2] for row in range(config.batch)]
    sampling(policy, TEMPERATURE, _generator(policy))(random_observations(policy, config.batch), owners)
    for one in tries:
        one.steps = [policy.config.chunk_length] * len(one.indices)
    group = Group(Episode(TASK, 0), tries)
    settings = LearnerConfig(num_minibatches=1, micro_batch=config.batch)
    optimizer, rng = make_optimizer(policy, settings), np.random.default_rng(0)
    return rates(_timed(lambda: update(policy, optimizer, [group], TEMPERATURE, settings, rng), config.batch), config)


def rollout_steps(config: BenchConfig, policy: VlaPolicy) -> list[float]:
    """Control steps a second of a policy that samples in the twin; restarting finished worlds is part of it."""
    length = policy.config.chunk_length
    twin = TwinConfig(image_size=policy.config.image_size)
    decide = sampling(policy, TEMPERATURE, _generator(policy))
    with TwinVectorEnv(config.num_slots, twin, num_workers=config.num_workers) as env:
        loop = WorldLoop(env, TASK, decide, -(-TASKS[TASK].horizon // length))

        def work() -> tuple[float, float]:
            lap = loop.lap()
            return lap.num_steps, lap.total_s

        return rates(work, config)


def measurements(config: BenchConfig) -> dict[str, Callable[[], list[float]]]:
    """Name of each figure in `summary.json`, and what measures it."""
    found = {
        "twin.chunks_per_s": lambda: twin_chunks(config, config.num_workers, config.num_slots),
        "twin.bytes_per_world": lambda: bytes_per_world(config),
    }
    for preset, rollout in (("tiny", "rollout"), ("small", "small.rollout")):
        found |= {
            f"{preset}.policy_samples_per_s": lambda name=preset: policy_samples(config, fresh_policy(name)),
            f"{preset}.learner_samples_per_s": lambda name=preset: learner_samples(config, fresh_policy(name)),
            f"{rollout}.control_steps_per_s": lambda name=preset: rollout_steps(config, fresh_policy(name)),
        }
    return found


def twin_table(config: BenchConfig) -> list[dict[str, float]]:
    """Chunks a second by workers and worlds; a worker without a world is no measurement and left out."""
    cores = available_cores()
    workers = config.table_workers or tuple(2**n for n in range(cores.bit_length()))
    pairs = [(count, slots) for count in workers for slots in config.table_slots if count <= slots]
    found = []
    with Progress("twin by workers and worlds", len(pairs)) as progress:
        for count, slots in pairs:
            chunks = statistics.median(twin_chunks(config, count, slots))
            found.append({"workers": count, "worlds": slots, "chunks_per_s": chunks})
            progress.advance(note=f"{count} x {slots}: {chunks:.0f} chunks/s")
    return found


def nested(figures: Mapping[str, float]) -> dict[str, Any]:
    """Dotted names as dictionaries within one another."""
    tree: dict[str, Any] = {}
    for name, value in figures.items():
        *path, leaf = name.split(".")
        branch = tree
        for key in path:
            branch = branch.setdefault(key, {})
        branch[leaf] = value
    return tree


def print_tables(summary: Mapping[str, Any]) -> None:
    """The figures, for a terminal."""
    table = Table(title=summary["hardware"])
    table.add_column("")
    for column in ("median", "lowest", "highest"):
        table.add_column(column, justify="right")
    for name, values in summary["repetitions"].items():
        table.add_row(name, *(f"{value:,.0f}" for value in (statistics.median(values), min(values), max(values))))
    console = Console()
    console.print(table)
    if "table" in summary:
        console.print(_grid(summary["table"]))


def _grid(rows: list[dict[str, float]]) -> Table:
    columns = list(dict.fromkeys(row["worlds"] for row in rows))
    table = Table("workers", *(f"{count} worlds" for count in columns), title="twin, chunks/s")
    for workers in dict.fromkeys(row["workers"] for row in rows):
        cells = {row["worlds"]: f"{row['chunks_per_s']:,.0f}" for row in rows if row["workers"] == workers}
        table.add_row(str(workers), *(cells.get(count, "-") for count in columns))
    return table


def main(config: BenchConfig) -> dict[str, Any]:
    """Measure everything; returns the summary."""
    from vla_rl_trainer import bench_warp  # which imports this module

    work, repetitions = measurements(config), {}
    with Progress("measuring", len(work)) as progress:
        for name, measure in work.items():
            repetitions[name] = measure()
            progress.advance(note=f"{name} {statistics.median(repetitions[name]):,.0f}")
    summary = nested({name: statistics.median(values) for name, values in repetitions.items()})
    summary["twin"] |= {"cores": available_cores(), "workers": config.num_workers or available_cores()}
    summary |= {"device": str(pick_device()), "repetitions": repetitions}
    if config.table:
        summary["table"] = twin_table(config)
    if worlds := bench_warp.default_worlds() if config.warp_worlds is None else config.warp_worlds:
        settings = bench_warp.WarpBenchConfig(worlds=worlds, seconds=config.seconds, grpo_episodes=0)
        summary |= list(bench_warp.measurements(settings))[-1]
    summary |= {name: value for name, value in provenance(0).items() if name != "seed"}
    write_atomically(config.out / "summary.json", json.dumps(summary, indent=2) + "\n")
    print_tables(summary)
    return summary


if __name__ == "__main__":
    run_command(main, BenchConfig)
