"""The dual-Piper twin as a `VectorEnv`: worker processes, one a core, with many worlds each."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from multiprocessing.connection import Connection
from multiprocessing.connection import Pipe as make_pipe
from typing import Any

import numpy as np
import numpy.typing as npt

from piper_twin.demonstrate import Demonstration
from piper_twin.episode import Episode
from piper_twin.robot import DUAL_PIPER
from piper_twin.worlds import ChunkOutcome, TwinConfig
from vla_policy.errors import VlaError
from vla_rl_trainer.envs.vector_env import Observations
from vla_rl_trainer.envs.worker import SharedLayout

ANSWER_TIMEOUT = 300.0
"""A worker that has not answered for this long [s] is replaced."""


class _WorkerDied(Exception):
    """The process is gone or hangs."""


class _WorkerHandle:
    """One worker process seen from the trainer."""

    def __init__(self, config: TwinConfig, layout: SharedLayout, slots: tuple[int, ...], file: int) -> None:
        self.slots = slots
        self._pipe, theirs = make_pipe()
        # Threads inside software rendering and BLAS only get into each other's way: one process a core.
        environment = os.environ | dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
        environment["LP_NUM_THREADS"] = "0"
        self._process = subprocess.Popen(
            [sys.executable, "-m", "vla_rl_trainer.envs.worker", str(theirs.fileno()), str(file)],
            pass_fds=(theirs.fileno(), file),
            env=environment,
            stdin=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C reaches the trainer alone, which then closes its workers
        )
        theirs.close()
        self._pipe.send((config, layout, slots))

    def send(self, method: str, *arguments: Any) -> None:
        try:
            self._pipe.send((method, arguments))
        except OSError as error:
            raise _WorkerDied from error

    def receive(self) -> Any:
        try:
            if not self._pipe.poll(ANSWER_TIMEOUT):
                raise _WorkerDied
            error, answer = self._pipe.recv()
        except (EOFError, OSError) as error:
            raise _WorkerDied from error
        if error is not None:
            raise error
        return answer

    def close(self) -> None:
        self._pipe.close()
        try:
            self._process.wait(timeout=2.0)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


class TwinVectorEnv:
    """Many worlds of the twin. The same episodes and actions give the same results for any number of workers."""

    def __init__(
        self, num_slots: int, config: TwinConfig, *, num_workers: int | None = None, max_chunk: int = 32
    ) -> None:
        """Start the workers.

        Args:
            num_slots: Worlds that run side by side.
            config: How worlds are drawn and seen.
            num_workers: Processes; one a core when None.
            max_chunk: Longest chunk that will be stepped.
        """
        if num_slots < 1:
            raise VlaError(f"num_slots is {num_slots}; at least one world is needed")
        self.embodiment = DUAL_PIPER
        self.num_slots = num_slots
        self.num_restarts = 0
        """Workers that died and were replaced."""
        num_workers = min(num_slots, num_workers or available_cores())
        image_size = config.image_size or DUAL_PIPER.cameras[0].height
        self._config = config
        self._layout = SharedLayout(num_slots=num_slots, image_size=image_size, max_chunk=max_chunk)
        self._file = os.memfd_create("twin_env")
        os.truncate(self._file, self._layout.num_bytes)
        self._images, self._states, self._actions = self._layout.open(self._file)
        self._instructions = [""] * num_slots
        self._workers = [
            self._start(tuple(range(first, num_slots, num_workers))) for first in range(num_workers)
        ]

    def _start(self, slots: tuple[int, ...]) -> _WorkerHandle:
        return _WorkerHandle(self._config, self._layout, slots, self._file)

    def reset(self, slots: Sequence[int], episodes: Sequence[Episode]) -> Observations:
        """Start an episode in each slot."""
        wanted = dict(zip(slots, episodes, strict=True))
        for _ in range(3):
            answers = self._ask("reset", slots, lambda own: [[wanted[slot] for slot in own]])
            for own, instructions in answers:
                if instructions is not None:
                    for slot, instruction in zip(own, instructions, strict=True):
                        self._instructions[slot] = instruction
            slots_lost = [slot for own, instructions in answers if instructions is None for slot in own]
            if not slots_lost:
                return self._observe(list(wanted))
            slots = slots_lost
        raise VlaError("a simulation worker dies at every start; run the task alone to see why: python -m piper_twin")

    def step_chunk(
        self, slots: Sequence[int], actions_BKA: npt.NDArray[np.float32]
    ) -> tuple[Observations, ChunkOutcome]:
        """Execute a chunk of joint targets in each slot; see `VectorEnv`."""
        slots = list(slots)
        length = actions_BKA.shape[1]
        self._actions[slots, :length] = actions_BKA
        answers = self._ask("step_chunk", slots, lambda own: [length])
        parts = [(own, outcome or _lost(own, actions_BKA.shape[1:])) for own, outcome in answers]
        return self._observe(slots), _join(slots, parts)

    def demonstrate(self, episodes: Sequence[Episode], *, images: bool = True) -> list[Demonstration]:
        """Let the tasks' experts try these episodes, spread over the workers; running episodes are lost."""
        shares = [list(episodes[first :: len(self._workers)]) for first in range(len(self._workers))]
        slots = [worker.slots[0] for worker in self._workers]
        owners = dict(zip(slots, shares, strict=True))
        answers = self._ask("demonstrate", slots, lambda own: [owners[own[0]], images])
        if any(answer is None for _, answer in answers):
            raise VlaError("a simulation worker died while demonstrating; run the same command again")
        found = dict(zip(episodes, [None] * len(episodes), strict=True))
        for own, demonstrations in answers:
            found |= dict(zip(owners[own[0]], demonstrations, strict=True))
        return [found[episode] for episode in episodes]

    def _ask(self, method: str, slots: Sequence[int], arguments: Any) -> list[tuple[list[int], Any]]:
        """Ask every worker that owns some of `slots`; answers with None stand for a worker that was replaced."""
        shares = [(index, [slot for slot in slots if slot in set(w.slots)]) for index, w in enumerate(self._workers)]
        shares = [(index, own) for index, own in shares if own]
        dead = set()
        for index, own in shares:
            try:
                self._workers[index].send(method, own, *arguments(own))
            except _WorkerDied:
                dead.add(index)
        answers: list[tuple[list[int], Any]] = []
        for index, own in shares:
            try:
                answers.append((own, None if index in dead else self._workers[index].receive()))
            except _WorkerDied:
                dead.add(index)
                answers.append((own, None))
        for index in dead:
            self._workers[index].close()
            self._workers[index] = self._start(self._workers[index].slots)
            self.num_restarts += 1
        return answers

    def _observe(self, slots: list[int]) -> Observations:
        instructions = tuple(self._instructions[slot] for slot in slots)
        return Observations(self._images[slots], self._states[slots], instructions)

    def close(self) -> None:
        """End the workers and free the shared memory."""
        for worker in self._workers:
            worker.close()
        os.close(self._file)

    def __enter__(self) -> TwinVectorEnv:
        """Use as a context."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close."""
        self.close()


def available_cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0))


def _lost(slots: list[int], chunk_shape: tuple[int, ...]) -> ChunkOutcome:
    """The outcome of worlds whose worker died: dropped, so that they count for nothing."""
    count = len(slots)
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
    order = np.argsort(np.argsort(slots))
    have = [slot for own, _ in parts for slot in own]
    pick = np.argsort(have)[order]
    fields: dict[str, Any] = {
        name: np.concatenate([getattr(outcome, name) for _, outcome in parts])[pick]
        for name in ("success_B", "done_B", "dropped_B", "steps_B", "sent_BKA", "refused_B")
    }
    signals = [signal for _, outcome in parts for signal in outcome.signals]
    return ChunkOutcome(signals=tuple(signals[index] for index in pick), **fields)
