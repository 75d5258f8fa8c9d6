"""From camera to chunk: what the graph takes beyond the model, with three 640x480 cameras at 30 Hz.

    python -m piper_bringup.ros.bench_overhead --checkpoint runs/demo/grpo/checkpoints/last --seconds 60

publishes from this process as camera_node does, and runs the policy node in another. The overhead of a chunk is the
time from the stamp of its images, set just before they are fitted and sent, until it arrives back here, less the
inference itself.
"""

# pyright: basic
# ROS messages carry no types.

from __future__ import annotations

import dataclasses
import json
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import rclpy
import rclpy.utilities
import tyro
from rclpy.node import Node
from sensor_msgs.msg import JointState
from trajectory_msgs.msg import JointTrajectory

from piper_bringup.ros.beside import Beside
from piper_bringup.ros.camera_outlet import CameraOutlet
from piper_twin.exit_codes import exit_after
from piper_twin.robot import DUAL_PIPER
from vla_policy import camera_image, topics
from vla_policy.errors import VlaError
from vla_policy.ros import convert, qos
from vla_policy.ros.leaving import QUIET
from vla_policy.ros.spin import prepare_environment
from vla_policy.scheduling import CAMERA_PRIORITY, prefer_this_process, take_short_turns

JOINT_RATE = 200
"""[Hz]."""
IMAGE_RATE = 30
"""[Hz], each camera."""
HEIGHT, WIDTH = 480, 640
"""[px]."""
LIMIT = 10.0
"""The overhead is to stay below, 99 times of 100 [ms]."""
_SETTLING = 5.0
"""What comes first is not counted [s]: discovery, first pages of memory."""
_PATIENCE = 60.0
"""For the first chunk [s]; the node loads a network."""
_SAME = 1e-4
"""Stamps that differ by less are one [s]."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class BenchConfig:
    """Measuring from camera to chunk."""

    checkpoint: Path
    """Checkpoint folder."""
    images: Literal["fitted", "raw"] = "fitted"
    """What the policy reads: fitted images, as beside our own cameras, or raw ones, as beside other drivers."""
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

    def __init__(self) -> None:
        """Nothing is sent yet."""
        super().__init__("source")
        self.arrivals: list[tuple[float, float]] = []
        """Stamp of a chunk, which is that of its images, and when it came, since the epoch [s]."""
        self._middle = np.array([0.5 * (joint.lower + joint.upper) for joint in DUAL_PIPER.joints])
        self._joints = self.create_publisher(JointState, topics.JOINT_STATES, qos.FAST_STREAM)
        self._image = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
        self._outlets = [CameraOutlet(self, camera) for camera in DUAL_PIPER.cameras]
        self.create_subscription(JointTrajectory, topics.PROPOSED_CHUNK, self._on_chunk, qos.COMMAND)

    def run(self, seconds: float) -> None:
        """Send for so long."""
        start, num_images = time.monotonic(), 0
        for tick in range(round(seconds * JOINT_RATE)):
            time.sleep(max(0.0, start + tick / JOINT_RATE - time.monotonic()))
            self._joints.publish(convert.joint_state_message(DUAL_PIPER.joint_names, self._middle, time.time()))
            if tick / JOINT_RATE >= num_images / IMAGE_RATE:
                stamp = time.time()  # one for all: as cameras that are triggered together
                for outlet in self._outlets:
                    outlet.publish(self._image, stamp)
                num_images += 1

    def _on_chunk(self, message: JointTrajectory) -> None:
        self.arrivals.append((convert.to_seconds(message.header.stamp), time.time()))


def measure(config: BenchConfig) -> dict[str, Any]:
    """Run the node for a while, and compare its clock with ours: the machine's.

    Raises:
        VlaError: no chunk comes.
    """
    with tempfile.TemporaryDirectory() as folder:
        answers = Path(folder) / "answers.json"
        # In the shadow a chunk keeps the stamp of its images, by which it is told from the others.
        parameters = {"checkpoint": config.checkpoint, "device": config.device, "mode": "shadow", "autostart": True}
        parameters |= {"instruction": "wait", "fitted_images": config.images == "fitted"}
        parameters["realtime_priority"] = config.realtime_priority
        told = [word for name, value in parameters.items() for word in ("-p", f"{name}:={value}")]
        module = "piper_bringup.ros.timed_policy_node"
        node = subprocess.Popen([sys.executable, "-m", module, str(answers), "--ros-args", *told])
        camera_image.prepare()
        source = Source()
        prefer_this_process(config.camera_priority)
        beside = Beside(source)
        try:
            deadline = time.monotonic() + _PATIENCE
            while not source.arrivals:
                source.run(0.5)
                if time.monotonic() > deadline or node.poll() is not None:
                    raise VlaError("no chunk came; what the policy node printed says why")
            source.run(_SETTLING)
            source.arrivals.clear()
            source.run(config.seconds)
        finally:
            node.send_signal(signal.SIGINT)
            node.wait()
            beside.close(QUIET)
        figures = overheads(source.arrivals, json.loads(answers.read_text(encoding="utf-8")))
    setting = {"images": config.images, "seconds": config.seconds, "device": config.device}
    return setting | figures | {"passed": figures["overhead_p99_ms"] <= LIMIT}


def overheads(
    arrivals: Iterable[tuple[float, float]], answers: Iterable[tuple[float, float, float]]
) -> dict[str, float]:
    """Figures of every chunk that came, each with its own inference.

    Args:
        arrivals: Stamp of the chunk's images, and when it came [s].
        answers: The same stamp, when the policy was asked and when it had answered [s].

    Returns:
        Quantiles of `observe` (from the stamp to the policy), `inference`, `way_back` (from there to the arrival) and
        `overhead` (all but the inference), and the number of `chunks`.

    Raises:
        VlaError: none came.
    """
    asked_at = {stamp: (asked, answered) for stamp, asked, answered in answers}
    rows = []
    for stamp, came in arrivals:
        nearest = min(asked_at, key=lambda known: abs(known - stamp), default=np.inf)
        if abs(nearest - stamp) < _SAME:
            asked, answered = asked_at[nearest]
            rows.append((asked - stamp, answered - asked, came - answered, came - stamp - (answered - asked)))
    if not rows:
        raise VlaError("no chunk was answered in that time; measure for longer")
    shares = {"p50": 0.5, "p99": 0.99, "max": 1.0}
    parts = zip(("observe", "inference", "way_back", "overhead"), np.array(rows).T, strict=True)
    return {"chunks": len(rows)} | {
        f"{part}_{name}_ms": round(1e3 * float(np.quantile(durations, share)), 3)
        for part, durations in parts
        for name, share in shares.items()
    }


def main(config: BenchConfig) -> int:
    """Print the figures; the exit code is 1 when the overhead is too large."""
    prepare_environment()
    take_short_turns()
    rclpy.init()
    try:
        figures = measure(config)
    finally:
        rclpy.utilities.try_shutdown()
    text = json.dumps(figures, indent=2)
    print(text)
    if config.out:
        config.out.parent.mkdir(parents=True, exist_ok=True)
        config.out.write_text(text, encoding="utf-8")
    return 0 if figures["passed"] else 1


if __name__ == "__main__":
    exit_after(lambda: main(tyro.cli(BenchConfig)))
