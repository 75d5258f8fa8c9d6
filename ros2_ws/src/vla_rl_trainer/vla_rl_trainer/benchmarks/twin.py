"""The dual-Piper twin as a benchmark."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from piper_twin.mjwarp.device import WarpConfig, choose_backend, require_backend
from piper_twin.robot import DUAL_PIPER
from piper_twin.tasks import find_task
from piper_twin.worlds import TwinConfig, WorldBatch
from vla_policy.config import PolicyConfig, VlaConfig
from vla_policy.embodiment import Embodiment
from vla_policy.presets import PRESETS
from vla_rl_trainer import collect
from vla_rl_trainer.base import base_policy
from vla_rl_trainer.command import find
from vla_rl_trainer.envs.twin_env import TwinVectorEnv
from vla_rl_trainer.envs.warp_env import WarpTwinVectorEnv
from vla_rl_trainer.film import FilmStudio

NUM_EPISODES = 100
"""Of each task in an evaluation."""


class TwinBenchmark:
    """Tasks of `piper_twin`."""

    embodiment: Embodiment = DUAL_PIPER
    ignores: tuple[str, ...] = ("libero",)

    def __init__(
        self,
        tasks: Sequence[str] = (),
        randomization: str = "off",
        backend: str = "mujoco",
        warp: WarpConfig | None = None,
    ) -> None:
        """Choose tasks by name.

        Args:
            tasks: Of the twin.
            randomization: How worlds differ.
            backend: What steps and draws them: mujoco, warp, or auto.
            warp: How warp runs.

        Raises:
            VlaError: a task, the randomization or the backend does not exist.
        """
        self.tasks = tuple(tasks)
        self.suites: Mapping[str, tuple[str, ...]] = {}
        for task in self.tasks:
            find_task(task)
        self._randomization = TwinConfig(randomization=randomization).randomization
        self._backend, self._warp = require_backend(backend), warp

    def network(self, preset: str) -> VlaConfig:
        """See `Benchmark`."""
        return find(PRESETS, preset, "preset")(DUAL_PIPER)

    def base(self) -> Path:
        """See `Benchmark`."""
        return base_policy()

    def require_policy(self, config: PolicyConfig) -> None:
        """See `Benchmark`."""
        del config  # whatever was made for this robot has absolute joint targets

    def open(self, config: PolicyConfig, num_slots: int, num_workers: int | None) -> TwinVectorEnv | WarpTwinVectorEnv:
        """See `Benchmark`."""
        size = config.image_size_from(DUAL_PIPER.cameras[0].height)
        twin = TwinConfig(randomization=self._randomization, image_size=size)
        if choose_backend(self._backend) == "warp":
            return WarpTwinVectorEnv(num_slots, twin, self._warp)
        return TwinVectorEnv(num_slots, twin, num_workers=num_workers)

    def film_studio(self, config: PolicyConfig) -> FilmStudio:
        """See `Benchmark`."""
        twin = TwinConfig(randomization=self._randomization)
        is_warp = choose_backend(self._backend) == "warp"
        worlds = WarpTwinVectorEnv(1, twin, self._warp).worlds if is_warp else WorldBatch(1, twin)
        return FilmStudio(worlds, DUAL_PIPER, twin.image_size, config.state_dim)

    def num_evaluation_episodes(self, wanted: int | None) -> int:
        """See `Benchmark`."""
        return NUM_EPISODES if wanted is None else wanted

    def conditions(self) -> dict[str, Any]:
        """See `Benchmark`."""
        told = {"randomization": self._randomization}
        if self._backend == "mixed":
            return told | {"backend": "mixed"}
        return told | {"backend": "warp"} if choose_backend(self._backend) == "warp" else told

    def conditions_line(self) -> str:
        """See `Benchmark`."""
        return f"held-out worlds, randomization {self._randomization}"

    def instructions(self) -> Mapping[str, str]:
        """See `Benchmark`."""
        return {}

    def collect(self, out: Path, num_demos: int, *, image_size: int, seed: int, num_workers: int | None) -> None:
        """See `Benchmark`."""
        del image_size  # images are recorded as the cameras have them, and averaged down
        collect.main(
            collect.CollectConfig(
                out=out,
                tasks=self.tasks,
                num_demos=num_demos,
                first_seed=1000 * seed,
                randomization=self._randomization,
                num_workers=num_workers,
            )
        )
