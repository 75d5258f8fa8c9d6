"""Who is on which channel of `piper_loopback`: a directory of this user with one locked file for each socket."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
import stat
import tempfile
import time
import uuid
from pathlib import Path

import can

INTERFACE = "piper_loopback"
DIRECTORY_VARIABLE = "PIPER_LOOPBACK_DIR"
"""Environment variable with the directory where sockets meet; by default it lies in the folder of temporary files."""

_BUS_OFF = "bus-off"
_SETTLED = 0.02
"""Age [s] from which the time stamp of a directory tells every later change; the kernel's clock for it is coarse."""
_RESCAN = 1.0
"""Time [s] after which sockets of killed processes are looked for."""


def registry() -> Path:
    """The directory of all channels, this user's alone.

    Raises:
        can.CanInitializationError: others could read it.
    """
    told = os.environ.get(DIRECTORY_VARIABLE)
    folder = Path(told) if told else Path(tempfile.gettempdir()) / f"{INTERFACE}-{os.getuid()}"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise can.CanInitializationError(
            f"{folder} must be a directory of this user alone (mode 700): remove it, or name another in "
            f"{DIRECTORY_VARIABLE}"
        )
    return folder


def meeting_place(channel: str) -> Path:
    """The directory of a channel.

    Raises:
        can.CanInitializationError: its name is no name of a channel.
    """
    if not re.fullmatch(r"[\w-][\w.-]*", channel):
        raise can.CanInitializationError(f"'{channel}' is no channel name; use letters, digits, - and _ as in can_left")
    folder = registry() / channel
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder


def tag(channel: str) -> bytes:
    """What every datagram of a channel starts with; who cannot read the directory cannot forge it."""
    key = registry() / "key"
    if not key.exists():
        draft = key.with_name(f".{uuid.uuid4().hex}")
        draft.write_bytes(os.urandom(32))
        with contextlib.suppress(FileExistsError):
            os.link(draft, key)
        draft.unlink()
    return hashlib.blake2b(channel.encode(), key=key.read_bytes(), digest_size=8).digest()


class Presence:
    """A file that stays locked while its owner lives, however that ends; what it says is its name."""

    def __init__(self, folder: Path, says: str) -> None:
        """Be present in `folder`."""
        token = uuid.uuid4().hex[:8]
        draft = folder / f".{token}"
        self._file = os.open(draft, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600)
        fcntl.flock(self._file, fcntl.LOCK_EX)
        self.path = draft.rename(folder / f"{says}~{token}")  # locked before anyone can see it

    def end(self) -> None:
        """Be gone."""
        self.path.unlink(missing_ok=True)
        os.close(self._file)


def is_alive(path: Path) -> bool:
    """Whether the owner of a presence lives; the files of the dead are removed."""
    try:
        file = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    else:
        path.unlink(missing_ok=True)
        return False
    finally:
        os.close(file)


class Listeners:
    """Who is on a channel, read again when its directory changes."""

    def __init__(self, folder: Path) -> None:
        """Of the channel that meets in `folder`; nothing is read yet."""
        self._folder = folder
        self._changed = -1
        self._scanned = 0.0
        self.is_bus_off = False
        self.ports: list[tuple[int, str]] = []
        """Port and node of every socket on the channel."""

    def refresh(self) -> None:
        """Read it again if it may have changed."""
        changed = os.stat(self._folder).st_mtime_ns
        now = time.time()
        if changed == self._changed and now - self._scanned < _RESCAN:
            return
        self._changed = changed if now - changed / 1e9 > _SETTLED else -1
        self._scanned = now
        said = [path.name.split("~") for path in self._folder.glob("[!.]*") if is_alive(path)]
        self.is_bus_off = any(words[0] == _BUS_OFF for words in said)
        self.ports = [(int(words[0]), words[1]) for words in said if words[0] != _BUS_OFF]


class BusOff:
    """A channel on which nothing can be sent, until `end` or the end of this process."""

    def __init__(self, channel: str) -> None:
        """Begin."""
        self._presence = Presence(meeting_place(channel), _BUS_OFF)

    def end(self) -> None:
        """Let the channel work again."""
        self._presence.end()
