"""LIBERO as a benchmark. Whatever loads compiled code or asks for assets is imported where worlds are opened."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vla_policy.config import PolicyConfig, VlaConfig
from vla_policy.embodiment import Embodiment
from vla_policy.errors import VlaError
from vla_policy.presets import PRESETS
from vla_rl_trainer.command import find
from vla_rl_trainer.film import FilmStudio
from vla_rl_trainer.libero.embodiment import LIBERO_PANDA
from vla_rl_trainer.libero.perturbation import Perturbation
from vla_rl_trainer.libero.protocol import StateSplit, Visuals, drawn_size, num_evaluation_states, recorded_size
from vla_rl_trainer.libero.suites import TaskName, expand

if TYPE_CHECKING:
    from vla_rl_trainer.envs.libero_env import LiberoVectorEnv
    from vla_rl_trainer.libero.worlds import LiberoConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class LiberoOptions:
    """How LIBERO's worlds are drawn."""

    states: StateSplit = "held_out"
    """Initial states: held_out trains on the first 30 of a task and evaluates on the last 20; official uses all 50 for
    both, as publications do."""
    visuals: Visuals = "lean"
    """stock: images as the benchmark draws them, at a tenth of the speed."""
    perturbation: Perturbation = "none"
    """What is other than usual in every episode, by the ranges of LIBERO-plus: the camera, the light, the arm's first
    pose, or all of them."""
    cache: Path | None = None
    """Folder of the compiled tasks; LIBERO_CACHE, else the user's cache by default."""


class LiberoBenchmark:
    """Tasks of LIBERO's suites."""

    embodiment: Embodiment = LIBERO_PANDA
    ignores: tuple[str, ...] = ("randomization", "backend", "warp")

    def __init__(self, tasks: Sequence[str] = (), options: LiberoOptions | None = None) -> None:
        """Choose suites ("libero_object") or tasks ("libero_object/3").

        Raises:
            VlaError: a suite or task does not exist.
        """
        self.tasks = expand(tasks)
        suites = dict.fromkeys(TaskName.parse(task).suite for task in self.tasks)
        self.suites: Mapping[str, tuple[str, ...]] = {
            suite: tuple(task for task in self.tasks if TaskName.parse(task).suite == suite) for suite in suites
        }
        self._options = options or LiberoOptions()

    def network(self, preset: str) -> VlaConfig:
        """See `Benchmark`. Actions are motions, so nothing is added to them."""
        return dataclasses.replace(find(PRESETS, preset, "preset")(LIBERO_PANDA), action_frame="absolute")

    def base(self) -> Path:
        """See `Benchmark`."""
        raise VlaError("no base policy ships for LIBERO; give --preset small for a fresh network, or a --checkpoint")

    def require_policy(self, config: PolicyConfig) -> None:
        """See `Benchmark`."""
        if config.action_frame == "relative":
            raise VlaError(
                "this policy adds its actions to the state, but LIBERO's actions are motions already; train one with "
                'action_frame="absolute"'
            )

    def open(self, config: PolicyConfig, num_slots: int, num_workers: int | None) -> LiberoVectorEnv:
        """See `Benchmark`. Tasks that are not in the cache are compiled."""
        from vla_rl_trainer.envs.libero_env import LiberoVectorEnv, compile_missing

        worlds = self._worlds(config)
        compile_missing(self.tasks, worlds)
        return LiberoVectorEnv(num_slots, worlds, num_workers=num_workers)

    def film_studio(self, config: PolicyConfig) -> FilmStudio:
        """See `Benchmark`."""
        from vla_rl_trainer.envs.libero_env import compile_missing
        from vla_rl_trainer.libero.worlds import LiberoWorlds

        worlds = self._worlds(config)
        compile_missing(self.tasks, worlds)
        return FilmStudio(LiberoWorlds(1, worlds), LIBERO_PANDA, worlds.image_size, worlds.state_size)

    def worlds(self, image_size: int, *, fingers: bool = False) -> LiberoConfig:
        """How worlds are drawn for a policy that sees `image_size` [px], and whether its state has both fingers."""
        from vla_rl_trainer.libero.cache import default_cache
        from vla_rl_trainer.libero.worlds import LiberoConfig

        return LiberoConfig(
            states=self._options.states,
            visuals=self._options.visuals,
            perturbation=self._options.perturbation,
            image_size=image_size,
            render_size=drawn_size(image_size),
            fingers=fingers,
            cache=self._options.cache or default_cache(),
        )

    def _worlds(self, config: PolicyConfig) -> LiberoConfig:
        size = config.image_size_from(LIBERO_PANDA.cameras[0].height)
        return self.worlds(size, fingers=config.state_dim == LIBERO_PANDA.num_joints + 1)

    def num_evaluation_episodes(self, wanted: int | None) -> int:
        """See `Benchmark`."""
        available = num_evaluation_states(self._options.states)
        repeats = self._options.perturbation == "none"  # else each seed draws something else
        if wanted is not None and wanted > available and repeats:
            raise VlaError(
                f"num_episodes is {wanted}, but a task has {available} initial states to evaluate on "
                f"(states {self._options.states}); give at most {available}"
            )
        return available if wanted is None else wanted

    def conditions(self) -> dict[str, Any]:
        """See `Benchmark`."""
        return {
            "states": self._options.states,
            "visuals": self._options.visuals,
            "perturbation": self._options.perturbation,
            "assets": sorted({task.origin["assets"] for task in self._compiled().values()}),
        }

    def conditions_line(self) -> str:
        """See `Benchmark`."""
        told = self.conditions()
        states = "official states (training may have seen them)" if told["states"] == "official" else "held-out states"
        drawn = f"{states}, {told['visuals']} images, assets {', '.join(told['assets'])}"
        return drawn if told["perturbation"] == "none" else f"{drawn}, perturbed: {told['perturbation']}"

    def instructions(self) -> Mapping[str, str]:
        """See `Benchmark`."""
        return {name: task.instruction for name, task in self._compiled().items()}

    def _compiled(self) -> dict[str, Any]:
        from vla_rl_trainer.libero.cache import default_cache, read_task

        cache = self._options.cache or default_cache()
        return {task: read_task(cache, TaskName.parse(task)) for task in self.tasks}

    def collect(self, out: Path, num_demos: int, *, image_size: int, seed: int, num_workers: int | None) -> None:
        """See `Benchmark`. Shown from initial states that training may use."""
        from vla_rl_trainer.libero import collect

        collect.main(
            collect.LiberoCollectConfig(
                out=out,
                suites=self.tasks,
                num_demos=num_demos,
                first_seed=seed,
                image_size=recorded_size(image_size),
                visuals=self._options.visuals,
                num_workers=num_workers,
                cache=self._options.cache,
            )
        )
