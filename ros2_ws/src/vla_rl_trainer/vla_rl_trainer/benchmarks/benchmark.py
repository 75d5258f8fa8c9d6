"""What training and evaluation ask of a benchmark: its robot, its tasks, its worlds."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol

from vla_policy.config import PolicyConfig, VlaConfig
from vla_policy.embodiment import Embodiment
from vla_rl_trainer.envs.vector_env import VectorEnv
from vla_rl_trainer.film import FilmStudio


class Benchmark(Protocol):
    """Some tasks of one robot, and how their worlds are drawn.

    An episode is (task, seed, split) everywhere; what world that is, is the benchmark's own affair, as long as the
    split "evaluation" shares none with the others.
    """

    embodiment: Embodiment
    tasks: tuple[str, ...]
    """Every task asked for; suites are spelt out."""
    suites: Mapping[str, tuple[str, ...]]
    """Tasks by suite; empty where there are none."""
    ignores: tuple[str, ...]
    """Fields of a command's configuration that are the other benchmark's: left out of `config.yaml`."""

    def network(self, preset: str) -> VlaConfig:
        """An untrained network of that size for this robot.

        Raises:
            VlaError: there is no such preset.
        """
        ...

    def base(self) -> Path:
        """The policy that fine-tuning starts from unless told otherwise.

        Raises:
            VlaError: none ships; says what to give.
        """
        ...

    def require_policy(self, config: PolicyConfig) -> None:
        """Refuse a policy that would move this robot wrongly.

        Raises:
            VlaError: says what kind fits.
        """
        ...

    def open(self, config: PolicyConfig, num_slots: int, num_workers: int | None) -> AbstractContextManager[VectorEnv]:
        """Worlds of all tasks, seen as a policy of this configuration sees them.

        Args:
            config: Of the policy.
            num_slots: Worlds side by side.
            num_workers: Processes; one a core when None.
        """
        ...

    def film_studio(self, config: PolicyConfig) -> FilmStudio:
        """Films single episodes, seen as a policy of this configuration sees them."""
        ...

    def num_evaluation_episodes(self, wanted: int | None) -> int:
        """Episodes of each task in an evaluation; None asks for the usual number.

        Raises:
            VlaError: there are not that many worlds.
        """
        ...

    def conditions(self) -> dict[str, Any]:
        """What decides how hard the worlds are, for `summary.json`: results of other conditions do not compare."""
        ...

    def conditions_line(self) -> str:
        """The same for people."""
        ...

    def instructions(self) -> Mapping[str, str]:
        """What the policy is told, by task, where the task's name does not say it; the worlds must have been opened."""
        ...

    def collect(self, out: Path, num_demos: int, *, image_size: int, seed: int, num_workers: int | None) -> None:
        """Record scripted demonstrations into a new dataset.

        Args:
            out: Folder of the dataset, which must not exist.
            num_demos: Of each task.
            image_size: Side of the images of the policy to be trained [px].
            seed: Which worlds they are shown in.
            num_workers: Processes; one a core when None.
        """
        ...
