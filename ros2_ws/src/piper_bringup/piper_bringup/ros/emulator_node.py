"""Emulated arms in a world of the twin: CAN frames move its joints, and its cameras are the robot's.

    python -m piper_bringup.ros.emulator_node --ros-args -p task:=click_bell

Everything else of the graph is what runs beside real arms.
"""

# pyright: basic
# ROS has no types.

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Generator, Sequence
from typing import Any

from rcl_interfaces.msg import ParameterDescriptor, SetParametersResult
from rclpy.parameter import Parameter

from piper_bringup.can.bus import INTERFACE
from piper_bringup.emulator.arm import Arm
from piper_bringup.emulator.control import HOST, ControlServer
from piper_bringup.emulator.server import Emulator
from piper_bringup.emulator.settings import ArmSettings
from piper_bringup.emulator.world_plant import plants_of
from piper_bringup.ros.world_node import WorldNode
from piper_twin.robot import ARMS, DUAL_PIPER
from vla_policy.ros.parameters import declare
from vla_policy.ros.spin import run_node


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class EmulatorConfig:
    """Where the emulated arms are heard."""

    left_channel: str = "can_left"
    """CAN channel of the left arm."""
    right_channel: str = "can_right"
    """CAN channel of the right arm."""
    bustype: str = INTERFACE
    """Interface of python-can; socketcan for one end of a vxcan pair."""
    control_port: int = 0
    """Port on 127.0.0.1 that takes faults, one JSON object a line; 0: one that is free."""

    def channels(self) -> dict[str, str]:
        """Arm to its CAN channel."""
        return {arm: getattr(self, f"{arm}_channel") for arm in ARMS}


class EmulatorNode(WorldNode):
    """The world's node, with arms on their buses."""

    def __init__(self, **options: Any) -> None:
        """Join the buses; the arms have no torque until they are enabled."""
        super().__init__(**options)
        config = declare(self, EmulatorConfig)
        plants = plants_of(self.world)
        settings = ArmSettings(smooths=False)  # the world's servos do
        arms = {channel: Arm(settings, plants[arm]) for arm, channel in config.channels().items()}
        self.emulator = Emulator(arms, config.bustype)
        self._control = ControlServer(self.emulator, config.control_port)
        self.placing = self._placing
        lost = ParameterDescriptor(description=f"Cameras that send nothing, of {', '.join(DUAL_PIPER.camera_names)}.")
        self.add_on_set_parameters_callback(self._on_parameters)
        self.declare_parameter("lost_cameras", [""], lost)
        self.get_logger().info(f"emulating {', '.join(arms)}; faults to {HOST}:{self._control.port}")

    @contextlib.contextmanager
    def _placing(self) -> Generator[None]:
        """Other arms are put in place, which have no torque yet: as with the twin, they are enabled anew."""
        self.emulator.power_cycle()
        with self.emulator.placing():
            yield

    def _on_parameters(self, changes: Sequence[Parameter]) -> SetParametersResult:
        for change in changes:
            if change.name == "lost_cameras":
                lost = frozenset(change.value or ()) - {""}
                if unknown := lost - set(DUAL_PIPER.camera_names):
                    return SetParametersResult(successful=False, reason=f"there is no camera {', '.join(unknown)}")
                self._outlet.lost = lost
        return SetParametersResult(successful=True)

    def destroy_node(self) -> None:
        """Switch the arms off first."""
        self._control.close()
        self.emulator.close()
        super().destroy_node()


def main() -> None:
    """Run until told to end."""
    raise SystemExit(run_node(EmulatorNode))


if __name__ == "__main__":
    main()
