"""Running the processes of a graph together: started as one, stopped as one, every line marked with its node."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import IO

from piper_bringup.graph.node_spec import NodeSpec

PATIENCE = ((signal.SIGINT, 5.0), (signal.SIGTERM, 3.0), (signal.SIGKILL, 2.0))
"""What a process is told to end with, and how long it is given [s]; a robot_node needs a moment to tell it holds."""
_HELD_BACK = -signal.SIGALRM
"""How a node ends that Fast DDS keeps from leaving (`vla_policy.ros.leaving`): its work is done by then."""
_POLL = 0.1


class Processes:
    """The processes of one graph."""

    def __init__(self, specs: Sequence[NodeSpec], output: IO[str] = sys.stdout) -> None:
        """Start them all; their lines go to `output`."""
        self._specs = specs
        self._output = output
        self._folder = tempfile.TemporaryDirectory(prefix="piper_bringup_")
        self._width = max((len(spec.name) for spec in specs), default=0)
        self._running = [self._start(spec) for spec in specs]
        self._readers = [self._read(spec, process) for spec, process in zip(specs, self._running, strict=True)]

    def _start(self, spec: NodeSpec) -> subprocess.Popen[str]:
        file = Path(self._folder.name) / f"{spec.name}.yaml"
        file.write_text(spec.parameter_text(), encoding="utf-8")
        # In a session of its own Ctrl-C does not reach it: this process alone hears that, and ends all in order.
        return subprocess.Popen(
            spec.command(file),
            stdin=None if spec.uses_terminal else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=not spec.uses_terminal,
            env=os.environ | {"PYTHONUNBUFFERED": "1"},
        )

    def _read(self, spec: NodeSpec, process: subprocess.Popen[str]) -> threading.Thread:
        def pump() -> None:
            assert process.stdout is not None
            with process.stdout as lines:
                for line in lines:
                    self._output.write(f"[{spec.name:<{self._width}}] {line}")
                    self._output.flush()

        thread = threading.Thread(target=pump, daemon=True)
        thread.start()
        return thread

    def wait(self) -> int:
        """Until all have ended or an essential one has; returns the worst exit code of those that ended by themselves.

        An essential process that ends, even well, ends the graph.
        """
        while True:
            codes = [process.poll() for process in self._running]
            ended = [(spec, code) for spec, code in zip(self._specs, codes, strict=True) if code is not None]
            if len(ended) == len(codes) or any(spec.is_essential for spec, _ in ended):
                return max((abs(code) for _, code in ended if code != _HELD_BACK), default=0)
            time.sleep(_POLL)

    def send(self, name: str, number: signal.Signals) -> None:
        """Send a signal to one process, as whatever is wrong with it would."""
        self._running[self._place(name)].send_signal(number)

    def kill(self, name: str) -> None:
        """Let one process die at once, and wait for that."""
        self.send(name, signal.SIGKILL)
        self._running[self._place(name)].wait()

    def start_again(self, name: str) -> None:
        """Start one process that has ended."""
        place = self._place(name)
        self._running[place] = self._start(self._specs[place])
        self._readers.append(self._read(self._specs[place], self._running[place]))

    def _place(self, name: str) -> int:
        return [spec.name for spec in self._specs].index(name)

    def stop(self) -> None:
        """End what still runs, politely first; the first process of the list ends last: it is the robot."""
        for process in reversed(self._running):
            for number, patience in PATIENCE:
                if process.poll() is not None:
                    break
                process.send_signal(number)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(patience)
        for thread in self._readers:
            thread.join(timeout=1.0)
        self._folder.cleanup()


@contextlib.contextmanager
def running(specs: Sequence[NodeSpec], output: IO[str] = sys.stdout) -> Generator[Processes]:
    """The processes of a graph for the time of a `with` block."""
    processes = Processes(specs, output)
    try:
        yield processes
    finally:
        processes.stop()
