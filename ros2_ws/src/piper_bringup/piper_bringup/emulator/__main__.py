"""Serve emulated Pipers until Ctrl-C: `python -m piper_bringup.emulator --channels can_left can_right`."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass

import tyro

from piper_bringup.can.registry import INTERFACE
from piper_bringup.emulator.arm import Arm
from piper_bringup.emulator.control import HOST, ControlServer
from piper_bringup.emulator.server import Emulator
from piper_bringup.emulator.settings import ArmSettings
from piper_twin.exit_codes import exit_after
from piper_twin.robot import GRIPPER_STROKE
from vla_policy.errors import VlaError


@dataclass(frozen=True, slots=True, kw_only=True)
class EmulatorConfig:
    """Emulated arms, one a channel."""

    channels: tuple[str, ...] = ("can_left", "can_right")
    """CAN channels with an arm each."""
    leaders: tuple[str, ...] = ()
    """CAN channels with a leader arm each, moved through the control port."""
    bustype: str = INTERFACE
    """Interface of python-can."""
    control_port: int = 0
    """Port on 127.0.0.1 that takes faults, one JSON object a line; 0: one that is free."""
    software: str = "S-V1.8-5"
    """Firmware version."""
    stroke: float = GRIPPER_STROKE
    """Of the grippers [m]; 0: never set."""
    status_every: float = 1.0
    """Time between two status lines [s]."""

    def __post_init__(self) -> None:
        names = (*self.channels, *self.leaders)
        if not names or len(set(names)) != len(names):
            raise VlaError("name every channel once, as in --channels can_left can_right")


def serve(config: EmulatorConfig) -> None:
    """Until Ctrl-C."""
    arms = {
        channel: Arm(ArmSettings(software=config.software, stroke=config.stroke, is_leader=channel in config.leaders))
        for channel in (*config.channels, *config.leaders)
    }
    with Emulator(arms, config.bustype) as emulator:
        control = ControlServer(emulator, config.control_port)
        try:
            print(f"emulating {', '.join(arms)} on {config.bustype}; faults to {HOST}:{control.port}", flush=True)
            _report(emulator, config.status_every)
        finally:
            control.close()


def _report(emulator: Emulator, every: float) -> None:
    """One line that is written over on a terminal; elsewhere a new one whenever it says something else."""
    last = ""
    while True:
        line = " | ".join(
            f"{channel}: {state['arm_status']}, {state['ctrl_mode']}, {sum(state['enabled'])}/7 enabled, "
            f"{state['counts']['targets']} targets, faults: {', '.join(state['faults']) or 'none'}"
            for channel, state in emulator.state().items()
        )
        if sys.stdout.isatty():
            print(f"\r\x1b[K{line}", end="", flush=True)
        elif line != last:
            print(line, flush=True)
        last = line
        time.sleep(every)


if __name__ == "__main__":
    exit_after(lambda: serve(tyro.cli(EmulatorConfig)))
