"""Is the control loop on time 200 times a second while cameras and a policy run beside it?

    python -m piper_bringup.ros.bench_jitter --checkpoint runs/demo/grpo/checkpoints/last --driver piper

Driver `piper` is what runs beside real arms, each process as there: robot_node with piper_sdk on two buses, camera_node
decoding three streams of 640x480 JPEGs at 30 Hz (as a USB camera sends them), and the policy moving the arms. Only
the arms are emulated, on buses without a kernel, in this process, where the commands are also timed from outside.
Driver `twin` is the graph `sim` without its page: the control loop shares its process with the world and the drawing of
the twin's own cameras.
"""

# pyright: basic
# ROS messages carry no types.

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Generator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import rclpy
import rclpy.utilities
import tyro
import yaml
from diagnostic_msgs.msg import DiagnosticArray
from PIL import Image as PillowImage
from rclpy.node import Node

from piper_bringup.can.protocol import JOINT_TARGETS, Frame
from piper_bringup.can.registry import INTERFACE
from piper_bringup.control.loop import PERIOD
from piper_bringup.control.robot_config import ARMS_PRIORITY
from piper_bringup.emulator.arm import Arm
from piper_bringup.emulator.server import Emulator
from piper_bringup.graph.graphs import GRAPHS, RealArguments, SimArguments
from piper_bringup.graph.node_spec import NodeSpec
from piper_bringup.graph.processes import running
from piper_bringup.ros.bench_recorder import IMAGE_RATE, picture
from piper_bringup.ros.beside import Beside
from piper_twin.exit_codes import exit_after
from piper_twin.robot import ARMS, DUAL_PIPER
from vla_policy import topics
from vla_policy.errors import VlaError
from vla_policy.ros import convert, qos
from vla_policy.ros.leaving import QUIET
from vla_policy.ros.service_calls import ServiceCalls
from vla_policy.ros.spin import prepare_environment
from vla_policy.scheduling import preferred_threads

LIMITS = {"jitter_p99_ms": 2.0, "jitter_p999_ms": 5.0}
"""A turn may begin so late 99 times of 100, and 999 of 1000 [ms]."""
INSTRUCTION = "press the bell"
_SETTLING = 5.0
"""What comes first is not counted [s]."""
_PATIENCE = 120.0
"""For the graph to come up [s]; it loads a network."""
_NUM_PICTURES = 4

