"""A `VectorEnv` of worker processes, one a core, with many worlds each, whatever simulates them."""

from __future__ import annotations

import contextlib
import os
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from piper_twin.demonstrate import Demonstration
from piper_twin.episode import Episode
from piper_twin.worlds import ChunkOutcome
from vla_policy.embodiment import Embodiment
from vla_policy.errors import VlaError
from vla_rl_trainer.envs.vector_env import Observations
from vla_rl_trainer.envs.worker import SharedLayout, Simulator
from vla_rl_trainer.envs.worker_handle import WorkerDied, WorkerHandle

Self = TypeVar("Self", bound="ProcessVectorEnv")

MAX_DEATHS = 3
"""Times in a row that a worker may die before the run gives up."""


class ProcessVectorEnv:
    """Many worlds. The same episodes and actions give the same results for any number of workers."""

    def __init__(
        self,
        num_slots: int,
        simulator: Simulator,
        embodiment: Embodiment,
        *,
        image_size: int,
        state_size: int | None = None,
        num_workers: int | None = None,
        max_chunk: int = 32,
        answer_timeout: float = 300.0,
    ) -> None:
        """Start the workers.

        Args:
            num_slots: Worlds that run side by side.
            simulator: What the workers run.
            embodiment: Of its robot.
            image_size: Side of the images handed out [px]; 0: none.
            state_size: Numbers in the state; one a joint when None.
            num_workers: Processes; one a core when None.
            max_chunk: Longest chunk that will be stepped.
            answer_timeout: A worker that has not answered for this long [s] is replaced.
        """
        _require_some(num_slots, num_workers)
        self.embodiment = embodiment
        self.num_slots = num_slots
        self.num_restarts = 0
        """Workers that died and were replaced."""
        self.num_workers = min(num_slots, num_workers or available_cores())
        self._simulator = simulator
        self._answer_timeout = answer_timeout
        self._layout = SharedLayout(
            num_slots=num_slots,
            num_cameras=len(embodiment.cameras),
            image_size=image_size,
            state_size=embodiment.num_joints if state_size is None else state_size,
            action_size=embodiment.num_joints,
            max_chunk=max_chunk,
        )
        self._file = os.memfd_create("vector_env")
        os.truncate(self._file, self._layout.num_bytes)
        self._images, self._states, self._actions = self._layout.open(self._file)
        self._instructions = [""] * num_slots
        self._lost: set[int] = set()
        """Slots whose world is gone and has not been reset since."""
        self._deaths = [0] * self.num_workers
        """Of each worker, since its last answer."""
        self._workers = [self._start(index) for index in range(self.num_workers)]

    def _start(self, index: int) -> WorkerHandle:
        return WorkerHandle(self._simulator, self._layout, self._slots_of(index), self._file, self._answer_timeout)

    @property
    def process_ids(self) -> tuple[int, ...]:
        """Of the workers."""
        return tuple(worker.process_id for worker in self._workers)

    def _slots_of(self, index: int) -> tuple[int, ...]:
        return tuple(range(index, self.num_slots, self.num_workers))

    def reset(self, slots: Sequence[int], episodes: Sequence[Episode]) -> Observations:
        """Start an episode in each slot."""
        wanted = dict(zip(slots, episodes, strict=True))
        waiting = list(wanted)
        while waiting:
            answers = self._ask("reset", self._shares(waiting), lambda own: ([wanted[slot] for slot in own],))
            for own, instructions in answers:
                if instructions is None:
                    continue
                for slot, instruction in zip(own, instructions, strict=True):
                    self._instructions[slot] = instruction
                self._lost.difference_update(own)
            waiting = [slot for own, instructions in answers if instructions is None for slot in own]
        return self._observe(list(wanted))

    def step_chunk(
        self, slots: Sequence[int], actions_BKA: npt.NDArray[np.float32]
    ) -> tuple[Observations, ChunkOutcome]:
        """Execute a chunk of actions in each slot; see `VectorEnv`."""
        slots = list(slots)
        length = actions_BKA.shape[1]
        if not 1 <= length <= self._layout.max_chunk:
            raise VlaError(f"a chunk of {length} actions does not fit; make the environment with max_chunk={length}")
        self._actions[slots, :length] = actions_BKA
        lost = [slot for slot in slots if slot in self._lost]
        alive = [slot for slot in slots if slot not in self._lost]
        answers = [(lost, None), *self._ask("step_chunk", self._shares(alive), lambda _: (length,))]
        parts = [(own, outcome or _dropped(len(own), actions_BKA.shape[1:])) for own, outcome in answers]
        return self._observe(slots), _join(slots, parts)

    def demonstrate(self, episodes: Sequence[Episode], *, look_every: int | None = 1) -> list[Demonstration]:
        """Let the tasks' experts try these episodes, one at a time in each worker; running episodes are lost.

        Raises:
            VlaError: a worker refuses, or dies again and again.
        """
        found: dict[Episode, Demonstration] = {}
        waiting = deque(dict.fromkeys(episodes))
        busy: dict[int, Episode] = {}
        refusal: VlaError | None = None
        while waiting or busy:
            for index in range(self.num_workers):
                if index not in busy and waiting:
                    busy[index] = waiting.popleft()
                    self._lost.add(index)  # worker `index` owns slot `index`
                    with contextlib.suppress(WorkerDied):  # noticed when its answer is read
                        self._workers[index].send("demonstrate", [index], [busy[index]], look_every)
            for index in WorkerHandle.answered({index: self._workers[index] for index in busy}, self._answer_timeout):
                episode = busy.pop(index)
                try:
                    found[episode] = self._workers[index].receive()[0]
                    self._deaths[index] = 0
                except WorkerDied:
                    waiting.appendleft(episode)
                    self._replace(index)
                except VlaError as error:  # raised once every answer is read: the next question expects empty pipes
                    refusal = error
                    waiting.clear()
        if refusal is not None:
            raise refusal
        return [found[episode] for episode in episodes]

    def _shares(self, slots: Sequence[int]) -> dict[int, list[int]]:
        """Worker to the slots it owns, of those that have any."""
        shares: dict[int, list[int]] = {}
        for slot in slots:
            shares.setdefault(slot % self.num_workers, []).append(slot)
        return shares

    def _ask(
        self, method: str, shares: dict[int, list[int]], arguments: Callable[[list[int]], tuple[Any, ...]]
    ) -> list[tuple[list[int], Any]]:
        """Ask each worker about its share; an answer of None stands for a worker that died and was replaced.

        Raises:
            VlaError: a worker refuses, or dies again and again.
        """
        dead = set()
        for index, own in shares.items():
            try:
                self._workers[index].send(method, own, *arguments(own))
            except WorkerDied:
                dead.add(index)
        answers: list[tuple[list[int], Any]] = []
        refusals: list[VlaError] = []
        for index, own in shares.items():
            answer = None
            try:
                if index not in dead:
                    answer = self._workers[index].receive()
                    self._deaths[index] = 0
            except WorkerDied:
                dead.add(index)
            except VlaError as refusal:  # raised once every answer is read: the next question expects empty pipes
                refusals.append(refusal)
            answers.append((own, answer))
        for index in dead:
            self._replace(index)
        if refusals:
            raise refusals[0]
        return answers

    def _replace(self, index: int) -> None:
        self._workers[index].close(patience=0.0)
        self._lost.update(self._slots_of(index))
        self.num_restarts += 1
        self._deaths[index] += 1
        if self._deaths[index] >= MAX_DEATHS:
            raise VlaError(
                f"simulation worker {index} died {MAX_DEATHS} times in a row; its own message stands above, else look "
                "for a full memory (dmesg), or take fewer slots"
            )
        self._workers[index] = self._start(index)

    def _observe(self, slots: list[int]) -> Observations:
        instructions = tuple(self._instructions[slot] for slot in slots)
        return Observations(self._images[slots], self._states[slots], instructions)

    def close(self) -> None:
        """End the workers and free the shared memory; the environment cannot be used any more."""
        if not self._workers:
            return
        for worker in self._workers:
            worker.hang_up()
        for worker in self._workers:
            worker.close()
        self._workers = []
        del self._images, self._states, self._actions  # they hold the mapping, and with it a file descriptor
        os.close(self._file)

    def __enter__(self: Self) -> Self:
        """Use as a context."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close."""
        self.close()


