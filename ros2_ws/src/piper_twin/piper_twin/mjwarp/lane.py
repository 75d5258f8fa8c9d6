"""One order of work on a device that torch and Warp share: a CUDA stream, or on the CPU simply what comes first."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
import warp as wp


class Lane:
    """Worlds of one lane run beside those of another, and beside a network on torch's own stream.

    What is done within `entered` starts after everything that torch was told before, and torch's own stream goes on
    after it; so tensors may be handed in and out without further care. Where nothing is handed out yet, torch's stream
    need not wait (`joins=False`), and a network can run meanwhile.
    """

    def __init__(self, device: torch.device) -> None:
        """Make a stream of its own on a GPU."""
        self.device = device
        self.warp_device = wp.get_device("cpu" if device.type == "cpu" else f"cuda:{device.index}")
        self.seconds: dict[str, float] | None = None
        """Where `timed` work adds its time [s]; None: it is not measured, and nothing waits."""
        self._stream: torch.cuda.Stream | None = None
        if device.type == "cuda":
            self._stream = torch.cuda.Stream(device)
            self._warp_stream = wp.stream_from_torch(self._stream)

    @contextlib.contextmanager
    def entered(self, *, joins: bool = True) -> Iterator[None]:
        """Let torch's and Warp's work go to this lane; `joins`: what torch is told afterwards waits for it."""
        if self._stream is None:
            with wp.ScopedDevice(self.warp_device):
                yield
            return
        caller = torch.cuda.current_stream(self.device)
        self._stream.wait_stream(caller)
        with (
            torch.cuda.stream(self._stream),
            wp.ScopedDevice(self.warp_device),
            wp.ScopedStream(self._warp_stream, sync_enter=False),
        ):
            yield
        if joins:
            caller.wait_stream(self._stream)

    @contextlib.contextmanager
    def timed(self, phase: str) -> Iterator[None]:
        """Measure what is done within, if anybody asked for it: the device is waited for before and after."""
        if self.seconds is None:
            yield
            return
        self.wait()
        started = time.perf_counter()
        yield
        self.wait()
        self.seconds[phase] = self.seconds.get(phase, 0.0) + time.perf_counter() - started

    def wait(self) -> None:
        """Until the device has done all it was told."""
        if self._stream is not None:
            torch.cuda.synchronize(self.device)

    def record(self, work: Callable[[], None]) -> Callable[[], None]:
        """`work` as one CUDA graph, once done beforehand so that its kernels are loaded; on the CPU as it is.

        Whatever `work` reads and writes must stay where it is in memory.
        """
        work()
        if self._stream is None:
            return work
        self.wait()
        with wp.ScopedCapture(device=self.warp_device, stream=self._warp_stream) as capture:
            work()
        graph: Any = capture.graph
        return lambda: wp.capture_launch(graph, stream=self._warp_stream)
