"""What can go wrong with an emulated arm, each to be injected and cleared by name.

A fault changes what the arm hears, what it sends, or whether it moves; `begin` and `end` change its state.
"""

from __future__ import annotations

import collections
import dataclasses
import math
import random
from typing import TYPE_CHECKING, ClassVar

from piper_bringup.can import commands as commands
from piper_bringup.can import protocol
from piper_bringup.can.protocol import Frame
from vla_policy.errors import VlaError

if TYPE_CHECKING:
    from piper_bringup.emulator.arm import Arm


@dataclasses.dataclass(kw_only=True)
class Fault:
    """Nothing is wrong yet: the base of all."""

    name: ClassVar[str]
    duration: float = math.inf
    """Clears itself after this time [s]."""
    stops_motion: ClassVar[bool] = False
    """The arm stays where it is and ignores targets."""
    silences_bus: ClassVar[bool] = False
    """Nobody can send on its bus."""
    _ends: float = dataclasses.field(default=math.inf, init=False, repr=False)

    def begin(self, arm: Arm, now: float) -> None:
        """Happen at `now` [s]."""
        self._ends = now + self.duration

    def end(self, arm: Arm, now: float) -> None:
        """Be over."""

    def is_over(self, now: float) -> bool:
        """Whether its time is up."""
        return now >= self._ends

    def hears(self, frame: Frame) -> bool:
        """Whether a frame reaches the arm."""
        return True

    def sends(self, frames: list[Frame], now: float) -> list[Frame]:
        """What of the frames that the arm wants to send leaves it now."""
        return frames


def _with_byte(frame: Frame, place: int, value: int) -> Frame:
    return Frame(frame.id, frame.data[:place] + bytes((value,)) + frame.data[place + 1 :])


@dataclasses.dataclass(kw_only=True)
class Silent(Fault):
    """Some kinds of feedback stay away."""

    name = "silent"
    groups: tuple[str, ...] = ("joints_12",)
    """Keys of `can.protocol.FEEDBACK_GROUPS`."""

    def __post_init__(self) -> None:
        known = protocol.FEEDBACK_GROUPS
        if unknown := [group for group in self.groups if group not in known]:
            raise VlaError(f"there is no feedback {', '.join(unknown)}; choose among {', '.join(known)}")
        self._ids = {id for group in self.groups for id in known[group]}

    def sends(self, frames: list[Frame], now: float) -> list[Frame]:
        """Without them."""
        return [frame for frame in frames if frame.id not in self._ids]


@dataclasses.dataclass(kw_only=True)
class Late(Fault):
    """Everything the arm sends comes late, in order."""

    name = "late"
    delay: float = 0.1
    """[s]."""
    jitter: float = 0.0
    """Up to so much more [s]."""
    seed: int = 0

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)
        self._held: collections.deque[tuple[float, list[Frame]]] = collections.deque()

    def sends(self, frames: list[Frame], now: float) -> list[Frame]:
        """What is old enough."""
        due = now + self.delay + self._random.uniform(0.0, self.jitter)
        self._held.append((max(due, self._held[-1][0]) if self._held else due, frames))
        ready: list[Frame] = []
        while self._held and self._held[0][0] <= now:
            ready += self._held.popleft()[1]
        return ready


@dataclasses.dataclass(kw_only=True)
class Dropped(Fault):
    """A share of what the arm sends is lost."""

    name = "dropped"
    share: float = 0.5
    seed: int = 0

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)

    def sends(self, frames: list[Frame], now: float) -> list[Frame]:
        """The rest."""
        return [frame for frame in frames if self._random.random() >= self.share]


@dataclasses.dataclass(kw_only=True)
class BusOff(Fault):
    """The whole bus is silent in both directions; sending fails for the host, too, on `piper_loopback`."""

    name = "bus_off"
    silences_bus = True

    def hears(self, frame: Frame) -> bool:
        """Nothing."""
        return False

    def sends(self, frames: list[Frame], now: float) -> list[Frame]:
        """Nothing."""
        return []


@dataclasses.dataclass(kw_only=True)
class StatusError(Fault):
    """The arm reports a status that is not normal, and stays where it is."""

    name = "status"
    stops_motion = True
    code: int = 0x9
    """Key of `can.protocol.ARM_STATUS`."""
    silent_motors: int = 0
    """Bits of motors that the arm's controller has lost."""

    def __post_init__(self) -> None:
        if self.code not in protocol.ARM_STATUS or self.silent_motors not in range(1 << 6):
            raise VlaError("a status has a code of 0 to 15 and silent_motors of 6 bits")

    def sends(self, frames: list[Frame], now: float) -> list[Frame]:
        """With the status changed."""
        return [
            _with_byte(_with_byte(frame, 1, self.code), 7, self.silent_motors) if frame.id == protocol.STATUS else frame
            for frame in frames
        ]