def _require_some(num_slots: int, num_workers: int | None) -> None:
    if num_slots < 1:
        raise VlaError(f"num_slots is {num_slots}; at least one world is needed")
    if num_workers is not None and num_workers < 1:
        raise VlaError(f"num_workers is {num_workers}; at least one process is needed")


def available_cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0))


def _dropped(count: int, chunk_shape: tuple[int, ...]) -> ChunkOutcome:
    """The outcome of worlds whose worker died: dropped, so that they count for nothing."""
    return ChunkOutcome(
        success_B=np.zeros(count, dtype=bool),
        done_B=np.ones(count, dtype=bool),
        dropped_B=np.ones(count, dtype=bool),
        steps_B=np.zeros(count, dtype=np.int64),
        sent_BKA=np.zeros((count, *chunk_shape), dtype=np.float32),
        refused_B=np.zeros(count, dtype=np.int64),
        signals=({},) * count,
    )


def _join(slots: list[int], parts: list[tuple[list[int], ChunkOutcome]]) -> ChunkOutcome:
    """Put the workers' outcomes into the order of `slots`."""
    position = {slot: index for index, slot in enumerate(slot for own, _ in parts for slot in own)}
    pick = [position[slot] for slot in slots]
    fields: dict[str, Any] = {
        name: np.concatenate([getattr(outcome, name) for _, outcome in parts])[pick]
        for name in ("success_B", "done_B", "dropped_B", "steps_B", "sent_BKA", "refused_B")
    }
    signals = [signal for _, outcome in parts for signal in outcome.signals]
    return ChunkOutcome(signals=tuple(signals[index] for index in pick), **fields)
