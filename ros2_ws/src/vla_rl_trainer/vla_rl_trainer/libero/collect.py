"""Record scripted demonstrations of LIBERO's tasks into a dataset.

    python -m vla_rl_trainer.libero.collect --suites libero_object --num-demos 1 --out data/libero_object

starts from initial states that training may use, never from those held out for evaluation, and keeps what succeeds. It
can be stopped at any time: episodes wait in a hidden folder beside the dataset, and the same command goes on from
there. What came of every state is in `meta/collect_report.json`.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import cast

from rich.console import Console

from piper_twin.episode import Episode
from vla_policy.errors import VlaError
from vla_policy.provenance import provenance
from vla_rl_trainer.command import run_command
from vla_rl_trainer.config_checks import require_at_least, require_at_most
from vla_rl_trainer.dataset import DatasetWriter
from vla_rl_trainer.disk import write_atomically
from vla_rl_trainer.envs.libero_env import compile_missing
from vla_rl_trainer.envs.process_env import ProcessVectorEnv
from vla_rl_trainer.libero.cache import default_cache
from vla_rl_trainer.libero.demonstrate import FIRST, WAYS, ScriptedDemonstration
from vla_rl_trainer.libero.embodiment import LIBERO_PANDA
from vla_rl_trainer.libero.found_episodes import FoundEpisodes
from vla_rl_trainer.libero.protocol import NUM_TRAIN_STATES, Visuals, drawn_size
from vla_rl_trainer.libero.scene import LiberoConfig
from vla_rl_trainer.libero.script_env import SPLIT, script_env, train_episodes
from vla_rl_trainer.libero.suites import expand
from vla_rl_trainer.libero.tries import Try, summarise, table_of
from vla_rl_trainer.progress import Progress

REPORT = "meta/collect_report.json"
"""In the dataset."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class LiberoCollectConfig:
    """Recording scripted demonstrations."""

    out: Path
    """Dataset folder, which must not exist."""
    suites: tuple[str, ...] = ("libero_object", "libero_spatial")
    """Suites, or single tasks such as libero_object/3."""
    num_demos: int = 1
    """Successful demonstrations of each task; fewer where the script fails from too many states."""
    first_seed: int = 0
    """Initial state of the first one; the others follow, after the last one the first."""
    image_size: int = 128
    """Side of the images [px]: that of the policy to be trained, or a multiple of it."""
    visuals: Visuals = "lean"
    """stock: images as the benchmark draws them, at a tenth of the speed."""
    num_workers: int | None = None
    """Simulation processes; one a core by default."""
    cache: Path | None = None
    """Folder of the compiled tasks; LIBERO_CACHE, else the user's cache by default."""

    def __post_init__(self) -> None:
        """Refuse what cannot be recorded."""
        require_at_least(self, 1, "num_demos")
        require_at_most(self, NUM_TRAIN_STATES, "num_demos")
        require_at_least(self, 0, "first_seed")
        if self.num_workers is not None:
            require_at_least(self, 1, "num_workers")
        if not self.tasks:
            raise VlaError("no task was given; name a suite or a task with --suites")
        if len(set(self.tasks)) < len(self.tasks):
            raise VlaError("a task was given twice; name each once")

    @property
    def tasks(self) -> tuple[str, ...]:
        """Every task asked for."""
        return expand(self.suites)

    @property
    def worlds(self) -> LiberoConfig:
        """How they are drawn: as a policy with images of this size sees them."""
        return LiberoConfig(
            visuals=self.visuals,
            image_size=self.image_size,
            render_size=drawn_size(self.image_size),
            cache=self.cache or default_cache(),
        )


def collect(config: LiberoCollectConfig, store: FoundEpisodes) -> list[Try]:
    """Fill the store until every task has its demonstrations, or no state is left; what came of each state tried."""
    waiting = {task: list(train_episodes(task, config.first_seed)) for task in config.tasks}
    missing = dict.fromkeys(config.tasks, config.num_demos)
    tries: list[Try] = []
    with (
        script_env(config.worlds, config.num_workers) as env,
        Progress("demonstrations", len(config.tasks) * config.num_demos) as progress,
    ):
        while any(missing[task] and waiting[task] for task in config.tasks):
            chosen: list[Episode] = []
            for task in config.tasks:
                chosen += waiting[task][: missing[task]]
                del waiting[task][: missing[task]]
            for one in _tries(env, store, chosen):
                tries.append(one)
                missing[one.task] -= one.success
                progress.advance(int(one.success), note=one.task)
    return sorted(tries, key=lambda one: (config.tasks.index(one.task), one.state))


def _tries(env: ProcessVectorEnv, store: FoundEpisodes, episodes: list[Episode]) -> Iterator[Try]:
    """Play what the store does not have, as many at a time as memory shall hold."""
    size = 2 * env.num_workers
    for first in range(0, len(episodes), size):
        batch = episodes[first : first + size]
        new = [episode for episode in batch if episode not in store]
        for episode, found in zip(new, env.demonstrate(new), strict=True):
            store.add(episode, cast("ScriptedDemonstration", found))
        yield from (store.outcome(episode) for episode in batch)


def write_dataset(config: LiberoCollectConfig, store: FoundEpisodes, tries: list[Try]) -> None:
    """Write the successes, and the report.

    Raises:
        VlaError: there are none.
    """
    solved = [one for one in tries if one.success]
    if not solved:
        raise VlaError(f"the script failed in all {len(tries)} episodes it tried; nothing was recorded")
    with (
        DatasetWriter(config.out, LIBERO_PANDA, images="image") as writer,
        Progress("writing", len(solved)) as progress,
    ):
        for one in solved:
            writer.add(store.read(Episode(one.task, one.state, SPLIT)))
            progress.advance(note=one.task)
    report = {"tasks": summarise(tries), "visuals": config.visuals, **provenance(config.first_seed)}
    write_atomically(config.out / REPORT, json.dumps(report, indent=2) + "\n")


def main(config: LiberoCollectConfig) -> None:
    """Record, or go on recording; tell what came of every state."""
    if config.out.exists():
        raise VlaError(f"dataset {config.out} already exists; choose another path or delete it")
    compile_missing(config.tasks, config.worlds)
    ways = {name: dataclasses.asdict(way) for name, way in WAYS.items()}
    options = {"image_size": config.image_size, "visuals": config.visuals, "ways": ways, "first": FIRST}
    with FoundEpisodes(config.out, options) as store:
        tries = collect(config, store)
        write_dataset(config, store, tries)
        store.discard()
    console = Console()
    console.print(table_of(summarise(tries)))
    found = sum(one.success for one in tries)
    wanted = len(config.tasks) * config.num_demos
    console.print(f"{config.out}: {found} of {wanted} demonstrations", markup=False, highlight=False)


if __name__ == "__main__":
    run_command(main, LiberoCollectConfig)
