"""Whether the scripted experts succeed as often on mujoco_warp as on MuJoCo, world by world.

    python -m piper_twin.mjwarp.parity --tasks click_bell stack_bowls --num-seeds 500

Both backends get the same worlds and the experts' plans for them, a command at a time.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from typing import NoReturn

import numpy as np
import numpy.typing as npt
import tyro
from rich.console import Console
from rich.table import Table

from piper_twin import demonstrate
from piper_twin.episode import Episode
from piper_twin.exit_codes import exit_after
from piper_twin.mjwarp.device import WarpConfig, require_warp
from piper_twin.mjwarp.worlds import WarpWorlds
from piper_twin.rates import ExpertRate, RatesConfig, Try, expert_rates, one_world, spread, with_progress
from piper_twin.tasks import find_task
from piper_twin.worlds import TwinConfig

Array = npt.NDArray[np.float64]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ParityConfig(RatesConfig):
    """Which experts, in which worlds, on both backends."""

    tasks: tuple[str, ...] = ("click_bell",)
    num_seeds: int = 500
    num_slots: int = 512
    """Worlds side by side on mujoco_warp."""
    warp: WarpConfig = dataclasses.field(default_factory=WarpConfig)


def plan_of(episode: Episode, randomization: str) -> Array:
    """The expert's commands (T, 14); none where it finds no way for the arms."""
    worlds = one_world(randomization)
    worlds.reset([0], [episode])
    return demonstrate.plan_of(worlds.world(0))


def play(episodes: Sequence[Episode], plans: Sequence[Array], worlds: WarpWorlds) -> list[Try]:
    """Let the plans of some episodes, at most one a slot, run side by side on mujoco_warp."""
    slots = range(len(episodes))
    worlds.reset(slots, episodes)
    length = [min(len(plan), find_task(one.task).horizon) for one, plan in zip(episodes, plans, strict=True)]
    success, done = np.zeros(len(episodes), dtype=bool), np.array([count == 0 for count in length])
    steps = np.zeros(len(episodes), dtype=int)
    for step in range(max(length)):
        going = [slot for slot in slots if not done[slot]]
        if not going:
            break
        outcome = worlds.step_chunk(going, np.stack([plans[slot][step, None] for slot in going]))
        success[going], steps[going] = outcome.success_B, step + 1
        done[going] = outcome.done_B | (np.array([length[slot] for slot in going]) <= step + 1)
    return [Try(one.task, bool(success[slot]), int(steps[slot])) for slot, one in enumerate(episodes)]


def warp_rates(config: ParityConfig) -> list[ExpertRate]:
    """`expert_rates` on mujoco_warp."""
    twin = TwinConfig(randomization=config.randomization, images=False)
    rates = []
    for task in dict.fromkeys(config.tasks):
        seeds = range(config.first_seed, config.first_seed + config.num_seeds)
        episodes = [Episode(task, seed, config.split) for seed in seeds]
        run = functools.partial(plan_of, randomization=config.randomization)
        with spread(run, episodes, config.num_workers) as found:
            plans = list(with_progress(found, len(episodes)))
        tries: list[Try] = []
        worlds = WarpWorlds(min(config.num_slots, len(episodes)), twin, config.warp)
        for first in range(0, len(episodes), worlds.num_slots):
            part = slice(first, first + worlds.num_slots)
            tries += play(episodes[part], plans[part], worlds)
        worlds.close()
        rates.append(ExpertRate(task, tuple(tries)))
    return rates


def table_of(mujoco: Sequence[ExpertRate], warp: Sequence[ExpertRate]) -> Table:
    """Both, task by task; whether their 95 % intervals overlap, and how many worlds end differently."""
    table = Table(title="scripted experts on both backends")
    for column in ("task", "mujoco", "95 %", "warp", "95 %", "overlap", "other result", "worlds"):
        table.add_column(column, justify="left" if column == "task" else "right", no_wrap=True)
    for one, two in zip(mujoco, warp, strict=True):
        (low, high), (other_low, other_high) = one.interval, two.interval
        differ = sum(a.success != b.success for a, b in zip(one.tries, two.tries, strict=True))
        table.add_row(
            one.task,
            f"{one.num_successes / len(one.tries):.1%}",
            f"{low:.1%} .. {high:.1%}",
            f"{two.num_successes / len(two.tries):.1%}",
            f"{other_low:.1%} .. {other_high:.1%}",
            "yes" if low <= other_high and other_low <= high else "NO",
            str(differ),
            str(len(one.tries)),
        )
    return table


def _measure() -> None:
    config = tyro.cli(ParityConfig)
    require_warp()
    Console().print(table_of(expert_rates(config), warp_rates(config)))


def main() -> NoReturn:
    """Measure what the command line asks for."""
    exit_after(_measure)


if __name__ == "__main__":
    main()