DriverName = Literal["piper", "twin"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class JitterConfig:
    """Measuring the control loop."""

    checkpoint: Path
    """Policy that moves the arms."""
    driver: DriverName = "piper"
    """piper (emulated arms on emulated buses, real everything else) or twin."""
    seconds: float = 60.0
    """How long [s]. The robot's own figures are of its last minute: with less they reach back to its start."""
    realtime_priority: int | None = None
    """Of robot_node's threads; left out, what it takes itself: 20 with driver piper, none with the twin."""
    log: Path | None = None
    """What the processes print; left out, nowhere."""
    out: Path | None = None
    """JSON file for the figures."""


class Witness(Node):
    """Keeps the newest diagnostics, and calls services."""

    def __init__(self) -> None:
        super().__init__("bench", enable_rosout=False, start_parameter_services=False)
        self.told: dict[str, dict[str, str]] = {}
        """Values by the name of who told them; `stamp` [s] and `message` among them."""
        self.calls = ServiceCalls(self)
        self.create_subscription(DiagnosticArray, topics.DIAGNOSTICS, self._on_report, qos.EVENTS)

    def _on_report(self, message: DiagnosticArray) -> None:
        stamp = convert.to_seconds(message.header.stamp)
        for status in message.status:
            values = {pair.key: pair.value for pair in status.values}
            self.told[status.name] = values | {"stamp": str(stamp), "message": status.message}

    def until(self, condition: Callable[[], bool], what: str) -> None:
        """Wait.

        Raises:
            VlaError: in vain; the message repeats what the nodes say.
        """
        deadline = time.monotonic() + _PATIENCE
        while not condition():
            if time.monotonic() > deadline:
                said = "; ".join(f"{name}: {values['message']}" for name, values in self.told.items()) or "nothing"
                raise VlaError(f"{what} in {_PATIENCE:.0f} s; the nodes say: {said}")
            time.sleep(0.1)


class TimedArm(Arm):
    """Remembers when commands were sent."""

    def __init__(self) -> None:
        super().__init__()
        self.sent: list[float] = []
        """[s], by the sender's clock; repetitions included."""

    def receive(self, frame: Frame, now: float) -> None:
        """A frame sent at `now`."""
        if frame.id == JOINT_TARGETS[0]:
            self.sent.append(now)
        super().receive(frame, now)


def measure(config: JitterConfig) -> dict[str, Any]:
    """Bring up the graph, let the policy move the arms, and ask for the figures.

    Raises:
        VlaError: the graph does not come up.
    """
    arms = {f"bench{os.getpid()}_{arm}": TimedArm() for arm in ARMS} if config.driver == "piper" else {}
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        if arms:
            with preferred_threads(ARMS_PRIORITY):  # real ones need nothing of this computer
                stack.enter_context(Emulator(arms, INTERFACE))
        robot, *others = _piper(config.checkpoint, list(arms), folder) if arms else _twin(config.checkpoint)
        if config.realtime_priority is not None:
            told = {**robot.parameters, "realtime_priority": config.realtime_priority}
            robot = dataclasses.replace(robot, parameters=told)
        log = stack.enter_context((config.log or Path(os.devnull)).open("w", encoding="utf-8"))
        witness = stack.enter_context(_witness())
        stack.enter_context(running([robot, *others], log))
        _bring_up(witness)
        time.sleep(_SETTLING)
        before, began = dict(witness.told), time.monotonic()
        time.sleep(config.seconds)
        after, ended = dict(witness.told), time.monotonic()
        figures = {"driver": config.driver, "seconds": config.seconds, **_figures(before, after)}
    sent = [times for arm in list(arms.values())[:1] if (times := [t for t in arm.sent if began <= t <= ended])]
    return (
        figures | (_bus_figures(sent[0]) if sent else {}) | {"passed": all(figures[k] < v for k, v in LIMITS.items())}
    )


def _bring_up(witness: Witness) -> None:
    """Until the policy moves the arms; a robot that something held meanwhile is released."""

    def is_moving() -> bool:
        robot = witness.told.get("robot", {"state": "not there"})
        wish = {"disabled": topics.ENABLE, "held": topics.RELEASE}.get(robot["state"])
        if wish is not None:
            witness.calls.trigger(wish)  # refused until all has been heard
        return robot["state"] == "moving" and "policy" in witness.told

    witness.until(is_moving, "the policy did not move the robot")


def _figures(before: Mapping[str, Mapping[str, str]], after: Mapping[str, Mapping[str, str]]) -> dict[str, Any]:
    """Of the time between two reports of all nodes."""
    robot, earlier = after["robot"], before["robot"]

    def counted(name: str) -> int:
        return int(robot[name]) - int(earlier[name])

    overhead = sorted(counted_since(after["policy"], before["policy"], "overhead_histogram_ms").elements())
    return {
        **{f"jitter_{part}_ms": float(robot[f"jitter_{part}_ms"]) for part in ("p50", "p99", "p999", "max")},
        "tick_p99_ms": float(robot["tick_p99_ms"]),
        "ticks": counted("ticks"),
        "rate_hz": round(counted("ticks") / (float(robot["stamp"]) - float(earlier["stamp"])), 2),
        "overruns": counted("overruns"),
        "realtime": robot["realtime"] == "True",
        "chunks": counted("chunks"),
        "held": robot["reason"] if robot["state"] == "held" else "",
        **{
            f"policy_overhead_{name}_ms": float(np.quantile(overhead, share))
            for name, share in (("p50", 0.5), ("p99", 0.99), ("max", 1.0))
            if overhead
        },
    }


def counted_since(now: Mapping[str, str], before: Mapping[str, str], key: str) -> Counter[float]:
    """Durations [ms] of a histogram in a node's diagnostics, and how often they were counted since `before`."""
    counts = Counter({float(edge): int(count) for edge, count in _pairs(now[key])})
    counts.subtract({float(edge): int(count) for edge, count in _pairs(before[key])})
    return +counts


def _pairs(histogram: str) -> list[list[str]]:
    return [pair.split(":") for pair in histogram.split()]


def _bus_figures(sent: Sequence[float]) -> dict[str, Any]:
    """How far the time from one command to the next on the left arm's bus is from the period."""
    gaps = np.abs(np.diff(np.sort(sent)) - PERIOD) * 1e3
    shares = {"p50": 50.0, "p99": 99.0, "p999": 99.9, "max": 100.0}
    return {f"bus_gap_{name}_ms": round(float(np.percentile(gaps, share)), 3) for name, share in shares.items()}


def _piper(checkpoint: Path, channels: Sequence[str], folder: Path) -> list[NodeSpec]:
    """The graph `real`, its buses and cameras where this machine has some."""
    named = {f"{arm}_can": channel for arm, channel in zip(ARMS, channels, strict=True)}
    cameras = {}
    for seed, camera in enumerate(DUAL_PIPER.camera_names):
        (folder / camera).mkdir()
        for number in range(_NUM_PICTURES):
            image = PillowImage.fromarray(picture(seed * _NUM_PICTURES + number))
            image.save(folder / camera / f"{number}.jpg", quality=90)
        cameras[camera] = {"source": str(folder / camera), "rate": IMAGE_RATE}
    file = folder / "cameras.yaml"
    file.write_text(yaml.safe_dump(cameras), encoding="utf-8")
    brain = {"checkpoint": str(checkpoint), "instruction": INSTRUCTION, "autostart": True}
    robot, *rest = GRAPHS["real"].nodes(RealArguments(cameras=str(file), **named, **brain))
    return [dataclasses.replace(robot, parameters={**robot.parameters, "bustype": INTERFACE}), *rest]


def _twin(checkpoint: Path) -> list[NodeSpec]:
    return GRAPHS["sim"].nodes(
        SimArguments(checkpoint=str(checkpoint), instruction=INSTRUCTION, autostart=True, view=False)
    )


@contextlib.contextmanager
def _witness() -> Generator[Witness]:
    node = Witness()
    beside = Beside(node)
    try:
        yield node
    finally:
        beside.close(QUIET)


def main(config: JitterConfig) -> int:
    """Measure and tell; the exit code is 1 when turns begin too late."""
    os.environ.setdefault("ROS_DOMAIN_ID", str(os.getpid() % 100 + 1))
    prepare_environment()
    rclpy.init()
    try:
        figures = measure(config)
    finally:
        rclpy.utilities.try_shutdown()
    text = json.dumps(figures, indent=2)
    print(text)
    if config.out is not None:
        config.out.write_text(text + "\n", encoding="utf-8")
    return 0 if figures["passed"] else 1


if __name__ == "__main__":
    exit_after(lambda: main(tyro.cli(JitterConfig)))
