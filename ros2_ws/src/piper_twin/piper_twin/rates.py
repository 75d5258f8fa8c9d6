"""How often each task's scripted expert succeeds, and how long it takes: the first thing to look at in a new task.

    python -m piper_twin.rates --tasks click_bell pick_bottle --num-seeds 200 --randomization standard

With `--out` the counts go to a file too, from which `suite_page` writes docs/suite.md. Physics only, no images; the
same seeds give the same table for any number of processes.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import NoReturn, TypeVar

import tyro
from rich.console import Console
from rich.progress import track
from rich.table import Table

from piper_twin.demonstrate import demonstrate
from piper_twin.episode import Episode
from piper_twin.exit_codes import exit_after
from piper_twin.tasks import TASKS, find_task
from piper_twin.wilson import wilson_interval
from piper_twin.worlds import TwinConfig, WorldBatch
from vla_policy.errors import VlaError

Found = TypeVar("Found")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class RatesConfig:
    """Which experts, in which worlds."""

    tasks: tuple[str, ...] = tuple(TASKS)
    num_seeds: int = 200
    """Worlds of each task."""
    first_seed: int = 0
    randomization: str = "standard"
    """off, standard or wide."""
    split: str = "demonstration"
    """Random streams the worlds are drawn from."""
    num_workers: int | None = None
    """Processes; one a core by default."""
    out: Path | None = None
    """JSON file for the counts and the command that gives them."""

    def __post_init__(self) -> None:
        """Refuse what names no worlds."""
        if not self.tasks:
            raise VlaError("no task was given; name at least one with --tasks")
        for task in self.tasks:
            find_task(task)
        if self.num_seeds < 1 or (self.num_workers is not None and self.num_workers < 1):
            raise VlaError("num_seeds and num_workers count from 1; give at least 1")
        if self.out is not None and not self.out.parent.is_dir():
            raise VlaError(f"there is no folder {self.out.parent} for the counts; make it first")
        TwinConfig(randomization=self.randomization)
        Episode(self.tasks[0], self.first_seed, self.split)


@dataclasses.dataclass(frozen=True, slots=True)
class Try:
    """One episode of an expert."""

    task: str
    success: bool
    num_steps: int
    """Control steps until success or the end of the plan; 0 when the plan leads out of the arms' reach."""


@dataclasses.dataclass(frozen=True, slots=True)
class ExpertRate:
    """All episodes of one expert."""

    task: str
    tries: tuple[Try, ...]

    @property
    def num_successes(self) -> int:
        """Solved episodes."""
        return sum(one.success for one in self.tries)

    @property
    def num_unreachable(self) -> int:
        """Episodes in which the expert found no way for the arms."""
        return sum(one.num_steps == 0 for one in self.tries)

    @property
    def interval(self) -> tuple[float, float]:
        """95 % interval of the success rate."""
        return wilson_interval(self.num_successes, len(self.tries))

    @property
    def mean_steps(self) -> float | None:
        """Control steps to success, None when there was none."""
        steps = [one.num_steps for one in self.tries if one.success]
        return sum(steps) / len(steps) if steps else None


def expert_rates(config: RatesConfig) -> list[ExpertRate]:
    """Let every expert try its worlds.

    Raises:
        VlaError: a process was killed.
    """
    seeds = range(config.first_seed, config.first_seed + config.num_seeds)
    tasks = tuple(dict.fromkeys(config.tasks))
    episodes = [Episode(task, seed, config.split) for task in tasks for seed in seeds]
    run = functools.partial(_try, randomization=config.randomization)
    with spread(run, episodes, config.num_workers) as found:
        tries = list(with_progress(found, len(episodes)))
    return [ExpertRate(task, tuple(one for one in tries if one.task == task)) for task in tasks]


@contextlib.contextmanager
def spread(
    run: Callable[[Episode], Found], episodes: Sequence[Episode], num_workers: int | None
) -> Iterator[Iterable[Found]]:
    """`run` of every episode, in their order, as it comes in from `num_workers` processes; one a core when None.

    Raises:
        VlaError: a process was killed.
    """
    num_workers = min(len(episodes), num_workers or len(os.sched_getaffinity(0)))
    if num_workers == 1:
        yield map(run, episodes)
        return
    pool = ProcessPoolExecutor(num_workers, multiprocessing.get_context("spawn"), _leave_ctrl_c_to_the_parent)
    try:
        yield pool.map(run, episodes, chunksize=4)
    except BrokenProcessPool as error:
        raise VlaError("a process was killed; look for a full memory (dmesg), or take fewer --num-workers") from error
    finally:
        pool.shutdown(cancel_futures=True)


def _try(episode: Episode, randomization: str) -> Try:
    demonstration = demonstrate(one_world(randomization), episode, look_every=None)
    return Try(episode.task, demonstration.success, len(demonstration.state_TS))


@functools.cache
def one_world(randomization: str) -> WorldBatch:
    """One world for all episodes of this process."""
    return WorldBatch(1, TwinConfig(randomization=randomization, images=False))


def _leave_ctrl_c_to_the_parent() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def with_progress(tries: Iterable[Found], total: int) -> Iterable[Found]:
    """The same, with a bar on a terminal."""
    return track(tries, "experts", total, console=Console(stderr=True), disable=not sys.stderr.isatty())


def table_of(rates: Sequence[ExpertRate]) -> Table:
    """The result, for a terminal."""
    table = Table(title="scripted experts; steps are those to success")
    table.add_column("task", no_wrap=True)
    for column in ("success", "95 %", "worlds", "no way", "steps", "horizon"):
        table.add_column(column, justify="right", no_wrap=True)
    for rate in rates:
        low, high = rate.interval
        table.add_row(
            rate.task,
            f"{rate.num_successes / len(rate.tries):.1%}",
            f"{low:.0%} .. {high:.0%}",
            str(len(rate.tries)),
            str(rate.num_unreachable),
            "-" if rate.mean_steps is None else f"{rate.mean_steps:.0f}",
            str(find_task(rate.task).horizon),
        )
    return table


def write_rates(config: RatesConfig, rates: Sequence[ExpertRate]) -> None:
    """Write the counts to `config.out`, with the command that gives them again; nothing when that is None."""
    if config.out is None:
        return
    found = [
        {
            "task": rate.task,
            "num_successes": rate.num_successes,
            "num_worlds": len(rate.tries),
            "mean_steps": rate.mean_steps,
        }
        for rate in rates
    ]
    tasks = "" if config.tasks == tuple(TASKS) else f"--tasks {' '.join(config.tasks)} "
    command = (
        f"python -m piper_twin.rates {tasks}--num-seeds {config.num_seeds} --first-seed {config.first_seed} "
        f"--randomization {config.randomization} --split {config.split}"
    )
    config.out.write_text(json.dumps({"command": command, "rates": found}, indent=2) + "\n", encoding="utf-8")


def _measure() -> None:
    config = tyro.cli(RatesConfig)
    rates = expert_rates(config)
    Console().print(table_of(rates))
    write_rates(config, rates)


def main() -> NoReturn:
    """Measure what the command line asks for."""
    exit_after(_measure)


if __name__ == "__main__":
    main()