@dataclasses.dataclass(kw_only=True)
class MotorError(Fault):
    """A motor reports errors."""

    name = "motor"
    motor: int = 1
    """1 to 6."""
    bits: int = 1 << 5
    """Added to what it reports, as `can.protocol.MOTOR_BITS`."""
    temperature: int | None = None
    """Of its driver [degrees Celsius]; None: as it is."""

    def __post_init__(self) -> None:
        if self.motor not in protocol.MOTORS or self.bits not in range(1 << 8):
            raise VlaError("a motor error has a motor of 1 to 6 and bits of 0 to 255")

    def sends(self, frames: list[Frame], now: float) -> list[Frame]:
        """With the motor's health changed."""
        return [self._changed(frame) if frame.id == 0x260 + self.motor else frame for frame in frames]

    def _changed(self, frame: Frame) -> Frame:
        slow = protocol.MotorSlow.decode(frame.data)
        temperature = slow.driver_temperature if self.temperature is None else self.temperature
        return dataclasses.replace(slow, bits=slow.bits | self.bits, driver_temperature=temperature).encode(self.motor)


@dataclasses.dataclass(kw_only=True)
class CorruptedLimits(Fault):
    """The arm has forgotten the limits of a joint: it reports wrong ones."""

    name = "limits"
    motor: int = 2
    """1 to 6."""
    lower: float = 0.0
    """[rad]."""
    upper: float = 0.0
    """[rad]."""
    max_velocity: float = 3.0
    """[rad/s]."""

    def sends(self, frames: list[Frame], now: float) -> list[Frame]:
        """With the answer changed."""
        wrong = commands.Limits(self.motor, self.lower, self.upper, self.max_velocity).encode()
        return [wrong if frame.id == commands.LIMITS and frame.data[0] == self.motor else frame for frame in frames]


@dataclasses.dataclass(kw_only=True)
class EnableRefused(Fault):
    """The arm does not give torque when asked."""

    name = "enable_refused"

    def hears(self, frame: Frame) -> bool:
        """No request for torque."""
        request = commands.Enable.decode(frame.data) if frame.id == commands.ENABLE else None
        return not (request and request.is_on)


@dataclasses.dataclass(kw_only=True)
class WrongFirmware(Fault):
    """The arm runs another firmware, or does not say which."""

    name = "firmware"
    software: str | None = "S-V1.5-2"
    """None: no answer."""

    def begin(self, arm: Arm, now: float) -> None:
        """Answer so."""
        super().begin(arm, now)
        self._before, arm.registers.software = arm.registers.software, self.software

    def end(self, arm: Arm, now: float) -> None:
        """Answer as before."""
        arm.registers.software = self._before


@dataclasses.dataclass(kw_only=True)
class StrokeUnset(Fault):
    """The gripper's stroke was never set: it reports 0 and ignores targets until somebody sets it."""

    name = "stroke_unset"

    def begin(self, arm: Arm, now: float) -> None:
        """Forget it."""
        super().begin(arm, now)
        self._before, arm.registers.stroke = arm.registers.stroke, 0.0

    def end(self, arm: Arm, now: float) -> None:
        """Remember it, unless it was set meanwhile."""
        arm.registers.stroke = arm.registers.stroke or self._before


@dataclasses.dataclass(kw_only=True)
class StopPressed(Fault):
    """Somebody presses the emergency stop at the arm; cleared by switching the supported arm off and on."""

    name = "stop_pressed"

    def begin(self, arm: Arm, now: float) -> None:
        """Stop."""
        super().begin(arm, now)
        arm.is_stopped = True

    def end(self, arm: Arm, now: float) -> None:
        """Switch off and on."""
        arm.power_cycle()


@dataclasses.dataclass(kw_only=True)
class Leader(Fault):
    """The arm is a leader: it listens to nobody and sends joint targets itself."""

    name = "leader"

    def begin(self, arm: Arm, now: float) -> None:
        """Become one, as after a power-on."""
        super().begin(arm, now)
        arm.role = arm.next_role = commands.Role(commands.LEADER)

    def end(self, arm: Arm, now: float) -> None:
        """Be a follower again, as after a power-on."""
        arm.next_role = commands.Role(commands.FOLLOWER)
        arm.power_cycle()


FAULTS: dict[str, type[Fault]] = {fault.name: fault for fault in Fault.__subclasses__()}
"""Every fault by name."""
