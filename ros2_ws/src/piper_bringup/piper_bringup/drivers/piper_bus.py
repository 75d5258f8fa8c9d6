"""One arm's bus: piper_sdk for what is sent and read all the time, a socket of our own for stopping.

What is taken from the SDK and why: it opens the bus, reads it and codes commands. It swallows errors of sending and
stamps readings too coarsely, so both ends are listened in on: every frame that arrives goes to `Feedback`, and every
sending that fails is counted. What comes 200 times a second is not decoded a second time by the SDK: that would take a
tenth of a core for each arm, and nothing here asks it. Sending is not thread-safe in the SDK; one thread does it
(`PiperArm`).
"""

from __future__ import annotations

import dataclasses
import importlib
import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import can

from piper_bringup.can import bus as can_bus
from piper_bringup.can import protocol
from piper_bringup.can.protocol import Frame
from piper_bringup.drivers.piper_feedback import GROUPS, Feedback
from vla_policy.errors import VlaError

PERIODIC = frozenset((*GROUPS, *protocol.POSE))
"""Identifiers of what an arm sends all the time."""
BITRATE = 1_000_000
"""[bit/s]."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class BusConfig:
    """How the arms are wired."""

    left_channel: str = "can_left"
    """CAN channel of the left arm."""
    right_channel: str = "can_right"
    """CAN channel of the right arm."""
    bustype: str = "socketcan"
    """Interface of python-can: socketcan, or piper_loopback for emulated arms."""
    judge_flag: bool = True
    """Let piper_sdk check that a socketcan channel is up at 1 Mbit/s. False for vcan and vxcan, which have no rate."""
    can_port: int | None = None
    """Port, for interfaces of python-can that have one (udp_multicast)."""

    def __post_init__(self) -> None:
        """Refuse two arms on one bus: they would answer to the same identifiers."""
        if self.left_channel == self.right_channel:
            raise VlaError(f"both arms are on CAN channel {self.left_channel}; each needs a bus of its own")


class PiperSdk(Protocol):
    """What is used of piper_sdk's `C_PiperInterface_V2`; angles in 0.001 degrees, openings in 0.001 mm."""

    CreateCanBus: Callable[[str, str, int, bool], None]
    GetCanBus: Callable[[], Any]
    ConnectPort: Callable[..., None]
    DisconnectPort: Callable[[], None]
    MotionCtrl_2: Callable[[int, int, int, int], None]
    JointCtrl: Callable[[int, int, int, int, int, int], None]
    GripperCtrl: Callable[[int, int, int, int], None]
    EnableArm: Callable[[int, int], None]
    CrashProtectionConfig: Callable[[int, int, int, int, int, int], None]
    ArmParamEnquiryAndConfig: Callable[[int], None]
    SearchAllMotorMaxAngleSpd: Callable[[], None]
    SearchPiperFirmwareVersion: Callable[[], None]


class PiperBus:
    """Commands in radians are coded elsewhere; here they are the SDK's integers."""

    def __init__(self, channel: str, config: BusConfig, feedback: Feedback) -> None:
        """Join the bus and begin to read.

        Raises:
            VlaError: piper_sdk is not installed, or the channel cannot be opened.
        """
        try:
            library: Any = importlib.import_module("piper_sdk")
        except ImportError as error:
            raise VlaError("driver piper needs piper_sdk; install vla-piper[can]") from error
        if config.bustype == can_bus.INTERFACE:
            can_bus.register()
        self.channel = channel
        self.failing_since: float | None = None
        """Since when nothing could be sent [s]; None: it can."""
        self._feedback = feedback
        # Its logger would print five lines at every failed command; `failing_since` tells.
        silent = library.LogLevel.SILENT
        self.sdk: PiperSdk = library.C_PiperInterface_V2(
            channel, judge_flag=False, can_auto_init=False, logger_level=silent
        )
        try:
            self._open(config)
        except (can.CanError, OSError, ValueError, RuntimeError) as error:
            raise VlaError(
                f"cannot open CAN channel {channel} ({config.bustype}): {error or error.__context__}; "
                f"bring it up (docs/hardware.md), or name another with -p left_channel:=... or -p right_channel:=..."
            ) from error

    def _open(self, config: BusConfig) -> None:
        before = can.rc.get("port")
        if config.can_port is not None:
            can.rc["port"] = config.can_port
        try:
            self._stop_bus: can.BusABC = can.Bus(
                channel=self.channel, interface=config.bustype, receive_own_messages=False, local_loopback=False
            )
            is_judged = config.judge_flag and config.bustype == "socketcan"
            self.sdk.CreateCanBus(self.channel, config.bustype, BITRATE, is_judged)
        finally:
            if config.can_port is not None:
                can.rc["port"] = before
        wire = self.sdk.GetCanBus()
        self._parse, self._send = wire.callback_function, wire.SendCanMessage
        self._sent = wire.CAN_STATUS.SEND_MESSAGE_SUCCESS
        wire.callback_function, wire.SendCanMessage = self._on_message, self._on_send
        self.sdk.ConnectPort(piper_init=False)

    def _on_message(self, message: can.Message) -> None:
        """On the SDK's reading thread."""
        if message.is_error_frame:
            return
        self._feedback.on_frame(message.arbitration_id, bytes(message.data), time.monotonic())
        if message.arbitration_id not in PERIODIC:
            self._parse(message)

    def _on_send(self, *arguments: Any, **options: Any) -> Any:
        """On the sending thread."""
        status = self._send(*arguments, **options)
        if status == self._sent:
            self.failing_since = None
        elif self.failing_since is None:
            self.failing_since = time.monotonic()
        return status

    def send_past_the_sdk(self, frames: Sequence[Frame]) -> None:
        """Send frames by a socket that nobody else uses; errors are none of the sender's business."""
        for frame in frames:
            message = can.Message(arbitration_id=frame.id, data=frame.data, is_extended_id=False)
            try:
                self._stop_bus.send(message)
            except can.CanError:
                return

    def close(self) -> None:
        """Leave the bus."""
        self.sdk.DisconnectPort()
        self._stop_bus.shutdown()
