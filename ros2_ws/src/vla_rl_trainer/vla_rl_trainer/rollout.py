"""Running a policy in a vector environment: single episodes for evaluation, groups of one world for GRPO.

Both keep every slot busy: a slot whose episode ends takes the next one at once, and finished worlds cost no forward.
The order of everything is fixed by the arguments, never by which worker answers first.
"""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
import torch

from piper_twin.episode import Episode
from vla_policy.errors import VlaError
from vla_policy.policy import VlaPolicy
from vla_rl_trainer import cpu_threads
from vla_rl_trainer.allocation import TaskAllocator
from vla_rl_trainer.collect_statistics import CollectStatistics
from vla_rl_trainer.config_checks import require_at_least
from vla_rl_trainer.envs.vector_env import Observations, VectorEnv
from vla_rl_trainer.grpo import is_informative
from vla_rl_trainer.out_of_memory import advised
from vla_rl_trainer.trajectory import Group, Trajectory

Decide = Callable[[Observations, Sequence[Trajectory]], np.ndarray]
"""Observations of some worlds and their trajectories in, absolute joint targets (B, K, A) out."""


def run_episodes(
    env: VectorEnv,
    decide: Decide,
    episodes: Iterable[Episode],
    on_finished: Callable[[Trajectory], Sequence[Episode]] = lambda _: (),
) -> None:
    """Run episodes until there are no more.

    Args:
        env: Where they run.
        decide: The policy.
        episodes: What to run first, in order.
        on_finished: Called with each finished trajectory; may hand out further episodes.
    """
    waiting = deque(episodes)
    running: dict[int, Trajectory] = {}
    seen: dict[int, tuple[np.ndarray | torch.Tensor, np.ndarray, str]] = {}
    while waiting or running:
        _fill(env, waiting, running, seen)
        slots = sorted(running)
        observations = Observations(
            _stacked([seen[slot][0] for slot in slots]),
            np.stack([seen[slot][1] for slot in slots]),
            tuple(seen[slot][2] for slot in slots),
        )
        actions = decide(observations, [running[slot] for slot in slots])
        after, outcome = env.step_chunk(slots, actions)
        for row, slot in enumerate(slots):
            trajectory = running[slot]
            trajectory.steps.append(int(outcome.steps_B[row]))
            trajectory.refused += int(outcome.refused_B[row])
            trajectory.signals.update(name for name, happened in outcome.signals[row].items() if happened)
            seen[slot] = (after.images_BCHW3[row], after.state_BS[row], after.instructions[row])
            if outcome.done_B[row]:
                trajectory.dropped = bool(outcome.dropped_B[row])
                trajectory.success = bool(outcome.success_B[row]) and not trajectory.dropped
                del running[slot]
                waiting.extend(on_finished(trajectory))


def _fill(env: VectorEnv, waiting: deque[Episode], running: dict[int, Trajectory], seen: dict) -> None:
    free = [slot for slot in range(env.num_slots) if slot not in running][: len(waiting)]
    if not free:
        return
    episodes = [waiting.popleft() for _ in free]
    observations = env.reset(free, episodes)
    for row, slot in enumerate(free):
        running[slot] = Trajectory(episodes[row])
        seen[slot] = (observations.images_BCHW3[row], observations.state_BS[row], observations.instructions[row])


def _stacked(images: Sequence[np.ndarray | torch.Tensor]) -> np.ndarray | torch.Tensor:
    """Of several worlds, where they are."""
    tensors = [image for image in images if isinstance(image, torch.Tensor)]
    return torch.stack(tensors) if tensors else np.stack(images)  # pyright: ignore[reportCallIssue, reportArgumentType]


def greedy(policy: VlaPolicy) -> Decide:
    """Decide as the policy's own decoding says."""
    cpu_threads.answer_in_parts(policy)

    def decide(observations: Observations, trajectories: Sequence[Trajectory]) -> np.ndarray:
        del trajectories
        inputs = policy.inputs_from_arrays(observations.images_BCHW3, observations.state_BS, observations.instructions)
        return policy.act(inputs, observations.state_BS)

    return decide


def sampling(policy: VlaPolicy, temperature: float, generator: torch.Generator) -> Decide:
    """Decide by sampling every action token, and keep in the trajectories what the learner needs."""
    cpu_threads.answer_in_parts(policy)

    def decide(observations: Observations, trajectories: Sequence[Trajectory]) -> np.ndarray:
        with advised(policy, "--num-slots", len(trajectories), learns=False):
            inputs = policy.inputs_from_arrays(
                observations.images_BCHW3, observations.state_BS, observations.instructions
            )
            sampled = policy.sample(inputs, observations.state_BS, temperature, generator)
        # Pixels that were drawn on a GPU stay there until they are learned from.
        kept = inputs if isinstance(observations.images_BCHW3, torch.Tensor) else inputs.to("cpu")
        indices, log_probs = sampled.indices_BKA.to("cpu", torch.uint8), sampled.log_probs_BKA.cpu()
        for row, trajectory in enumerate(trajectories):
            trajectory.record(kept[row : row + 1], indices[row], log_probs[row])
        return sampled.actions_BKA

    return decide


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
        self, env: VectorEnv, config: GroupConfig, allocator: TaskAllocator, split: str = "train", stride: int = 1
    ) -> None:
        """Groups run in `env` on every `stride`-th world of `split`, tasks as `allocator` draws them."""
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
        running: dict[Episode, Group] = {}

        def start() -> Iterator[Episode]:
            """Start as many groups as are expected to fill the need, no more."""
            room = self._env.num_slots - sum(self._open_members(group) for group in running.values())
            expected = len(kept) + sum(self._chance(group) for group in running.values())
            while expected < num_groups and room > 0 and statistics.num_groups < self._config.max_groups:
                episode = Episode(self._allocator.draw(rng), self.next_seed, self._split)
                self.next_seed += self._stride
                statistics.num_groups += 1
                running[episode] = Group(episode, policy_version=policy_version)
                room -= self._config.first_part
                expected += self._chance(running[episode])
                yield from [episode] * self._config.first_part

        def on_finished(trajectory: Trajectory) -> Sequence[Episode]:
            group = running[trajectory.episode]
            group.trajectories.append(trajectory)
            self._count(group, trajectory, statistics)
            follow = self._follow(group, statistics)
            if follow is None:
                del running[group.episode]
                self._judge(group, kept, statistics)
            return [*(follow or ()), *start()]

        run_episodes(self._env, decide, start(), on_finished)
        statistics.hit_group_limit = len(kept) < num_groups
        self.surplus = kept[num_groups:] if self._config.carry_surplus else []
        return kept[:num_groups], statistics

    def _chance(self, group: Group) -> float:
        """That a running group will be kept, as far as one can tell."""
        if len(set(group.rewards)) > 1:
            return 1.0
        return self._allocator.keep_chance(group.episode.task)

    def _open_members(self, group: Group) -> int:
        finished = len(group.trajectories)
        planned = self._config.first_part if finished < self._config.first_part else self._config.group_size
        return planned - finished

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
