"""Pretrain a base policy on play: broad, free data of the twin, in which no benchmark task occurs.

The base stands for the web-scale pretraining of a real VLA. Without one, ten demonstrations of a task do not teach a
policy to see; with one, a single demonstration starts what RL then sharpens.

    python -m vla_rl_trainer.pretrain --out runs/base --num-episodes 4000 --sft.num-steps 20000

collects the play episodes once (kept in the run folder), trains on them, and can be stopped and resumed at any time.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from piper_twin.robot import DUAL_PIPER
from piper_twin.tasks import TASKS
from piper_twin.tasks.play import PLAY_TASKS
from piper_twin.worlds import TwinConfig
from vla_policy.errors import VlaError
from vla_policy.policy import VlaPolicy
from vla_policy.presets import PRESETS
from vla_policy.prompt import train_tokenizer
from vla_rl_trainer.command import find, run_command
from vla_rl_trainer.config_checks import require_at_least
from vla_rl_trainer.dataset import FrameTable
from vla_rl_trainer.demonstrations import expert_demonstrations
from vla_rl_trainer.devices import pick_device
from vla_rl_trainer.disk import refuse_full_disk
from vla_rl_trainer.envs.twin_env import TwinVectorEnv
from vla_rl_trainer.progress import Progress
from vla_rl_trainer.run_folder import Run
from vla_rl_trainer.sft import SftConfig, SftTrainer, statistics_of, train_in_run

SHARD_EPISODES = 256
"""Play episodes a file."""
LOOK_EVERY = 4
"""Control steps from image to image: neighbouring frames teach nearly the same, and images are what costs."""


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
    randomization: str = "standard"
    """off, standard or wide."""
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


def collect(run: Run, config: PretrainConfig, image_size: int) -> FrameTable:
    """The play episodes as one table; shards that are there already are read instead of collected.

    Raises:
        VlaError: a shard is damaged or was made for another preset; the message names it.
    """
    folder = config.play or run.path / "play"
    folder.mkdir(parents=True, exist_ok=True)
    tasks = list(PLAY_TASKS)
    num_shards = max(1, round(config.num_episodes / SHARD_EPISODES))
    tables = []
    with contextlib.ExitStack() as stack:
        env: TwinVectorEnv | None = None
        progress = stack.enter_context(Progress("play episodes", num_shards * SHARD_EPISODES))
        for shard in range(num_shards):
            file = folder / f"shard_{shard:03d}.npz"
            if not file.exists():
                env = env or stack.enter_context(_env(config, image_size))
                _collect_shard(env, tasks, shard).save(file)
            tables.append(_load_shard(file, image_size))
            progress.advance(SHARD_EPISODES)
    return FrameTable.concatenate(tables)


def _env(config: PretrainConfig, image_size: int) -> TwinVectorEnv:
    twin = TwinConfig(randomization=config.randomization, image_size=image_size)
    return TwinVectorEnv(64, twin, num_workers=config.num_workers)


def _load_shard(file: Path, image_size: int) -> FrameTable:
    table = FrameTable.load(file)
    if table.images_NCHW3.shape[2] != image_size:
        raise VlaError(
            f"{file} holds images of {table.images_NCHW3.shape[2]} px, this preset is trained on {image_size} px; "
            "choose another --play"
        )
    return table


def _collect_shard(env: TwinVectorEnv, tasks: list[str], shard: int) -> FrameTable:
    per_task = -(-SHARD_EPISODES // len(tasks))
    found = expert_demonstrations(
        env, tasks, per_task, split="pretraining", first_seed=shard * 1000, look_every=LOOK_EVERY
    )
    return FrameTable.from_demonstrations([demonstration for _, demonstration in found], DUAL_PIPER)


def vocabulary() -> Iterator[str]:
    """Every text a policy of ours is told: what the text tokenizer is made from."""
    for task in (*TASKS.values(), *PLAY_TASKS.values()):
        rng = np.random.default_rng(0)
        for _ in range(12):
            yield task.scene(rng).instruction


def main(config: PretrainConfig) -> Path:
    """Collect, train; returns the folder of the trained base."""
    network = find(PRESETS, config.preset, "preset")(DUAL_PIPER)
    with Run.open_or_create(config.out, dataclasses.asdict(config), may_differ=("out", "play", "num_workers")) as run:
        with refuse_full_disk(run.path):
            table = collect(run, config, network.image_size)
        statistics = statistics_of(table, DUAL_PIPER, network)
        policy = VlaPolicy.create(
            network, DUAL_PIPER, statistics, train_tokenizer(vocabulary()), seed=config.seed, device=pick_device()
        )
        trainer = SftTrainer(policy, table, config.sft, config.seed)
        return train_in_run(run, trainer, config.checkpoint_every)


if __name__ == "__main__":
    run_command(main, PretrainConfig)
