"""Does the recorder keep every message? Three 640x480 cameras at 30 Hz and joints at 200 Hz, counted one by one.

    python -m piper_bringup.ros.bench_recorder --seconds 60 --out recorder.json

publishes from this process, records in another, and compares the stamps that were sent with those in the bag.
"""

# pyright: basic
# ROS messages carry no types.

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Literal

import numpy as np
import rclpy
import rclpy.utilities
import tyro
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.node import Node
from rosbags.rosbag2 import Reader
from sensor_msgs.msg import CompressedImage, Image, JointState

from piper_bringup.ros.beside import Beside
from piper_twin.exit_codes import exit_after
from piper_twin.robot import DUAL_PIPER
from vla_policy import topics
from vla_policy.errors import VlaError
from vla_policy.ros import convert, qos
from vla_policy.ros.leaving import QUIET
from vla_policy.ros.service_calls import ServiceCalls
from vla_policy.ros.spin import prepare_environment

JOINT_RATE = 200
"""[Hz], states and commands each."""
IMAGE_RATE = 30
"""[Hz], each camera."""
HEIGHT, WIDTH = 480, 640
"""[px]."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class BenchConfig:
    """Measuring the recorder."""

    seconds: float = 60.0
    """Length of the episode [s]."""
    published: Literal["raw", "jpeg"] = "raw"
    """What the cameras send."""
    stored: Literal["jpeg", "raw"] = "jpeg"
    """What the bag holds; raw needs raw cameras."""
    folder: Path | None = None
    """Where the bag goes; a temporary folder, removed afterwards, by default."""
    out: Path | None = None
    """JSON file for the figures."""


class Source(Node):
    """Cameras and joints of a robot, as fast as they really are; remembers every stamp it sent."""

    def __init__(self, published: str) -> None:
        """Nothing is sent yet."""
        super().__init__("source")
        self._calls = ServiceCalls(self)
        self.sent: dict[str, list[int]] = {}
        self.queue_peak = 0.0
        """Most that has waited for the recorder's disk, as it says itself [MB]."""
        self._joints = {
            topic: self.create_publisher(JointState, topic, qos.FAST_STREAM)
            for topic in (topics.JOINT_STATES, topics.JOINT_COMMANDS)
        }
        self._cameras: dict[str, tuple[Any, list[Any]]] = {}
        for camera in DUAL_PIPER.camera_names:
            frames = [picture(seed) for seed in range(4)]
            if published == "jpeg":
                publisher = self.create_publisher(CompressedImage, topics.compressed(camera), qos.STREAM)
                messages = [convert.jpeg_message(frame, camera, 0.0) for frame in frames]
            else:
                publisher = self.create_publisher(Image, topics.image(camera), qos.STREAM)
                messages = [convert.image_message(frame, camera, 0.0) for frame in frames]
            self._cameras[camera] = (publisher, messages)
        self.create_subscription(DiagnosticArray, topics.DIAGNOSTICS, self._on_report, qos.EVENTS)

    def run(self, seconds: float) -> float:
        """Send for so long; returns how late the latest message was [s]."""
        names, latest = DUAL_PIPER.joint_names, 0.0
        start, num_images = time.monotonic(), 0
        for tick in range(round(seconds * JOINT_RATE)):
            due = start + tick / JOINT_RATE
            if (wait := due - time.monotonic()) > 0.0:
                time.sleep(wait)
            latest = max(latest, time.monotonic() - due)
            for topic, publisher in self._joints.items():
                stamp = self._mark(topic)
                message = convert.joint_state_message(names, np.full(len(names), tick * 1e-4), 0.0)
                message.header.stamp = stamp
                publisher.publish(message)
            if tick / JOINT_RATE >= num_images / IMAGE_RATE:
                for camera, (publisher, messages) in self._cameras.items():
                    message = messages[num_images % len(messages)]
                    message.header.stamp = self._mark(camera)
                    publisher.publish(message)
                num_images += 1
        return latest

    def _mark(self, name: str) -> Any:
        now = self.get_clock().now()
        self.sent.setdefault(name, []).append(now.nanoseconds)
        return now.to_msg()

    def call(self, service: str) -> str:
        """Answer of a recorder's service.

        Raises:
            VlaError: it refuses, or nobody offers it.
        """
        success, message = self._calls.trigger(service)
        if not success:
            raise VlaError(f"{service}: {message}")
        return message

    def _on_report(self, message: DiagnosticArray) -> None:
        told = (pair for status in message.status if status.name == "recorder" for pair in status.values)
        self.queue_peak = max([self.queue_peak, *(float(pair.value) for pair in told if pair.key == "queue_peak_mb")])


