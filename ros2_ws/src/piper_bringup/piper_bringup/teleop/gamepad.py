"""A gamepad as a jogging device, read from Linux's joystick interface (`/dev/input/js0`); nothing to install.

A stick that is held still sends nothing, so silence cannot mean that the operator has let go: the dead-man button must
be held instead. Unplugging it stops the motion; it may be plugged in again.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from pathlib import Path

from piper_bringup.teleop.jog import FASTER, NEXT_ARM, SLOWER, STILL, Motion
from piper_bringup.teleop.source import Tell
from vla_policy import topics
from vla_policy.errors import VlaError

AXES: dict[int, tuple[str, float]] = {
    1: ("x", -1.0),
    0: ("y", -1.0),
    4: ("z", -1.0),
    3: ("roll", -1.0),
    6: ("gripper", 1.0),
    7: ("tilt", -1.0),
}
"""Axis -> field of `Motion` and direction, as the kernel's xpad driver numbers them: left stick forward and left, right
stick up and turn, cross left/right gripper, cross up/down tilt."""

DEAD_MAN = 4
"""The button that must be held for anything to move: left shoulder."""

HOMING = 10
"""The button that leads the arm home while it is held with the dead-man button: right stick pressed."""

BUTTONS: dict[int, str] = {
    0: NEXT_ARM,
    1: topics.STOP,
    2: SLOWER,
    3: FASTER,
    5: topics.EPISODE_SUCCESS,
    6: topics.RELEASE,
    7: topics.ENABLE,
    8: topics.EPISODE_START,
    9: topics.EPISODE_FAILURE,
}
"""Button -> command or service."""

HELP_TEXT = """\
hold LB and move: left stick forward/back/left/right   right stick up/down, turn   cross open/close, tilt
hold LB and press the right stick: home   A other arm   X/Y slower/faster
robot  start enable   B STOP   back release      episode  guide start   RB success   left stick pressed failure"""

DEAD_ZONE = 0.15
"""Share of a stick's way that counts as centred."""

REOPEN = 1.0
"""Time between two tries to find an unplugged gamepad [s]."""

EVENT = struct.Struct("=IhBB")
"""Of `linux/joystick.h`: time [ms], value, kind, number."""
IS_BUTTON, IS_AXIS, IS_INITIAL = 0x01, 0x02, 0x80
FULL = 32767


def share_of(value: int) -> float:
    """How far a stick is pushed, -1..1, from the kernel's value; it starts from 0 at the edge of the dead zone."""
    share = max(-1.0, value / FULL)
    beyond = (abs(share) - DEAD_ZONE) / (1.0 - DEAD_ZONE)
    return 0.0 if beyond <= 0.0 else beyond if share > 0.0 else -beyond


def motion_of(axes: Mapping[int, int], held: AbstractSet[int]) -> Motion:
    """Which way the sticks (axis -> value) move while the buttons `held` are."""
    if DEAD_MAN not in held:
        return STILL
    if HOMING in held:
        return Motion(home=1.0)
    return Motion(**{field: sign * share_of(axes.get(axis, 0)) for axis, (field, sign) in AXES.items()})


class Gamepad:
    """Reads what has changed, without waiting for it."""

    help = HELP_TEXT

    def __init__(self, device: Path, tell: Tell) -> None:
        """Open the gamepad.

        Raises:
            VlaError: there is none.
        """
        self._device, self._tell = device, tell
        self._file: int | None = None
        self._next_try = 0.0
        self._axes: dict[int, int] = {}
        self._held: set[int] = set()
        try:
            self._open()
        except OSError as error:
            raise VlaError(
                f"no gamepad at {device} ({error.strerror}); plug it in (its driver makes /dev/input/js0), or give "
                "gamepad:=PATH"
            ) from error

    def poll(self, now: float) -> tuple[Motion, Sequence[str]]:
        """What sticks and buttons mean at `now` [s]."""
        commands: list[str] = []
        for value, kind, number in self._events(now):
            if kind & IS_AXIS:
                self._axes[number] = value
            elif kind & IS_INITIAL:
                continue  # held since before: it must be let go first
            elif not value:
                self._held.discard(number)
            elif kind & IS_BUTTON:
                self._held.add(number)
                commands.extend([BUTTONS[number]] if number in BUTTONS else [])
        return motion_of(self._axes, self._held), commands

    def _events(self, now: float) -> list[tuple[int, int, int]]:
        """Value, kind and number of what has happened."""
        if self._file is None:
            self._plug_in(now)
        events: list[tuple[int, int, int]] = []
        while self._file is not None:
            try:
                data = os.read(self._file, 64 * EVENT.size)
            except BlockingIOError:
                break
            except OSError:
                data = b""
            if not data:
                self._unplug(now)
                return []
            whole = len(data) // EVENT.size * EVENT.size
            events.extend((value, kind, number) for _, value, kind, number in EVENT.iter_unpack(data[:whole]))
        return events

    def _open(self) -> None:
        self._file = os.open(self._device, os.O_RDONLY | os.O_NONBLOCK)

    def _plug_in(self, now: float) -> None:
        if now < self._next_try:
            return
        self._next_try = now + REOPEN
        try:
            self._open()
        except OSError:
            return
        self._tell("the gamepad is back; let the dead-man button go and press it again")

    def _unplug(self, now: float) -> None:
        self._next_try = now + REOPEN
        self._tell("the gamepad is gone: the arms hold; plug it in again")
        self.close()

    def close(self) -> None:
        """Close the device; nothing counts as held."""
        if self._file is not None:
            os.close(self._file)
        self._file = None
        self._axes.clear()
        self._held.clear()
