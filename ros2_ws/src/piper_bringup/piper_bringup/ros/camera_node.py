"""Publishes this machine's cameras: images, the same as JPEG, and calibration.

    python -m piper_bringup.ros.camera_node --ros-args -p cameras:=mine.yaml
    python -m piper_bringup.ros.camera_node --ros-args -p cameras:=mine.yaml -p only:=[head] -r __node:=head_camera

One process may serve all cameras, or each its own; `only` says which.
"""

# pyright: basic
# ROS messages carry no types.

from __future__ import annotations

import dataclasses
import time
from pathlib import Path

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.node import Node

from piper_bringup.cameras.calibration import Calibration
from piper_bringup.cameras.capture import Capture
from piper_bringup.cameras.config import CameraConfig, load_cameras
from piper_bringup.cameras.sources import Frame, open_source
from piper_bringup.ros.camera_outlet import CameraOutlet
from piper_twin.robot import DUAL_PIPER
from vla_policy import camera_image, topics
from vla_policy.camera_image import fit_image
from vla_policy.embodiment import Camera
from vla_policy.errors import VlaError
from vla_policy.ros import convert, qos
from vla_policy.ros.parameters import declare
from vla_policy.ros.spin import run_node
from vla_policy.scheduling import CAMERA_PRIORITY, MAX_PRIORITY, prefer_this_process

_REPORT_PERIOD = 1.0  # [s]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class CamerasConfig:
    """Which cameras this process serves."""

    cameras: Path
    """YAML file with one source a camera, as config/cameras.yaml."""
    only: tuple[str, ...] = ()
    """Names of the cameras of that file to serve; all when empty."""
    realtime_priority: int = CAMERA_PRIORITY
    """Of all threads of this process (SCHED_FIFO), where the system permits it; 0: ordinary ones."""

    def __post_init__(self) -> None:
        """Refuse what is no priority."""
        if not 0 <= self.realtime_priority <= MAX_PRIORITY:
            raise VlaError(f"realtime_priority is {self.realtime_priority}; it must be 0 to {MAX_PRIORITY}")

    def chosen(self) -> dict[str, CameraConfig]:
        """The cameras to serve, by name."""
        found = load_cameras(self.cameras, DUAL_PIPER.camera_names)
        if missing := set(self.only) - found.keys():
            raise VlaError(f"{self.cameras} has no camera {', '.join(sorted(missing))}; it has {', '.join(found)}")
        return {name: config for name, config in found.items() if not self.only or name in self.only}


class CameraNode(Node):
    """One thread and three topics a camera."""

    def __init__(self) -> None:
        """Begin to open the cameras; one that is not there is tried again and again."""
        super().__init__("cameras")
        self._begin = time.monotonic()
        config = declare(self, CamerasConfig)
        chosen = config.chosen()
        cameras = {camera.name: camera for camera in DUAL_PIPER.cameras}
        self._captures = {name: self._capture(cameras[name], config) for name, config in chosen.items()}
        self._silent: set[str] = set()
        self._reports = self.create_publisher(DiagnosticArray, topics.DIAGNOSTICS, qos.EVENTS)
        self.create_timer(_REPORT_PERIOD, self._report)
        camera_image.prepare()  # now: the first image shall not wait for it
        prefer_this_process(config.realtime_priority)
        for capture in self._captures.values():
            capture.start()

    def _capture(self, camera: Camera, config: CameraConfig) -> Capture:
        lens = Calibration.load(config.calibration) if config.calibration else None
        outlet = CameraOutlet(self, camera, lens.fitted(camera) if lens and config.crop else lens)

        def publish(frame: Frame) -> None:
            stamp = self._now() - (time.monotonic() - frame.time)
            if lens:
                lens.require_size(frame.image, camera.name)
            outlet.publish(fit_image(frame.image, camera) if config.crop else frame.image, stamp)

        return Capture(config, publish, open_source)

    def _now(self) -> float:
        return self.get_clock().now().nanoseconds * 1e-9

    def _report(self) -> None:
        now, stamp = time.monotonic(), self._now()
        for name, capture in self._captures.items():
            problem = capture.problem(now, since=self._begin)
            self._reports.publish(convert.diagnostic(f"camera {name}", problem, capture.values(now), stamp))
            if problem and name not in self._silent:
                self.get_logger().error(f"camera {name} is {problem}")
            elif name in self._silent and not problem:
                self.get_logger().info(f"camera {name} is back")
            (self._silent.add if problem else self._silent.discard)(name)

    def destroy_node(self) -> None:
        """Let the cameras go first."""
        for capture in self._captures.values():
            capture.close()
        super().destroy_node()


def main() -> None:
    """Run until told to end."""
    raise SystemExit(run_node(CameraNode))


if __name__ == "__main__":
    main()
