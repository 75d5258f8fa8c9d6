"""The processes of a cluster: worlds on one node, the policy that samples in them on another.

Plain classes: Ray makes actors of them (`source`), and calls their methods one after another.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from piper_twin.episode import Episode
from piper_twin.worlds import ChunkOutcome
from vla_policy.config import PolicyConfig
from vla_policy.embodiment import Embodiment
from vla_policy.fast_answers import accelerate
from vla_policy.policy import VlaPolicy
from vla_rl_trainer.cluster.weights import take_weights
from vla_rl_trainer.collect_statistics import CollectStatistics
from vla_rl_trainer.devices import pick_device
from vla_rl_trainer.envs.vector_env import Observations
from vla_rl_trainer.group_source import LocalSource
from vla_rl_trainer.ranks import Ranks
from vla_rl_trainer.surplus import pack, unpack

if TYPE_CHECKING:
    from vla_rl_trainer.train_grpo import TrainGrpoConfig


class Worlds:
    """A vector environment on a node with cores to spare."""

    def __init__(self, config: TrainGrpoConfig, policy: PolicyConfig) -> None:
        """Open the worlds that `policy` is to see."""
        self._stack = contextlib.ExitStack()
        workers = config.num_workers or config.cluster.cpus_per_worlds
        self._env = self._stack.enter_context(config.benchmark.open(policy, config.num_slots, workers))

    def reset(self, slots: Sequence[int], episodes: Sequence[Episode]) -> Observations:
        """See `VectorEnv`."""
        return self._env.reset(slots, episodes)

    def step_chunk(self, slots: Sequence[int], actions: npt.NDArray[np.float32]) -> tuple[Observations, ChunkOutcome]:
        """See `VectorEnv`."""
        return self._env.step_chunk(slots, actions)


class RemoteEnv:
    """A `VectorEnv` whose worlds are elsewhere; what is seen and done travels through Ray."""

    def __init__(self, worlds: Any, embodiment: Embodiment, num_slots: int) -> None:
        """Ask the actor `worlds`."""
        self.embodiment, self.num_slots = embodiment, num_slots
        self._worlds = worlds

    def reset(self, slots: Sequence[int], episodes: Sequence[Episode]) -> Observations:
        """See `VectorEnv`."""
        return _ask(self._worlds.reset, list(slots), list(episodes))

    def step_chunk(
        self, slots: Sequence[int], actions_BKA: npt.NDArray[np.float32]
    ) -> tuple[Observations, ChunkOutcome]:
        """See `VectorEnv`."""
        return _ask(self._worlds.step_chunk, list(slots), actions_BKA)

    def close(self) -> None:
        """The worlds end with their actor."""


def _ask(method: Any, *arguments: Any) -> Any:
    import ray

    return ray.get(method.remote(*arguments))


@dataclasses.dataclass(frozen=True, slots=True)
class Sampled:
    """What a rollout hands to the learner."""

    groups: bytes
    statistics: CollectStatistics
    state: dict[str, Any]
    """Of the source, after it."""
    surplus: bytes
    """Groups that it holds back for its next step."""


class Rollout:
    """A policy that samples, and always the weights that it is told to take."""

    def __init__(self, config: TrainGrpoConfig, rank: Ranks, worlds: Any) -> None:
        """Load the run's first policy; this is rollout `rank.own` of `rank.count`, in the worlds of an actor."""
        robot = config.benchmark.embodiment
        self._policy = VlaPolicy.load(config.checkpoint, pick_device(), robot=robot)
        size = config.learner.lora.size
        if size is not None and self._policy.adapted is None:
            self._policy.adapt(size)
        accelerate(self._policy, config.compile)
        env = RemoteEnv(worlds, robot, config.num_slots)
        self._source = LocalSource(config, self._policy, env, rank)
        self._version: int | None = None

    def take_over(self, state: dict[str, Any], surplus: bytes) -> None:
        """Go on from where a rollout of this rank was."""
        self._source.take_over(state, unpack(surplus))

    def attempt(self, version: int, weights: npt.NDArray[np.uint8], episodes: Sequence[Episode]) -> list[bool]:
        """See `GroupSource`."""
        self._take(version, weights)
        return self._source.attempt(episodes)

    def collect(self, step: int, num_groups: int, version: int, weights: npt.NDArray[np.uint8]) -> Sampled:
        """Sample this rollout's share of a step's groups with the weights of a version."""
        self._take(version, weights)
        groups, statistics = self._source.collect(step, num_groups, version)
        source = self._source
        return Sampled(pack(groups), statistics, source.state(), pack(source.collector.surplus))

    def _take(self, version: int, weights: npt.NDArray[np.uint8]) -> None:
        if version != self._version:
            take_weights(self._policy, weights)
            self._version = version
