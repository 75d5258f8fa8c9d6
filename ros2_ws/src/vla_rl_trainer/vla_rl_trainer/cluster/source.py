"""Groups that rollouts on other nodes sample, as a `GroupSource`: weights out by version, groups back.

At staleness 0 everything happens in the order of a single process, and one rollout gives its very results. At staleness
S the groups of step N are sampled by the policy of step N - S while the learner is at work on the steps between. Groups
that a rollout holds back from one step to the next may be one version older; what is older still is thrown away.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain, zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any

from piper_twin.episode import Episode
from vla_policy.errors import VlaError
from vla_policy.policy import VlaPolicy
from vla_rl_trainer.allocation import TaskAllocator
from vla_rl_trainer.cluster.actors import Rollout, Sampled, Worlds
from vla_rl_trainer.cluster.config import ClusterConfig
from vla_rl_trainer.cluster.weights import pack_weights
from vla_rl_trainer.collect_statistics import CollectStatistics
from vla_rl_trainer.group_source import SURPLUS
from vla_rl_trainer.ranks import Ranks, total
from vla_rl_trainer.surplus import pack, unpack
from vla_rl_trainer.trajectory import Group

if TYPE_CHECKING:
    from vla_rl_trainer.train_grpo import TrainGrpoConfig

MAX_DEATHS = 3
"""Of one rollout without an answer between them, before the run gives up."""


@dataclasses.dataclass(frozen=True, slots=True)
class Request:
    """Groups asked for."""

    step: int
    num_groups: int
    version: int
    weights: Any
    """Reference to what `pack_weights` made."""


@dataclasses.dataclass(slots=True)
class Seat:
    """One rollout as the learner sees it; its actors may be others tomorrow."""

    rank: Ranks
    actors: tuple[Any, Any]
    """The rollout and its worlds."""
    requests: dict[int, Request] = dataclasses.field(default_factory=dict)
    """By step, in the order they were made."""
    answers: dict[int, Any] = dataclasses.field(default_factory=dict)
    """References to what will have been sampled, by step."""
    state: dict[str, Any] | None = None
    """After the last answer; None before the first."""
    surplus: bytes = pack([])
    deaths: int = 0


class RolloutDied(VlaError):
    """A rollout or its worlds are gone, with the node they ran on perhaps."""


class ClusterSource:
    """Rollouts of a Ray cluster."""

    def __init__(self, config: TrainGrpoConfig, policy: VlaPolicy) -> None:
        """Start the actors; `connected` must be entered.

        Raises:
            VlaError: the cluster is too small.
        """
        self._config, self._policy = config, policy
        self._allocator = TaskAllocator(config.benchmark.tasks, uniform=config.uniform_tasks)
        count = config.cluster.num_rollouts
        _require_room(config.cluster)
        self._seats = [Seat(rank, self._start(rank)) for rank in (Ranks(own, count) for own in range(count))]

    def _start(self, rank: Ranks) -> tuple[Any, Any]:
        import ray

        config, cluster = self._config, self._config.cluster
        resources = {} if cluster.worlds_on is None else {cluster.worlds_on: 1.0}
        where = {"num_cpus": cluster.cpus_per_worlds, "num_gpus": 0, "resources": resources}
        worlds = ray.remote(Worlds).options(**where).remote(config, self._policy.config)
        rollouts = ray.remote(Rollout).options(num_cpus=0, num_gpus=cluster.gpus_per_rollout)
        return rollouts.remote(config, rank, worlds), worlds

    def attempt(self, episodes: Sequence[Episode]) -> list[bool]:
        """See `GroupSource`."""
        import ray

        weights = ray.put(pack_weights(self._policy))
        answers = [seat.actors[0].attempt.remote(0, weights, episodes) for seat in self._seats]
        return list(chain(*(_fetch(answer) for answer in answers)))

    def collect(self, step: int, num_groups: int) -> tuple[list[Group], CollectStatistics]:
        """See `GroupSource`.

        Raises:
            VlaError: a rollout refuses, or dies again and again.
        """
        import ray

        weights = ray.put(pack_weights(self._policy))
        last = min(step + self._config.cluster.max_staleness, max(step, self._config.num_steps - 1))
        for seat in self._seats:
            for wanted in range(step, last + 1):
                if wanted not in seat.requests:
                    self._send(seat, Request(wanted, num_groups, step, weights))
        sampled = [self._answer(seat, step) for seat in self._seats]
        return self._join(sampled, step)

    def _send(self, seat: Seat, request: Request) -> None:
        seat.requests[request.step] = request
        asked = (request.step, request.num_groups, request.version, request.weights)
        seat.answers[request.step] = seat.actors[0].collect.remote(*asked)

    def _answer(self, seat: Seat, step: int) -> Sampled:
        while True:
            try:
                found = _fetch(seat.answers[step])
            except RolloutDied as death:
                self._replace(seat, death)
                continue
            del seat.requests[step], seat.answers[step]
            seat.state, seat.surplus, seat.deaths = found.state, found.surplus, 0
            return found

    def _replace(self, seat: Seat, death: RolloutDied) -> None:
        """Start a rollout again where it last was, and ask it anew for what it has not answered."""
        _end(seat.actors)
        seat.deaths += 1
        if seat.deaths >= MAX_DEATHS:
            raise VlaError(
                f"rollout {seat.rank.own} died {MAX_DEATHS} times in a row ({death}); its own message stands "
                "above or in Ray's logs, else look for a full memory, or take fewer slots"
            )
        seat.actors = self._start(seat.rank)
        if seat.state is not None:
            seat.actors[0].take_over.remote(seat.state, seat.surplus)
        for request in list(seat.requests.values()):
            self._send(seat, request)

    def _join(self, sampled: Sequence[Sampled], step: int) -> tuple[list[Group], CollectStatistics]:
        """In turn, as the processes of a shared run do; without groups of a policy that is too old."""
        rows = zip_longest(*(unpack(one.groups) for one in sampled))
        groups = [group for row in rows for group in row if group is not None]
        oldest = step - self._config.cluster.max_staleness - 1
        kept = [group for group in groups if group.policy_version >= oldest]
        counts = dataclasses.replace(total([one.statistics for one in sampled]), num_stale=len(groups) - len(kept))
        self._allocator.restore(sampled[0].state["allocator"])
        return kept, counts

    def task_shares(self) -> dict[str, float]:
        """See `GroupSource`; of the first rollout, each has counts of its own."""
        return self._allocator.probabilities()

    def save(self, folder: Path) -> dict[str, Any]:
        """See `GroupSource`; with one rollout, what a single process would write."""
        for seat in self._seats:
            seat.rank.file(folder / SURPLUS).write_bytes(seat.surplus)
        states = [seat.state for seat in self._seats]
        return dict(states[0] or {}) if len(states) == 1 else {"rollouts": states}

    def restore(self, folder: Path, numbers: Mapping[str, Any]) -> None:
        """See `GroupSource`.

        Raises:
            VlaError: the run had another number of rollouts.
        """
        states = numbers.get("rollouts") or [{name: numbers[name] for name in ("next_seed", "allocator")}]
        if len(states) != len(self._seats):
            raise VlaError(
                f"{folder} was saved by {len(states)} rollouts, this run has {len(self._seats)}; "
                f"resume with --cluster.num-rollouts {len(states)}"
            )
        for seat, state in zip(self._seats, states, strict=True):
            seat.state, seat.surplus = dict(state), seat.rank.file(folder / SURPLUS).read_bytes()
            seat.actors[0].take_over.remote(seat.state, seat.surplus)
        self._allocator.restore(states[0]["allocator"])

    def close(self) -> None:
        """End the actors."""
        _end(chain(*(seat.actors for seat in self._seats)))


def _end(actors: Iterable[Any]) -> None:
    import ray
    from ray.exceptions import RayError

    for actor in actors:
        with contextlib.suppress(RayError):
            ray.kill(actor)


def _fetch(answer: Any) -> Any:
    """Wait for an actor's answer.

    Raises:
        RolloutDied: there will be none.
        VlaError: the actor refuses.
    """
    import ray
    from ray.exceptions import RayActorError, RayTaskError

    try:
        return ray.get(answer)
    except RayTaskError as error:
        if isinstance(error.cause, RayActorError):
            raise RolloutDied(str(error.cause).splitlines()[0]) from error
        if isinstance(error.cause, VlaError):
            raise VlaError(str(error.cause)) from error
        raise
    except RayActorError as error:
        raise RolloutDied(str(error).splitlines()[0]) from error


@contextlib.contextmanager
def connected(config: ClusterConfig) -> Iterator[None]:
    """Reach the cluster, or start one on this machine and end it afterwards.

    Raises:
        VlaError: Ray is not installed, or no cluster answers.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # Ray would call home
    try:
        import ray
    except ImportError as error:
        raise VlaError(
            f"a cluster needs ray ({error}); install it: pip install -c constraints.txt -e '.[ray]'"
        ) from error
    if ray.is_initialized():
        yield
        return
    try:
        if config.address:
            ray.init(address=config.address, logging_level=logging.WARNING)
        else:
            ray.init(address="local", logging_level=logging.WARNING, include_dashboard=False)
    except (ConnectionError, RuntimeError, ValueError, OSError) as error:
        raise VlaError(
            f"no Ray cluster answers at {config.address} ({str(error).splitlines()[0]}); start one: ray start --head "
            "here, and ray start --address=... on the other machines"
        ) from error
    try:
        yield
    finally:
        ray.shutdown()


def _require_room(cluster: ClusterConfig) -> None:
    """Refuse to wait for ever for what no node has."""
    import ray

    there = ray.cluster_resources()
    wanted = {
        "CPU": cluster.num_rollouts * cluster.cpus_per_worlds,
        "GPU": cluster.num_rollouts * cluster.gpus_per_rollout,
    }
    if cluster.worlds_on is not None:
        wanted[cluster.worlds_on] = cluster.num_rollouts
    for name, count in wanted.items():
        if count > (free := there.get(name, 0.0)):
            raise VlaError(
                f"{cluster.num_rollouts} rollouts need {count:g} {name}, the cluster has {free:g}; take fewer "
                "rollouts, or add nodes: ray start --address=..."
            )
