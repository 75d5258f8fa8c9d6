"""Pretrain a base policy on play: broad, free data of the simulators, in which no benchmark task occurs.

The base stands for the web-scale pretraining of a real VLA. Without one, ten demonstrations of a task do not teach a
policy to see; with one, a single demonstration starts what RL then sharpens.

    python -m vla_rl_trainer.pretrain --out runs/base --num-episodes 4000 --sft.num-steps 20000
    python -m vla_rl_trainer.pretrain --suites libero_spatial libero_goal libero_10 --out runs/libero_base

collects the play episodes once (kept in the run folder), trains on them, and can be stopped and resumed at any time.
"""

from __future__ import annotations

import contextlib
import dataclasses
from pathlib import Path

from vla_policy.errors import VlaError
from vla_policy.policy import VlaPolicy
from vla_policy.presets import PRESETS
from vla_policy.prompt import train_tokenizer
from vla_rl_trainer.benchmarks.libero import LiberoOptions
from vla_rl_trainer.benchmarks.playground import LiberoPlayground, Playground, TwinPlayground
from vla_rl_trainer.command import find, run_command
from vla_rl_trainer.config_checks import require_at_least
from vla_rl_trainer.dataset import FrameTable
from vla_rl_trainer.demonstrations import Player, expert_demonstrations
from vla_rl_trainer.devices import pick_device
from vla_rl_trainer.disk import refuse_full_disk
from vla_rl_trainer.progress import Progress
from vla_rl_trainer.run_folder import Run
from vla_rl_trainer.sft import SftConfig, SftTrainer, statistics_of, train_in_run

SHARD_EPISODES = 256
"""Play episodes a file."""
LOOK_EVERY = 4
"""Control steps from image to image: neighbouring frames teach nearly the same, and images are what costs."""
MAY_DIFFER = ("out", "play", "num_workers", "libero.cache")


@dataclasses.dataclass(frozen=True, kw_only=True)
class PretrainConfig:
    """Pretraining on play."""

    out: Path = Path("runs/base")
    """Run folder."""
    preset: str = "tiny"
    """Size of the network: tiny or small."""
    num_episodes: int = 3000
    """Play episodes, spread evenly over all skills and solids; rounded to whole files of about 256."""
    play: Path | None = None
    """Where the play episodes are kept; in the run folder by default. Several runs may share them."""
    suites: tuple[str, ...] = ()
    """LIBERO's suites, or single tasks, whose scenes are played in, those of later tests left out; the twin if none."""
    randomization: str = "standard"
    """Of the twin: off, standard or wide."""
    libero: LiberoOptions = dataclasses.field(default_factory=LiberoOptions)
    """How LIBERO's worlds are drawn; the arm always starts away from home."""
    seed: int = 0
    num_workers: int | None = None
    """Simulation processes; one a core by default."""
    sft: SftConfig = dataclasses.field(
        default_factory=lambda: SftConfig(num_steps=20_000, batch_size=256, learning_rate=1e-3, shift=0)
    )
    checkpoint_every: int = 2_000
    """Steps between checkpoints."""

    def __post_init__(self) -> None:
        """Refuse what would fail only after hours of collecting."""
        require_at_least(self, 1, "num_episodes", "checkpoint_every")
        find(PRESETS, self.preset, "preset")
        if not self.suites and self.libero != LiberoOptions():
            raise VlaError("options of libero were given, but none of its suites; name one with --suites")

    @property
    def playground(self) -> Playground:
        """Where it plays.

        Raises:
            VlaError: a suite or the randomization does not exist.
        """
        return LiberoPlayground(self.suites, self.libero) if self.suites else TwinPlayground(self.randomization)


def collect(run: Run, config: PretrainConfig, image_size: int) -> FrameTable:
    """The play episodes as one table; shards that are there already are read instead of collected.

    Raises:
        VlaError: a shard is damaged or was made for another preset; the message names it.
    """
    folder = config.play or run.path / "play"
    folder.mkdir(parents=True, exist_ok=True)
    ground = config.playground
    num_shards = max(1, round(config.num_episodes / SHARD_EPISODES))
    tables = []
    with contextlib.ExitStack() as stack:
        env: Player | None = None
        size = _per_task(ground) * len(ground.tasks)
        progress = stack.enter_context(Progress("play episodes", num_shards * size))
        for shard in range(num_shards):
            file = folder / f"shard_{shard:03d}.npz"
            if not file.exists():
                env = env or stack.enter_context(ground.open(image_size, config.num_workers))
                _collect_shard(env, ground, shard, progress).save(file)
            else:
                progress.advance(size)
            tables.append(_load_shard(file, image_size))
    return FrameTable.concatenate(tables)


def _load_shard(file: Path, image_size: int) -> FrameTable:
    table = FrameTable.load(file)
    if table.images_NCHW3.shape[2] != image_size:
        raise VlaError(
            f"{file} holds images of {table.images_NCHW3.shape[2]} px, this preset is trained on {image_size} px; "
            "choose another --play"
        )
    return table


def _per_task(ground: Playground) -> int:
    return -(-SHARD_EPISODES // len(ground.tasks))


def _collect_shard(env: Player, ground: Playground, shard: int, progress: Progress) -> FrameTable:
    found = []
    for episode, demonstration in expert_demonstrations(
        env,
        ground.tasks,
        _per_task(ground),
        split="pretraining",
        first_seed=shard * 1000,
        look_every=LOOK_EVERY,
        max_tries=ground.max_tries,
        leave_out=True,
    ):
        found.append(demonstration)
        progress.advance(note=episode.task)
    if not found:
        raise VlaError(f"no play succeeded in {', '.join(ground.tasks)}; choose other --suites")
    return FrameTable.from_demonstrations(found, ground.embodiment)


def main(config: PretrainConfig) -> Path:
    """Collect, train; returns the folder of the trained base."""
    ground = config.playground
    network = ground.network(config.preset)
    usual = dataclasses.asdict(PretrainConfig())
    with Run.open_or_create(config.out, dataclasses.asdict(config), MAY_DIFFER, usual) as run:
        with refuse_full_disk(run.path):
            table = collect(run, config, network.image_size)
        statistics = statistics_of(table, ground.embodiment, network)
        policy = VlaPolicy.create(
            network,
            ground.embodiment,
            statistics,
            train_tokenizer(ground.texts()),
            seed=config.seed,
            device=pick_device(),
        )
        trainer = SftTrainer(policy, table, config.sft, config.seed)
        return train_in_run(run, trainer, config.checkpoint_every)


if __name__ == "__main__":
    run_command(main, PretrainConfig)
