"""One worker process as the trainer sees it: started, asked, and ended or given up."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from multiprocessing import connection
from typing import Any

from vla_rl_trainer.envs.worker import SharedLayout, Simulator


class WorkerDied(Exception):
    """The process is gone or hangs."""


class WorkerHandle:
    """A running worker."""

    def __init__(
        self, simulator: Simulator, layout: SharedLayout, slots: tuple[int, ...], file: int, answer_timeout: float
    ) -> None:
        """Start it with its share of the slots; `file` is the shared memory, `answer_timeout` in [s]."""
        self._answer_timeout = answer_timeout
        self._pipe, theirs = connection.Pipe()
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
        self._pipe.send((simulator, layout, slots))  # while their end is open here: the process may be dead already
        theirs.close()

    @property
    def process_id(self) -> int:
        """Of the worker."""
        return self._process.pid

    def send(self, method: str, *arguments: Any) -> None:
        """Ask for a method of `Worker`.

        Raises:
            WorkerDied: there is nobody to ask.
        """
        try:
            self._pipe.send((method, arguments))
        except OSError as error:
            raise WorkerDied from error

    def receive(self) -> Any:
        """The answer to what was sent last.

        Raises:
            VlaError: the worker refuses.
            WorkerDied: it died before it answered, or takes too long.
        """
        try:
            if not self._pipe.poll(self._answer_timeout):
                raise WorkerDied
            refusal, answer = self._pipe.recv()
        except (EOFError, OSError) as error:
            raise WorkerDied from error
        if refusal is not None:
            raise refusal
        return answer

    @staticmethod
    def answered(workers: Mapping[int, WorkerHandle], timeout: float) -> list[int]:
        """Which workers have answered (or died); waits for one, and names all when none does within `timeout` [s]."""
        ready = connection.wait([worker._pipe for worker in workers.values()], timeout)
        return [index for index, worker in workers.items() if not ready or worker._pipe in ready]

    def hang_up(self) -> None:
        """Close the pipe: an idle worker ends at once."""
        self._pipe.close()

    def close(self, patience: float = 2.0) -> None:
        """Hang up, and kill the process if it has not ended by itself within `patience` [s]."""
        self.hang_up()
        try:
            self._process.wait(timeout=patience)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
