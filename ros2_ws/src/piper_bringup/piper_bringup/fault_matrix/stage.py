"""The real path on one computer, and everything that can be done to it.

Its processes are those that `real.launch.py emulate:=true` starts, by the same list: emulated arms that speak CAN, the
unmodified piper_sdk in robot_node, the twin's cameras, and policy_node, which plays a slow wave without end.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Protocol

import numpy as np

from piper_bringup.can.registry import DIRECTORY_VARIABLE
from piper_bringup.emulator.control import HOST, ControlClient
from piper_bringup.fault_matrix.evidence import Sample, Told, counted, sample_of
from piper_bringup.graph.graphs import RealArguments, real
from piper_bringup.graph.node_spec import NodeSpec, Value
from piper_bringup.graph.processes import Processes
from piper_twin.robot import ARMS, CONTROL_PERIOD, DUAL_PIPER, HOME
from vla_policy.errors import VlaError

AMPLITUDE, WAVE = 0.15, 5.0
"""Of the wave [rad], and its period [s]; every joint is ahead of the one before, so that some joint always moves."""
LENGTH = 3600.0
"""Of the recording [s]."""
SPEED = 30
"""Of the joints' largest speed, as for real arms [%]: after a release the wave is elsewhere, and is caught up with."""
SAMPLE_PERIOD = 0.02
REMEMBERED = 60.0
"""How far back the arms are known [s]."""
START_PATIENCE = 90.0
"""For a process to start and be heard of [s], on a busy computer."""


class Operator(Protocol):
    """`ros.fault_operator.FaultOperator`."""

    def told(self, since: float) -> list[Told]:
        """What came on the diagnostics after `since` [s], monotonic."""
        ...

    def ask(self, service: str) -> tuple[bool, str]:
        """Call a service of the robot."""
        ...

    def lose_cameras(self, names: Sequence[str]) -> None:
        """Let these cameras, and no others, send nothing."""
        ...

    def set_clock_wrong(self, node: str, offset: float) -> None:
        """Let a node's clock jump by `offset` [s]."""
        ...

    def set_clock_right(self, node: str) -> None:
        """Let the node go by the computer's clock again."""
        ...

    def close(self) -> None:
        """Leave the graph."""
        ...


def wave(file: Path) -> None:
    """Save joint targets for `checkpoint:=replay:FILE`, one row a control period."""
    times = np.arange(0.0, LENGTH, CONTROL_PERIOD)
    places = np.arange(DUAL_PIPER.num_joints)
    is_joint = np.array([not joint.is_gripper for joint in DUAL_PIPER.joints])
    swing = AMPLITUDE * np.sin(2.0 * np.pi * times[:, None] / WAVE + places * np.pi / 2.0)
    file.parent.mkdir(parents=True, exist_ok=True)
    np.save(file, (np.tile(HOME, len(ARMS)) + np.where(is_joint, swing, 0.0)).astype(np.float32))


def specs(recording: Path, control_port: int) -> list[NodeSpec]:
    """The list of the real graph with emulated arms; two parameters more: a port for faults, and no waiting."""
    checkpoint = f"replay:{recording}"
    arguments = RealArguments(emulate=True, checkpoint=checkpoint, autostart=True, speed_percent=SPEED)
    more: dict[str, dict[str, Value]] = {
        "emulator": {"control_port": control_port},
        "policy": {"wait_for_chunk": False},
    }
    return [
        dataclasses.replace(spec, parameters={**spec.parameters, **more.get(spec.name, {})}) for spec in real(arguments)
    ]


def channel(arm: str) -> str:
    """CAN channel of an arm, as the graph's arguments have it."""
    return str(getattr(RealArguments(), f"{arm}_can"))


class Stage:
    """For one thread; another looks at the arms meanwhile."""

    def __init__(self, folder: Path, output: IO[str], operator: Callable[[], Operator]) -> None:
        """Start everything, and wait until the robot and its arms are heard of.

        Args:
            folder: For files of the run.
            output: Gets what the processes say.
            operator: Joins the graph, after its environment is set.
        """
        os.environ[DIRECTORY_VARIABLE] = str(folder / "bus")
        recording = folder / "wave.npy"
        wave(recording)
        with socket.create_server((HOST, 0)) as free:
            self._port = int(free.getsockname()[1])
        self._samples: collections.deque[Sample] = collections.deque(maxlen=round(REMEMBERED / SAMPLE_PERIOD))
        self._ended = threading.Event()
        self._looking: threading.Thread | None = None
        self._emulator: ControlClient | None = None
        self.operator = operator()
        self._processes = Processes(specs(recording.resolve(), self._port), output)
        try:
            self._emulator = self._connected()
            self._looking = threading.Thread(target=self._look, name="look at arms", daemon=True)
            self._looking.start()
            self._await_robot(0.0)
        except BaseException:
            self.close()
            raise

    def _connected(self) -> ControlClient:
        deadline = time.monotonic() + START_PATIENCE
        while True:
            try:
                return ControlClient(self._port)
            except VlaError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)

    def _await_robot(self, since: float) -> None:
        deadline = time.monotonic() + START_PATIENCE
        while not any(one.who == "robot" for one in self.operator.told(since)):
            if time.monotonic() > deadline:
                raise VlaError(f"robot_node said nothing for {START_PATIENCE:.0f} s; look into the graph's log")
            time.sleep(0.05)

    def _look(self) -> None:
        while not self._ended.is_set():
            # A computer that is too busy may leave a question unanswered: then it is asked anew.
            with contextlib.suppress(VlaError), contextlib.closing(ControlClient(self._port)) as eyes:
                while not self._ended.wait(SAMPLE_PERIOD):
                    asked = time.monotonic()
                    arms = eyes.ask(state=True)["arms"]
                    self._samples.append(sample_of(0.5 * (asked + time.monotonic()), arms))

    def close(self) -> None:
        """End everything."""
        self._ended.set()
        if self._looking is not None:
            self._looking.join(5.0)
        if self._emulator is not None:
            self._emulator.close()
        self._processes.stop()
        self.operator.close()

    @property
    def emulator(self) -> ControlClient:
        """Takes faults."""
        assert self._emulator is not None
        return self._emulator

    # What is seen

    def samples(self, since: float) -> list[Sample]:
        """Of the arms after `since` [s]."""
        return [sample for sample in list(self._samples) if sample.time >= since]

    def counted(self) -> dict[str, int]:
        """What no arm should have been sent, so far."""
        return counted(self.emulator.ask(state=True)["arms"])

    # What can happen

    def inject(self, fault: str, arm: str, **settings: object) -> None:
        """Let something go wrong with an arm."""
        self.emulator.inject(fault, channel(arm), **settings)

    def clear(self) -> None:
        """Let both arms be as they should."""
        self.emulator.clear()

    def switch_off_and_on(self, arm: str) -> None:
        """The power of an arm, which somebody supports."""
        self.emulator.ask(power_cycle=True, channel=channel(arm))

    def send(self, process: str, number: signal.Signals) -> None:
        """Send a signal to a process."""
        self._processes.send(process, number)

    def kill(self, process: str) -> None:
        """As kill -9."""
        self._processes.kill(process)

    def start_again(self, process: str) -> None:
        """After it has ended; waits until it is heard of, if it is the robot's."""
        began = time.monotonic()
        self._processes.start_again(process)
        if process == "robot":
            self._await_robot(began)
