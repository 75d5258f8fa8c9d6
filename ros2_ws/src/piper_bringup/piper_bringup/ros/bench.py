"""The figures of the robot's graph: how punctual, how quick, and whether a recording is whole.

    make bench-ros        # or: python -m piper_bringup.ros.bench --out runs/bench-ros

Three measurements, one after the other, each also a command of its own: `bench_jitter` (the control loop, once on
emulated arms and once on the twin), `bench_overhead` (from camera to chunk, without the model) and `bench_recorder`.
Leave the machine alone meanwhile. `summary.json` has the figures that are held to a limit on its top level, and the
rest below.
"""

# pyright: basic
# ROS has no types.

from __future__ import annotations

import dataclasses
import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import rclpy
import rclpy.utilities
import tyro

from piper_bringup.ros import bench_jitter, bench_overhead, bench_recorder
from piper_bringup.ros.bench_jitter import DriverName, JitterConfig
from piper_twin.exit_codes import exit_after
from piper_twin.robot import DUAL_PIPER
from vla_policy import provenance
from vla_policy.errors import VlaError
from vla_policy.normalization import DatasetStatistics, Statistics
from vla_policy.ros.spin import prepare_environment

Part = Literal["jitter", "overhead", "recorder"]

LIMITS = {**bench_jitter.LIMITS, "overhead_p99_ms": bench_overhead.LIMIT, "recorder_lost": 0}
"""Largest value of a figure. Those of jitter are held on `drivers[0]`."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class BenchConfig:
    """What is measured; the defaults are what `make bench-ros` runs."""

    out: Path = Path("runs/bench-ros")
    """Folder of summary.json, and of what the processes printed."""
    seconds: float = 60.0
    """Of each measurement."""
    checkpoint: Path | None = None
    """Policy that runs meanwhile; left out, an untrained one of the size `tiny` that moves the arms a little."""
    parts: tuple[Part, ...] = ("jitter", "overhead", "recorder")
    """Which measurements."""
    drivers: tuple[DriverName, ...] = ("piper", "twin")
    """Of the robot whose jitter is measured; the first one's figures are the summary's."""

    def __post_init__(self) -> None:
        """Refuse what measures nothing."""
        if self.seconds <= 0.0 or not self.parts or not self.drivers:
            raise VlaError("give seconds above 0, at least one part and at least one driver")


def measure(config: BenchConfig) -> dict[str, Any]:
    """The figures by part, those that have a limit on top."""
    with tempfile.TemporaryDirectory() as temporary:
        checkpoint = config.checkpoint or untrained(Path(temporary) / "checkpoint")
        works: dict[str, Callable[[], dict[str, Any]]] = {
            "jitter": lambda: {driver: _jitter(config, driver, checkpoint) for driver in config.drivers},
            "overhead": lambda: {images: _overhead(config, images, checkpoint) for images in ("fitted", "raw")},
            "recorder": lambda: bench_recorder.measure(
                bench_recorder.BenchConfig(seconds=config.seconds), Path(temporary) / "bags"
            ),
        }
        found: dict[str, Any] = {}
        for part in config.parts:
            print(f"measuring {part} ...", flush=True)
            found[part] = works[part]()
            print(json.dumps(found[part]), flush=True)  # what comes next may fail
    top: dict[str, Any] = {}
    if "jitter" in found:
        top |= {name: found["jitter"][config.drivers[0]][name] for name in bench_jitter.LIMITS}
    if "overhead" in found:
        top["overhead_p99_ms"] = found["overhead"]["fitted"]["overhead_p99_ms"]
    if "recorder" in found:
        top["recorder_lost"] = found["recorder"]["lost"]
    return top | found


def _jitter(config: BenchConfig, driver: DriverName, checkpoint: Path) -> dict[str, Any]:
    log = config.out / f"jitter_{driver}.log"
    return bench_jitter.measure(JitterConfig(checkpoint=checkpoint, driver=driver, seconds=config.seconds, log=log))


def _overhead(config: BenchConfig, images: Literal["fitted", "raw"], checkpoint: Path) -> dict[str, Any]:
    return bench_overhead.measure(
        bench_overhead.BenchConfig(checkpoint=checkpoint, images=images, seconds=config.seconds)
    )


def untrained(folder: Path) -> Path:
    """A policy of the size `tiny`; how fast it is does not depend on what it learned."""
    from vla_policy.policy import VlaPolicy  # torch takes seconds, and a wrong argument shall be told of at once
    from vla_policy.presets import tiny
    from vla_policy.prompt import train_tokenizer

    rng = np.random.default_rng(0)
    action, proprio = (
        Statistics.of(rng.uniform(-size, size, (16, DUAL_PIPER.num_joints)).astype(np.float32)) for size in (0.05, 1.0)
    )
    described = DatasetStatistics(action=action, proprio=proprio, num_transitions=16, num_trajectories=1)
    tokenizer = train_tokenizer([bench_jitter.INSTRUCTION])
    VlaPolicy.create(tiny(DUAL_PIPER), DUAL_PIPER, described, tokenizer).save(folder)
    return folder


def main(config: BenchConfig) -> int:
    """Measure, write and tell; the exit code is 1 when a limit is not met."""
    config.out.mkdir(parents=True, exist_ok=True)
    os.environ.setdefault("ROS_DOMAIN_ID", str(os.getpid() % 100 + 1))
    prepare_environment()
    rclpy.init()
    try:
        figures = measure(config)
    finally:
        rclpy.utilities.try_shutdown()
    missed = [
        f"{name} is {figures[name]}, the limit is {limit}"
        for name, limit in LIMITS.items()
        if name in figures and figures[name] > limit
    ]
    missed += [
        f"driver {name}: the robot was held: {one['held']}"
        for name, one in figures.get("jitter", {}).items()
        if one["held"]
    ]
    summary = {
        "command": provenance.command_line(),
        "commit": provenance.commit(),
        "hardware": provenance.hardware(),
        "seconds": config.seconds,
        "passed": not missed,
        **figures,
    }
    text = json.dumps(summary, indent=2)
    print(text)
    for line in missed:
        print(line)
    (config.out / "summary.json").write_text(text + "\n", encoding="utf-8")
    return 1 if missed else 0


if __name__ == "__main__":
    exit_after(lambda: main(tyro.cli(BenchConfig)))
