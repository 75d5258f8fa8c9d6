"""Running a policy in a vector environment, episode after episode.

Every slot is kept busy: one whose episode ends takes the next one at once, and finished worlds cost no forward. The
order of everything is fixed by the arguments, never by which worker answers first.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import torch

from piper_twin.episode import Episode
from piper_twin.worlds import ChunkOutcome
from vla_policy.inputs import PolicyInputs, Row
from vla_policy.policy import VlaPolicy
from vla_rl_trainer import cpu_threads
from vla_rl_trainer.envs.vector_env import LaunchingEnv, Observations, VectorEnv
from vla_rl_trainer.out_of_memory import advised
from vla_rl_trainer.trajectory import Trajectory

Decide = Callable[[Observations, Sequence[Trajectory]], np.ndarray]
"""Observations of some worlds and their trajectories in, absolute joint targets (B, K, A) out."""


def run_episodes(
    env: VectorEnv | Sequence[VectorEnv],
    decide: Decide,
    episodes: Iterable[Episode],
    on_finished: Callable[[Trajectory], Sequence[Episode]] = lambda _: (),
) -> None:
    """Run episodes until there are no more.

    Args:
        env: Where they run; several take turns, worlds of one move while the policy thinks about those of another.
        decide: The policy.
        episodes: What to run first, in order.
        on_finished: Called with each finished trajectory; may hand out further episodes.
    """
    waiting = deque(episodes)
    cohorts = [_Cohort(one) for one in cohorts_of(env)]
    with ThreadPoolExecutor(len(cohorts), "cohort") as threads:
        begin = threads.submit if len(cohorts) > 1 else _at_once
        while waiting or any(cohort.running for cohort in cohorts):
            for cohort in cohorts:
                for trajectory in cohort.arrive():
                    waiting.extend(on_finished(trajectory))
                cohort.fill(waiting)
                cohort.depart(decide, begin)


def cohorts_of(env: VectorEnv | Sequence[VectorEnv]) -> Sequence[VectorEnv]:
    """Environments that take turns; one alone does not."""
    return env if isinstance(env, Sequence) else (env,)


class _Cohort:
    """The worlds of one environment, which are decided about together."""

    def __init__(self, env: VectorEnv) -> None:
        self._env = env
        self.running: dict[int, Trajectory] = {}
        """By slot."""
        self._seen: dict[int, tuple[Observations, int]] = {}
        """What each slot saw last: among which observations, and in which row."""
        self._moving: tuple[list[int], Callable[[], tuple[Observations, ChunkOutcome]]] | None = None

    def fill(self, waiting: deque[Episode]) -> None:
        """Start what waits in the slots that are free."""
        free = [slot for slot in range(self._env.num_slots) if slot not in self.running][: len(waiting)]
        if not free:
            return
        episodes = [waiting.popleft() for _ in free]
        observations = self._env.reset(free, episodes)
        for row, slot in enumerate(free):
            self.running[slot] = Trajectory(episodes[row])
        self._see(free, observations)

    def depart(self, decide: Decide, begin: Callable[..., Future[Any]]) -> None:
        """Decide, and let the worlds move."""
        if not self.running:
            return
        slots = sorted(self.running)
        observations = gathered([self._seen[slot] for slot in slots])
        actions = decide(observations, [self.running[slot] for slot in slots])
        if isinstance(self._env, LaunchingEnv):
            self._moving = slots, self._env.launch_chunk(slots, actions)
        else:
            self._moving = slots, begin(self._env.step_chunk, slots, actions).result

    def arrive(self) -> list[Trajectory]:
        """Wait for the worlds that move; returns what is finished."""
        if self._moving is None:
            return []
        (slots, moved), self._moving = self._moving, None
        after, outcome = moved()
        self._see(slots, after)
        finished = []
        for row, slot in enumerate(slots):
            trajectory = self.running[slot]
            trajectory.steps.append(int(outcome.steps_B[row]))
            trajectory.refused += int(outcome.refused_B[row])
            trajectory.signals.update(name for name, happened in outcome.signals[row].items() if happened)
            if outcome.done_B[row]:
                trajectory.dropped = bool(outcome.dropped_B[row])
                trajectory.success = bool(outcome.success_B[row]) and not trajectory.dropped
                finished.append(self.running.pop(slot))
        return finished

    def _see(self, slots: Sequence[int], seen: Observations) -> None:
        for row, slot in enumerate(slots):
            self._seen[slot] = (seen, row)


def _at_once(work: Callable[..., Any], *arguments: Any) -> Future[Any]:
    done: Future[Any] = Future()
    done.set_result(work(*arguments))
    return done


def gathered(seen: Sequence[tuple[Observations, int]]) -> Observations:
    """Rows of several observations together, in the order given; each is read once, pixels stay where they are."""
    sources = {id(observations): observations for observations, _ in seen}
    places: dict[int, list[int]] = {key: [] for key in sources}
    for place, (observations, _) in enumerate(seen):
        places[id(observations)].append(place)
    images = _empty_like(seen[0][0].images_BCHW3, len(seen))
    state_BS = np.empty((len(seen), seen[0][0].state_BS.shape[1]), np.float32)
    for key, source in sources.items():
        here, rows = places[key], [seen[place][1] for place in places[key]]
        images[here], state_BS[here] = source.images_BCHW3[rows], source.state_BS[rows]
    return Observations(images, state_BS, tuple(source.instructions[row] for source, row in seen))


def _empty_like(images: np.ndarray | torch.Tensor, count: int) -> np.ndarray | torch.Tensor:
    shape = (count, *images.shape[1:])
    return images.new_empty(shape) if isinstance(images, torch.Tensor) else np.empty(shape, images.dtype)


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
        seen: Iterable[PolicyInputs | Row]
        if isinstance(observations.images_BCHW3, torch.Tensor):  # drawn on a GPU, there pixels stay until learned from
            seen = (Row(inputs, number) for number in range(len(inputs)))
        else:
            seen = inputs.to("cpu").each()
        indices, log_probs = sampled.indices_BKA.to("cpu", torch.uint8), sampled.log_probs_BKA.cpu()
        drawn = zip(seen, indices.unbind(), log_probs.unbind(), strict=True)
        for trajectory, (row, own_indices, own_log_probs) in zip(trajectories, drawn, strict=True):
            trajectory.record(row, own_indices, own_log_probs)
        return sampled.actions_BKA

    return decide
