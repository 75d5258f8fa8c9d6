"""One Piper: a thread that sends the newest command at 200 Hz, and one that holds the arm where the first hangs."""

from __future__ import annotations

import dataclasses
import struct
import threading
import time

import numpy as np

from piper_bringup.can import protocol
from piper_bringup.can.commands import ASK_CRASH_LEVELS, ASK_STROKE, Mode
from piper_bringup.can.protocol import Frame
from piper_bringup.control.faults import Fault
from piper_bringup.control.states import Array
from piper_bringup.drivers.piper_bus import BusConfig, PiperBus
from piper_bringup.drivers.piper_checks import problems, zero_shift
from piper_bringup.drivers.piper_feedback import GROUPS, LOST, Feedback
from piper_twin.robot import GRIPPER_STROKE, MAX_JOINT_VELOCITY
from vla_policy.errors import VlaError

PERIOD = 0.005
"""Between two commands [s]."""
RESEND_AFTER = 1.5 * PERIOD
"""A command is sent again when the next is later than this [s]; sooner would double commands that merely jitter."""
STALLED = 0.2
"""A sender that sent nothing for this long hangs [s]."""
UNSENT = 0.1
"""Failing to send for this long is a fault [s]."""
WISH = 0.1
"""A wish for torque counts for this long [s]; the control loop repeats it every tick."""
TORQUE_PERIOD, QUERY_PERIOD = 0.05, 1.0
"""Between two requests for torque, and between two questions for settings [s]."""
_PAIR = struct.Struct(">ii")
"""Of a frame of joints."""
KEEPER_TIME, KEEPER_PATIENCE = 0.1, 0.02
"""After a stop the other socket is used for the first while in any case, later if the sender is late by the second."""
TORQUE_ON, GRIPPER_ON = 2, 1
"""As EnableArm and GripperCtrl of piper_sdk count."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ArmSettings:
    """What the arms are told beside where to go."""

    gripper_effort: float = 1.0
    """Largest effort of the grippers, up to 5 [N m]."""
    crash_level: int = 5
    """How hard a joint must be hit to stop, 1 (lightly) to 8; 0: never. Set whenever the arms are enabled."""

    def __post_init__(self) -> None:
        """Refuse what an arm cannot be set to."""
        if not 0.0 < self.gripper_effort <= 5.0:
            raise VlaError(f"gripper_effort is {self.gripper_effort}; it must be above 0 and at most 5 N m")
        if not 0 <= self.crash_level <= 8:
            raise VlaError(f"crash_level is {self.crash_level}; it must be 0 (off) to 8")


class PiperArm:
    """`write` and `enable` belong to the control thread, `stop` and `resume` to any."""

    def __init__(self, name: str, channel: str, bus: BusConfig, settings: ArmSettings, speed: int) -> None:
        """Connect; nothing is sent but questions for settings.

        Args:
            name: left or right.
            channel: CAN channel.
            bus: How to join it.
            settings: What the arm is told.
            speed: Of its joints, as a share of the largest [%].
        """
        now = time.monotonic()
        self.name, self._settings = name, settings
        # Room to catch up: an arm limited to exactly the speed of its commands stays behind for ever.
        self._speed, self._max_speed = min(100, round(1.5 * speed)), speed
        self.feedback = Feedback(name, now)
        self._bus = PiperBus(channel, bus, self.feedback)
        self._command: Array | None = None
        self._stop_frames: list[bytes] | None = None
        self._wished = self._asked_torque = self._asked_settings = -np.inf
        self._has_crash_levels = False
        self._heartbeat, self._stopped_at = now, -np.inf
        self._wake, self._held, self._ended = threading.Event(), threading.Event(), threading.Event()
        self._sender = threading.Thread(target=self._send, name=f"{name} sender", daemon=True)
        self._keeper = threading.Thread(target=self._hold, name=f"{name} stop", daemon=True)
        self._sender.start()
        self._keeper.start()

    def read(self) -> Array:
        """Six joints [rad] and the opening [m]; NaN until they have come."""
        joints = self.feedback.joints
        joints[:6] -= self._shift
        return joints

    @property
    def _shift(self) -> Array:
        return zero_shift(self.feedback.software)

    def write(self, command: Array) -> None:
        """Where to go from now on: six joints [rad] and the opening [m]."""
        self._command = command
        self._wake.set()

    def enable(self) -> None:
        """Wish for torque."""
        self._wished = time.monotonic()

    def enabled(self) -> bool:
        """Whether joints and gripper have torque and listen to CAN, as the arm said a moment ago."""
        status, now = self.feedback.status, time.monotonic()
        if status is None or max(self.feedback.ages(now).values()) > LOST:
            return False
        has_torque = not self.feedback.disabled_motors and self.feedback.is_gripper_enabled
        return has_torque and status.ctrl_mode == protocol.CTRL_CAN

    def stop(self) -> None:
        """Send back what was measured last, by both ways to the bus; shares no lock with either."""
        if self._stop_frames is None:
            self._stop_frames = self.feedback.joint_frames or []
            self._stopped_at = time.monotonic()
        self._held.set()

    def resume(self) -> None:
        """Go on from where `stop` held the arm."""
        self._held.clear()
        self._stop_frames = None

    def faults(self, now: float) -> list[Fault]:
        """What the arm says, and what its bus does not do."""
        found = self.feedback.faults(now)
        failing = self._bus.failing_since
        if failing is not None and now - failing > UNSENT:
            found.append(Fault("send_failed", f"{self.name} arm ({self._bus.channel}), for {now - failing:.1f} s"))
        if now - self._heartbeat > STALLED:
            found.append(Fault("sender_stalled", f"{self.name} arm, for {now - self._heartbeat:.1f} s"))
        return found

    def checks(self, now: float) -> list[str]:
        """What speaks against enabling; settings are asked for again from now on, until there is a wish for torque."""
        self._wished = -np.inf
        return problems(self.name, self.feedback, MAX_JOINT_VELOCITY * self._max_speed / 100.0, now)

    def report(self, now: float) -> dict[str, object]:
        """For the diagnostics."""
        ages, motors = self.feedback.ages(now), self.feedback.motors
        oldest = max(ages, key=lambda id: ages[id])
        return {
            "firmware": self.feedback.software or "unknown",
            "torque": self.enabled(),
            "oldest_message": GROUPS[oldest],
            "oldest_age_ms": round(ages[oldest] * 1000.0),
            "joints_age_ms": round(max(ages[id] for id in protocol.JOINTS) * 1000.0),
            "crash_levels": self.feedback.crash_levels or "unknown",
            "hottest_motor_celsius": max((motor.motor_temperature for motor in motors), default="unknown"),
            "lowest_voltage": min((round(motor.voltage, 1) for motor in motors), default="unknown"),
        }

    def close(self) -> None:
        """Leave the bus; the arm holds what it was sent last."""
        self._ended.set()
        self._wake.set()
        self._held.set()
        self._sender.join(1.0)
        self._keeper.join(1.0)
        self._bus.close()

    # The sender's thread

    def _send(self) -> None:
        patience = RESEND_AFTER
        while not self._ended.is_set():
            is_new = self._wake.wait(patience)
            self._wake.clear()
            patience = RESEND_AFTER if is_new else PERIOD
            now = self._heartbeat = time.monotonic()
            frames, command = self._stop_frames, self._command
            if frames is not None:
                self._send_joints([angle for data in frames for angle in _PAIR.unpack(data)])
            elif command is not None:
                self._send_joints([protocol.to_millidegrees(angle) for angle in command[:6] + self._shift])
            if command is not None:
                self._send_gripper(command[6], now)
                self._ask_torque(now)
            if now - self._asked_settings > QUERY_PERIOD:
                self._asked_settings = now
                # Arms may have torque from an earlier process, and are checked before they are enabled all the same.
                if self._wished == -np.inf or not self.enabled():
                    self._ask_settings()

    def _send_joints(self, millidegrees: list[int]) -> None:
        if millidegrees:  # none are known, where a stop found none measured
            self._bus.sdk.MotionCtrl_2(protocol.CTRL_CAN, protocol.MOVE_J, self._speed, protocol.FOLLOW_SMOOTHED)
            one, two, three, four, five, six = millidegrees
            self._bus.sdk.JointCtrl(one, two, three, four, five, six)

    def _send_gripper(self, opening: float, now: float) -> None:
        """Its command gives it torque, too: it has to wait for the joints."""
        is_next = now - self._wished < WISH and not self.feedback.disabled_motors
        if is_next or self.feedback.is_gripper_enabled:
            micrometres = protocol.to_micrometres(min(max(opening, 0.0), GRIPPER_STROKE))
            self._bus.sdk.GripperCtrl(micrometres, round(self._settings.gripper_effort * 1000), GRIPPER_ON, 0)

    def _ask_torque(self, now: float) -> None:
        """One joint after the other, never all by one frame: that one would move the gripper as well."""
        if now - self._wished > WISH:
            self._has_crash_levels = False
        elif now - self._asked_torque > TORQUE_PERIOD:
            self._asked_torque = now
            if not self._has_crash_levels:
                self._has_crash_levels = True
                level = self._settings.crash_level
                self._bus.sdk.CrashProtectionConfig(level, level, level, level, level, level)
                self._bus.sdk.ArmParamEnquiryAndConfig(ASK_CRASH_LEVELS)
            for motor in self.feedback.disabled_motors:
                self._bus.sdk.EnableArm(motor, TORQUE_ON)

    def _ask_settings(self) -> None:
        self._bus.sdk.SearchAllMotorMaxAngleSpd()
        self._bus.sdk.ArmParamEnquiryAndConfig(ASK_STROKE)
        self.feedback.forget_firmware()
        self._bus.sdk.SearchPiperFirmwareVersion()

    # The keeper's thread

    def _hold(self) -> None:
        """While stopped, and the sender hangs or may hang: send the measured pose by the other socket."""
        while not self._ended.is_set():
            self._held.wait()
            frames, now = self._stop_frames, time.monotonic()
            if frames and (now - self._stopped_at < KEEPER_TIME or now - self._heartbeat > KEEPER_PATIENCE):
                targets = [Frame(id, data) for id, data in zip(protocol.JOINT_TARGETS, frames, strict=True)]
                self._bus.send_past_the_sdk([Mode(speed=self._speed).encode(), *targets])
            time.sleep(PERIOD)