def picture(seed: int) -> np.ndarray:
    """A smooth picture with the noise of a webcam: JPEG makes about 70 KB of it."""
    rng = np.random.default_rng(seed)
    smooth = np.add.outer(np.arange(HEIGHT), np.arange(WIDTH))[..., None] // 5
    return (smooth + rng.normal(0.0, 5.0, (HEIGHT, WIDTH, 3))).clip(0, 255).astype(np.uint8)


def measure(config: BenchConfig, folder: Path) -> dict[str, Any]:
    """Record one episode into `folder` and count."""
    command = [sys.executable, "-m", "piper_bringup.ros.recorder_node", "--ros-args", "-p", f"folder:={folder}"]
    command += ["-p", f"images:={config.stored}", "-p", "instruction:=bench"]
    recorder = subprocess.Popen(command)
    source = Source(config.published)
    beside = Beside(source)
    try:
        _until_started(source)
        source.sent.clear()
        cpu, began = _cpu_seconds(recorder.pid), time.monotonic()
        latest = source.run(config.seconds)
        time.sleep(0.5)  # what was sent last is on its way
        cpu, took = _cpu_seconds(recorder.pid) - cpu, time.monotonic() - began
        told = source.call(topics.EPISODE_SUCCESS)  # the bag, and what it lacks
        bag = max(folder.glob("episode_*"), key=lambda path: path.stat().st_mtime_ns)
        return {
            **_count(bag, source.sent),
            "told": told,
            "seconds": config.seconds,
            "published": config.published,
            "stored": config.stored,
            "recorder_cpu": round(cpu / took, 3),
            "queue_peak_mb": source.queue_peak,
            "bag_mb": round(sum(file.stat().st_size for file in bag.iterdir()) / 1e6, 1),
            "source_late_ms": round(1e3 * latest, 1),
        }
    finally:
        _end(recorder)
        beside.close(QUIET)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGINT)
    try:
        process.wait(30.0)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _until_started(source: Source) -> None:
    """Send until the recorder has heard everything and begins."""
    deadline = time.monotonic() + 30.0
    while True:
        source.run(0.5)
        try:
            source.call(topics.EPISODE_START)
            return
        except VlaError:
            if time.monotonic() > deadline:
                raise


def _count(bag: Path, sent: dict[str, list[int]]) -> dict[str, Any]:
    """How many of the messages sent are in the bag, by topic or camera."""
    camera_of = {make(name): name for name in DUAL_PIPER.camera_names for make in (topics.image, topics.compressed)}
    found: dict[str, set[int]] = {name: set() for name in sent}
    with Reader(bag) as reader:
        for connection, _, data in reader.messages():
            name = camera_of.get(connection.topic, connection.topic)
            if name in found:
                seconds, nanoseconds = np.frombuffer(data[4:12], np.uint32)
                found[name].add(int(seconds) * 10**9 + int(nanoseconds))
    streams = {
        name: {"sent": len(stamps), "lost": len(set(stamps) - found[name])} for name, stamps in sorted(sent.items())
    }
    return {"lost": sum(each["lost"] for each in streams.values()), "streams": streams}


def _cpu_seconds(process: int) -> float:
    """Time on a CPU so far, all threads [s]."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main(config: BenchConfig) -> int:
    """Measure and tell; the exit code is 1 when a message was lost."""
    os.environ.setdefault("ROS_DOMAIN_ID", str(os.getpid() % 100 + 1))
    prepare_environment()
    rclpy.init()
    try:
        with tempfile.TemporaryDirectory() as temporary:
            figures = measure(config, config.folder or Path(temporary))
    finally:
        rclpy.utilities.try_shutdown()
    text = json.dumps(figures, indent=2)
    print(text)
    if config.out is not None:
        config.out.write_text(text + "\n")
    return int(figures["lost"] > 0)


if __name__ == "__main__":
    exit_after(lambda: main(tyro.cli(BenchConfig)))
