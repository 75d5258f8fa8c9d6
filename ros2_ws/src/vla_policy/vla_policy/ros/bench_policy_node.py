"""From camera to chunk: what the policy node takes beyond the model, with three 640x480 cameras at 30 Hz.

    python -m vla_policy.ros.bench_policy_node --checkpoint runs/demo/checkpoints/last --seconds 60

publishes from this process and runs the policy node in another. The overhead is the time from the stamp of the images,
set just before they are sent, until the chunk arrives back here, less the inference itself. The node counts in buckets,
so that its figures are up to 4.5 % too large.
"""

from __future__ import annotations

import dataclasses
import json
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import rclpy
import rclpy.utilities
import tyro
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from sensor_msgs.msg import Image, JointState
from trajectory_msgs.msg import JointTrajectory

from vla_policy import topics
from vla_policy.embodiment import Embodiment
from vla_policy.errors import VlaError
from vla_policy.ros import convert, qos
from vla_policy.ros.leaving import leave
from vla_policy.ros.spin import prepare_environment
from vla_policy.scheduling import CAMERA_PRIORITY, prefer_this_process, take_short_turns

JOINT_RATE = 200
"""[Hz]."""
IMAGE_RATE = 30
"""[Hz], each camera."""
HEIGHT, WIDTH = 480, 640
"""[px]."""
FLOOR = 10.0
"""The overhead is to stay below, 99 times of 100 [ms]."""
_SETTLING = 5.0
"""What comes first is not counted [s]: discovery, first pages of memory."""
_DIAGNOSTICS = 1.2
"""Until the node has told of all it did [s]."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class BenchConfig:
    """Measuring the policy node."""

    checkpoint: Path
    """Checkpoint folder."""
    seconds: float = 60.0
    """How long [s]; a chunk of 8 rows is answered about 2.5 times a second."""
    device: str = "cpu"
    """Where the network runs."""
    realtime_priority: int = 10
    """Of the node's threads but the network's, as beside real arms; 0: ordinary ones."""
    camera_priority: int = CAMERA_PRIORITY
    """Of this process, which sends what camera_node would; 0: an ordinary one."""
    out: Path | None = None
    """JSON file for the figures."""


class Source(Node):
    """Cameras and joints of a robot; takes the time of every chunk that comes back."""

    def __init__(self, robot: Embodiment) -> None:
        """Nothing is sent yet."""
        super().__init__("source")
        self.transport: list[float] = []
        """From the stamp of a chunk, set just before it is sent, until it arrives here [s]."""
        self.told: dict[str, str] = {}
        """Newest diagnostics of the policy."""
        self._names = robot.joint_names
        middle = [0.5 * (joint.lower + joint.upper) for joint in robot.joints]
        self._joints = (self.create_publisher(JointState, topics.JOINT_STATES, qos.FAST_STREAM), np.array(middle))
        noise = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
        self._cameras = [
            (self.create_publisher(Image, topics.image(name), qos.STREAM), convert.image_message(noise, name, 0.0))
            for name in robot.camera_names
        ]
        self.create_subscription(JointTrajectory, topics.ACTION_CHUNK, self._on_chunk, qos.COMMAND)
        self.create_subscription(DiagnosticArray, topics.DIAGNOSTICS, self._on_diagnostics, qos.EVENTS)

    def run(self, seconds: float) -> None:
        """Send for so long."""
        start, num_images = time.monotonic(), 0
        publisher, positions = self._joints
        for tick in range(round(seconds * JOINT_RATE)):
            time.sleep(max(0.0, start + tick / JOINT_RATE - time.monotonic()))
            publisher.publish(convert.joint_state_message(self._names, positions, self._now()))
            if tick / JOINT_RATE >= num_images / IMAGE_RATE:
                stamp = self.get_clock().now().to_msg()  # one for all: as cameras that are triggered together
                for camera, message in self._cameras:
                    message.header.stamp = stamp
                    camera.publish(message)
                num_images += 1

    def _now(self) -> float:
        return self.get_clock().now().nanoseconds * 1e-9

    def _on_chunk(self, message: JointTrajectory) -> None:
        self.transport.append(self._now() - convert.to_seconds(message.header.stamp))

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        status = message.status[0]
        if status.name == "policy":
            self.told = {"message": status.message} | {pair.key: pair.value for pair in status.values}


def measure(config: BenchConfig) -> dict[str, Any]:
    """Run the node for a while and ask it, and the clock, what it took."""
    robot = Embodiment.from_json((config.checkpoint / "embodiment.json").read_text(encoding="utf-8"))
    parameters = {"checkpoint": config.checkpoint, "device": config.device, "instruction": "wait", "autostart": True}
    parameters["realtime_priority"] = config.realtime_priority
    told = [word for name, value in parameters.items() for word in ("-p", f"{name}:={value}")]
    node = subprocess.Popen([sys.executable, "-m", "vla_policy.ros.policy_node", "--ros-args", *told])
    source, executor = Source(robot), SingleThreadedExecutor()
    executor.add_node(source)
    prefer_this_process(config.camera_priority)
    spinning = threading.Thread(target=executor.spin)
    spinning.start()
    try:
        deadline = time.monotonic() + 60.0
        while not source.transport:
            source.run(0.5)
            if time.monotonic() > deadline or node.poll() is not None:
                raise VlaError(f"no chunk came; the policy node says: {source.told.get('message', 'nothing')}")
        source.run(_SETTLING)
        before = dict(source.told)
        source.transport.clear()
        source.run(config.seconds)
        source.run(_DIAGNOSTICS)
    finally:
        node.send_signal(signal.SIGINT)
        node.wait()
        executor.shutdown()
        spinning.join()
        leave(source)
    figures: dict[str, Any] = {"chunks": len(source.transport), "seconds": config.seconds, "device": config.device}
    for part in ("observe", "inference", "publish", "overhead"):
        figures |= quantiles(part, counted_since(source.told, before, f"{part}_histogram_ms"))
    figures |= quantiles("transport", Counter(round(1e3 * duration, 2) for duration in source.transport))
    # Both at their worst hundredth at once: more than the true 99th percentile, never less.
    total = round(figures["overhead_p99_ms"] + figures["transport_p99_ms"], 2)
    return figures | {"total_p99_ms": total, "passed": total <= FLOOR}


def counted_since(now: Mapping[str, str], before: Mapping[str, str], key: str) -> Counter[float]:
    """Durations [ms] of a histogram in the policy's diagnostics, and how often they were counted since `before`."""
    counts = Counter({float(edge): int(count) for edge, count in _pairs(now[key])})
    counts.subtract({float(edge): int(count) for edge, count in _pairs(before[key])})
    return +counts


def _pairs(histogram: str) -> list[list[str]]:
    return [pair.split(":") for pair in histogram.split()]


def quantiles(part: str, counts: Counter[float]) -> dict[str, float]:
    """Figures of what was counted, by name.

    Raises:
        VlaError: nothing was.
    """
    durations = sorted(counts.elements())
    if not durations:
        raise VlaError("no chunk was answered in that time; measure for longer")
    shares = {"p50": 0.5, "p99": 0.99, "max": 1.0}
    return {f"{part}_{name}_ms": float(np.quantile(durations, share)) for name, share in shares.items()}


def main() -> int:
    """Print the figures; the exit code is 1 when the overhead is too large."""
    config = tyro.cli(BenchConfig)
    prepare_environment()
    take_short_turns()
    rclpy.init()
    try:
        figures = measure(config)
    except (VlaError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    finally:
        rclpy.utilities.try_shutdown()
    text = json.dumps(figures, indent=2)
    print(text)
    if config.out:
        config.out.parent.mkdir(parents=True, exist_ok=True)
        config.out.write_text(text, encoding="utf-8")
    return 0 if figures["passed"] else 1


if __name__ == "__main__":
    raise SystemExit(main())
