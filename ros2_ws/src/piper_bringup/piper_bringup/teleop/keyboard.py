"""A plain terminal as a jogging device: no window system, no key releases, only letters that arrive.

A key moves the tool while it repeats: `HOLD` after the last letter the motion ends, so a terminal that is cut off, or a
person who falls asleep beside the keyboard, stops the arm.
"""

from __future__ import annotations

import contextlib
import os
import termios
import tty
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from piper_bringup.teleop.jog import FASTER, HELP, NEXT_ARM, SLOWER, STILL, Motion
from vla_policy import topics
from vla_policy.errors import VlaError

HOLD = 0.3
"""A key counts that long after it arrived [s]."""

MOTIONS: dict[str, tuple[str, float]] = {
    "w": ("x", 1.0),
    "s": ("x", -1.0),
    "a": ("y", 1.0),
    "d": ("y", -1.0),
    "r": ("z", 1.0),
    "f": ("z", -1.0),
    "q": ("roll", 1.0),
    "e": ("roll", -1.0),
    "t": ("tilt", 1.0),
    "g": ("tilt", -1.0),
    "o": ("gripper", 1.0),
    "c": ("gripper", -1.0),
    "h": ("home", 1.0),
    "up": ("x", 1.0),
    "down": ("x", -1.0),
    "left": ("y", 1.0),
    "right": ("y", -1.0),
    "page up": ("z", 1.0),
    "page down": ("z", -1.0),
}
"""Key -> field of `Motion` and its value."""

COMMANDS: dict[str, str] = {
    "\t": NEXT_ARM,
    "+": FASTER,
    "-": SLOWER,
    "?": HELP,
    " ": topics.STOP,
    "0": topics.RELEASE,
    "9": topics.ENABLE,
    "1": topics.EPISODE_START,
    "2": topics.EPISODE_SUCCESS,
    "3": topics.EPISODE_FAILURE,
    "4": topics.EPISODE_DISCARD,
}
"""Key -> command or service."""

HELP_TEXT = """\
move   w/s forward/back  a/d left/right  r/f up/down (or arrows, page up/down)   q/e turn  t/g tilt  o/c open/close
       h home   tab other arm   +/- faster/slower   ? this help
robot  9 enable   space STOP   0 release      episode  1 start  2 success  3 failure  4 discard"""

_SEQUENCES = {"A": "up", "B": "down", "C": "right", "D": "left", "5~": "page up", "6~": "page down"}
"""What follows ESC [ -> key."""


def keys_in(data: bytes) -> list[str]:
    """The keys in what a terminal sent; capitals count as small letters, unknown sequences as nothing."""
    text, keys = data.decode("ascii", errors="replace"), list[str]()
    while text:
        if text[0] != "\x1b":
            keys.append(text[0].lower())
            text = text[1:]
            continue
        end = 2
        while end < len(text) and not "@" <= text[end] <= "~":
            end += 1
        key = _SEQUENCES.get(text[2 : end + 1]) if text[1:2] in ("[", "O") else None
        keys.extend([key] if key else [])
        text = text[end + 1 :] if text[1:2] in ("[", "O") else text[2:]
    return keys


def motion_of(arrived: Mapping[str, float], now: float) -> Motion:
    """Which way the keys move, from each key's last arrival [s]; of two keys for one axis the newer one counts."""
    fields: dict[str, float] = {}
    for key, when in sorted(arrived.items(), key=lambda item: item[1]):
        if key in MOTIONS and 0.0 <= now - when <= HOLD:
            field, share = MOTIONS[key]
            fields[field] = share
    return Motion(**fields)


class Keyboard:
    """Reads keys from a terminal without waiting for them, and without showing them."""

    help = HELP_TEXT

    def __init__(self, terminal: Path = Path("/dev/tty")) -> None:
        """Take the terminal over.

        Raises:
            VlaError: there is none, or another program has it.
        """
        try:
            self._file = os.open(terminal, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
        except OSError as error:
            raise VlaError(
                f"no keys can be read from {terminal} ({error.strerror}); start the keyboard in a terminal of its own"
            ) from error
        try:
            _require_foreground(self._file, terminal)
            self._before: list[Any] = termios.tcgetattr(self._file)
            tty.setcbreak(self._file, termios.TCSANOW)
        except termios.error as error:
            os.close(self._file)
            raise VlaError(f"{terminal} is no terminal; give terminal:=/dev/tty") from error
        except VlaError:
            os.close(self._file)
            raise
        self._arrived: dict[str, float] = {}

    def poll(self, now: float) -> tuple[Motion, Sequence[str]]:
        """What the keys that arrived until `now` [s] mean."""
        commands: list[str] = []
        for key in self._keys():
            if key in COMMANDS:
                commands.append(COMMANDS[key])
            elif key in MOTIONS:
                self._arrived[key] = now
        if topics.STOP in commands:
            self._arrived.clear()
            return STILL, commands
        return motion_of(self._arrived, now), commands

    def _keys(self) -> list[str]:
        try:
            return keys_in(os.read(self._file, 4096))
        except OSError:  # nothing there, or nobody there any more
            return []

    def close(self) -> None:
        """Give the terminal back as it was."""
        with contextlib.suppress(termios.error):
            termios.tcsetattr(self._file, termios.TCSANOW, self._before)
        os.close(self._file)


def _require_foreground(file: int, terminal: Path) -> None:
    """Changing a terminal from the background would suspend this process and the robot's graph with it."""
    try:
        foreground = os.tcgetpgrp(file)
    except OSError:
        return  # not the terminal this process runs in, so nobody is suspended
    if foreground != os.getpgrp():
        raise VlaError(f"{terminal} belongs to another program; start the keyboard in the foreground of a terminal")
