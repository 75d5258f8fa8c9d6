"""Groups of one world for GRPO: run in halves, kept where their members differ."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np

from piper_twin.episode import Episode
from vla_policy.errors import VlaError
from vla_rl_trainer.allocation import TaskAllocator
from vla_rl_trainer.collect_statistics import CollectStatistics
from vla_rl_trainer.config_checks import require_at_least
from vla_rl_trainer.envs.vector_env import VectorEnv
from vla_rl_trainer.grpo import is_informative
from vla_rl_trainer.rollout import Decide, cohorts_of, run_episodes
from vla_rl_trainer.trajectory import Group, Trajectory


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class GroupConfig:
    """How groups are run and which are kept."""

    group_size: int = 8
    lower_bound: float = 0.1
    """Groups with a lower success rate are dropped."""
    upper_bound: float = 0.9
    """Groups with a higher success rate are dropped."""
    stop_decided: bool = True
    """Run half of a group first; if all of that half agree, stop the group: it would most likely be dropped."""
    max_groups: int = 512
    """Groups started in one step at most; a step that needs more goes on with what it has, and says so."""
    carry_surplus: bool = True
    """Informative groups beyond the number asked for open the next step; the paper throws them away."""

    def __post_init__(self) -> None:
        """Refuse groups that could never be kept."""
        require_at_least(self, 2, "group_size")
        require_at_least(self, 1, "max_groups")
        if not 0.0 <= self.lower_bound <= self.upper_bound <= 1.0:
            raise VlaError(
                f"bounds {self.lower_bound} and {self.upper_bound} keep no group; "
                "give 0 <= lower_bound <= upper_bound <= 1"
            )

    @property
    def first_part(self) -> int:
        """Members that are run before it is decided whether the others are."""
        return max(2, self.group_size // 2) if self.stop_decided else self.group_size


class GroupCollector:
    """Collects informative groups: started one after another, run in halves, dropped when all members agree."""

    def __init__(
        self,
        env: VectorEnv | Sequence[VectorEnv],
        config: GroupConfig,
        allocator: TaskAllocator,
        split: str = "train",
        stride: int = 1,
    ) -> None:
        """Groups run in `env` on every `stride`-th world of `split`, tasks as `allocator` draws them."""
        self._num_slots = sum(one.num_slots for one in cohorts_of(env))
        self._env = env
        self._config = config
        self._allocator = allocator
        self._split = split
        self._stride = stride
        self.next_seed = 0
        """Seed of the next group's world."""
        self.surplus: list[Group] = []
        """Informative groups beyond the number asked for; they open the next collection."""

    def collect(
        self, decide: Decide, num_groups: int, rng: np.random.Generator, policy_version: int = 0
    ) -> tuple[list[Group], CollectStatistics]:
        """Run groups until `num_groups` informative ones are there.

        Args:
            decide: The sampling policy.
            num_groups: Informative groups wanted.
            rng: Draws the tasks.
            policy_version: Number of the policy behind `decide`, kept in the groups it samples.

        Returns:
            The groups, those carried over first, and what they cost.
        """
        kept = list(self.surplus)
        statistics = CollectStatistics(num_surplus=len(kept[:num_groups]))
        running = _Running(self._config, self._allocator)

        def start() -> Iterator[Episode]:
            """Start as many groups as are expected to fill the need, no more."""
            while (
                len(kept) + running.expected < num_groups
                and running.open_members < self._num_slots
                and statistics.num_groups < self._config.max_groups
            ):
                episode = Episode(self._allocator.draw(rng), self.next_seed, self._split)
                self.next_seed += self._stride
                statistics.num_groups += 1
                running.add(Group(episode, policy_version=policy_version))
                yield from [episode] * self._config.first_part

        def on_finished(trajectory: Trajectory) -> Sequence[Episode]:
            group = running.take(trajectory.episode)
            group.trajectories.append(trajectory)
            self._count(group, trajectory, statistics)
            follow = self._follow(group, statistics)
            if follow is None:
                self._judge(group, kept, statistics)
            else:
                running.add(group)
            return [*(follow or ()), *start()]

        run_episodes(self._env, decide, start(), on_finished)
        statistics.hit_group_limit = len(kept) < num_groups
        self.surplus = kept[num_groups:] if self._config.carry_surplus else []
        return kept[:num_groups], statistics

    def _follow(self, group: Group, statistics: CollectStatistics) -> list[Episode] | None:
        """Further episodes of a group that has one more finished member; None: the group is complete."""
        finished = len(group.trajectories)
        if finished == self._config.group_size:
            return None
        if finished == self._config.first_part:
            if len(group.rewards) > 1 and len(set(group.rewards)) == 1:
                statistics.num_stopped += 1
                return None
            return [group.episode] * (self._config.group_size - finished)
        return []

    def _judge(self, group: Group, kept: list[Group], statistics: CollectStatistics) -> None:
        rewards, bounds = group.rewards, (self._config.lower_bound, self._config.upper_bound)
        is_complete = len(group.trajectories) == self._config.group_size
        is_kept = len(rewards) > 1 and is_complete and is_informative(rewards, *bounds)
        if rewards:
            self._allocator.update(group.episode.task, rewards, is_kept)
        if len(rewards) < 2:
            statistics.num_lost += 1
        elif is_kept:
            kept.append(group)
        elif min(rewards) == 1.0:
            statistics.num_all_solved += 1
        elif max(rewards) == 0.0:
            statistics.num_all_failed += 1
        else:
            statistics.num_outside_bounds += 1

    def _count(self, group: Group, trajectory: Trajectory, statistics: CollectStatistics) -> None:
        statistics.num_steps += trajectory.num_steps
        statistics.num_chunks += len(trajectory.steps)
        if trajectory.dropped:
            statistics.num_dropped_episodes += 1
            trajectory.forget()
        else:
            statistics.num_episodes += 1
            statistics.num_successes += trajectory.success
            if len(group.trajectories) <= self._config.first_part:
                statistics.num_first_episodes += 1
                statistics.num_first_successes += trajectory.success


class _Running:
    """Groups that are being run, and what is known of them together without asking each after every episode."""

    def __init__(self, config: GroupConfig, allocator: TaskAllocator) -> None:
        self._config, self._allocator = config, allocator
        self._groups: dict[Episode, Group] = {}
        self.open_members = 0
        """Episodes that were asked for and have not finished."""
        self._num_mixed = 0
        """Groups whose members differ already."""
        self._undecided: Counter[str] = Counter()
        """The others, by task."""

    @property
    def expected(self) -> float:
        """Groups that will be kept, as far as one can tell."""
        chances = (count * self._allocator.keep_chance(task) for task, count in self._undecided.items())
        return self._num_mixed + sum(chances)

    def add(self, group: Group) -> None:
        """A group runs, or goes on."""
        self._groups[group.episode] = group
        self._count(group, 1)

    def take(self, episode: Episode) -> Group:
        """Take a group out, before it changes."""
        group = self._groups.pop(episode)
        self._count(group, -1)
        return group

    def _count(self, group: Group, sign: int) -> None:
        finished, first = len(group.trajectories), self._config.first_part
        self.open_members += sign * ((first if finished < first else self._config.group_size) - finished)
        if len(set(group.rewards)) > 1:
            self._num_mixed += sign
        else:
            self._undecided[group.episode.task] += sign
