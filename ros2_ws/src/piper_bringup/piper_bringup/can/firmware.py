"""The firmware a Piper runs, and what depends on it: the answer to frame 0x4AF, versions that compare."""

from __future__ import annotations

import re
from collections.abc import Iterable

from piper_bringup.can.protocol import Frame
from vla_policy.errors import VlaError

FIRMWARE = 0x4AF
FIRMWARE_QUERY = Frame(FIRMWARE, bytes((1, 0, 0, 0, 0, 0, 0, 0)))
NEW_ZERO = (1, 6, 3)
"""First version with the zeros of joint 2 and 3 that this project uses; before it they lie 2 degrees off."""
_BYTES = 88
"""Of the answer, in frames of 8."""


def pack_firmware(software: str, hardware: str = "H-V1.2-1", date: str = "2025-02-28") -> list[Frame]:
    """An arm's answer to FIRMWARE_QUERY. `software` like S-V1.8-5; more than 8 characters do not fit."""
    text = bytearray(_BYTES)
    for start, part in ((0, hardware), (32, "ARM_MC"), (60, software[:8]), (68, date)):
        text[start : start + len(part)] = part.encode("ascii")
    return [Frame(FIRMWARE, bytes(text[start : start + 8])) for start in range(0, _BYTES, 8)]


def software_version(frames: Iterable[bytes]) -> str | None:
    """The software's name, such as S-V1.8-5, in the bytes of the frames of an answer; None when it is not there."""
    found = re.search(rb"S-V[\d.-]{1,5}", b"".join(frames))
    return found[0].decode("ascii") if found else None


def version_numbers(software: str) -> tuple[int, ...]:
    """Numbers that compare: (1, 8, 5) for S-V1.8-5.

    Raises:
        VlaError: the text is no version of the arm's software.
    """
    found = re.fullmatch(r"S-V(\d+)\.(\d+)-(\d+)", software)
    if not found:
        raise VlaError(f"'{software}' is no firmware version like S-V1.8-5; ask the arm again, answers can get lost")
    return tuple(int(number) for number in found.groups())
