"""A CAN bus between the processes of one machine that needs no kernel CAN: python-can's interface `piper_loopback`.

Frames travel as UDP datagrams on 127.0.0.1; a directory of this user says who listens on which channel. It behaves as
SocketCAN does with one adapter a process: what a process sends reaches every other process on the channel, its own
other sockets only with `local_loopback`, the sending socket only with `receive_own_messages`. A process that plays two
nodes of one bus, such as a test with an emulated arm inside, gives the second a name of its own with `node`.

A channel can be made bus-off (`BusOff`): then sending fails for everyone on it, as it does on an adapter.

python-can finds the interface by the entry point `piper_loopback = "piper_bringup.can_bus:LoopbackBus"` in the group
`can.interface`, or after a call of `register()`, which needs nothing installed.
"""

from __future__ import annotations

import collections
import contextlib
import errno
import fcntl
import hashlib
import os
import re
import select
import socket
import stat
import struct
import tempfile
import time
import uuid
from collections.abc import Sequence
from pathlib import Path

import can
import can.interfaces
import can.util
from can.typechecking import AutoDetectedConfig, CanFilters, Channel

INTERFACE = "piper_loopback"
DIRECTORY_VARIABLE = "PIPER_LOOPBACK_DIR"
"""Environment variable with the directory where sockets meet; by default it lies in the folder of temporary files."""

_PROCESS = uuid.uuid4().hex[:8]
"""Together with the process number (two containers may have the same, a fork has another) names this process."""
_BUS_OFF = "bus-off"
_HEADER = struct.Struct("=8s8sd")
"""Tag of the bus, digest of the sending node, time of sending [s, Unix]."""
_RECORD = struct.Struct("=IB8s")
"""Identifier with flags, number of bytes, bytes."""
_EXTENDED, _REMOTE, _ERROR, _ID = 0x80000000, 0x40000000, 0x20000000, 0x1FFFFFFF  # as in linux/can.h
_FRAMES_A_DATAGRAM = 256
_BUFFER = 4 << 20
"""Wanted receive buffer [B]; the kernel grants what it may."""
_SETTLED = 0.02
"""Age [s] from which the time stamp of a directory tells every later change; the kernel's clock for it is coarse."""
_RESCAN = 1.0
"""Time [s] after which sockets of killed processes are looked for."""


def register() -> None:
    """Make `piper_loopback` known to python-can in this process, installed or not."""
    can.interfaces.BACKENDS.setdefault(INTERFACE, (__name__, LoopbackBus.__name__))
    known = frozenset(can.interfaces.BACKENDS)
    can.interfaces.VALID_INTERFACES = can.VALID_INTERFACES = known
    can.util.VALID_INTERFACES = known  # pyright: ignore[reportPrivateImportUsage]  # the copy that Bus() looks into


def _registry() -> Path:
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


def _meeting_place(channel: str) -> Path:
    if not re.fullmatch(r"[\w-][\w.-]*", channel):
        raise can.CanInitializationError(f"'{channel}' is no channel name; use letters, digits, - and _ as in can_left")
    folder = _registry() / channel
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder


def _tag(channel: str) -> bytes:
    """What every datagram of a channel starts with; who cannot read the directory cannot forge it."""
    key = _registry() / "key"
    if not key.exists():
        draft = key.with_name(f".{uuid.uuid4().hex}")
        draft.write_bytes(os.urandom(32))
        with contextlib.suppress(FileExistsError):
            os.link(draft, key)
        draft.unlink()
    return hashlib.blake2b(channel.encode(), key=key.read_bytes(), digest_size=8).digest()


class _Presence:
    """A file that stays locked while its owner lives, however that ends; what it says is its name."""

    def __init__(self, folder: Path, says: str) -> None:
        token = uuid.uuid4().hex[:8]
        draft = folder / f".{token}"
        self._file = os.open(draft, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600)
        fcntl.flock(self._file, fcntl.LOCK_EX)
        self.path = draft.rename(folder / f"{says}~{token}")  # locked before anyone can see it

    def end(self) -> None:
        self.path.unlink(missing_ok=True)
        os.close(self._file)


def _is_alive(path: Path) -> bool:
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


class _Listeners:
    """Who is on a channel, read again when its directory changes."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._changed = -1
        self._scanned = 0.0
        self.is_bus_off = False
        self.ports: list[tuple[int, str]] = []
        """Port and node of every socket on the channel."""

    def refresh(self) -> None:
        changed = os.stat(self._folder).st_mtime_ns
        now = time.time()
        if changed == self._changed and now - self._scanned < _RESCAN:
            return
        self._changed = changed if now - changed / 1e9 > _SETTLED else -1
        self._scanned = now
        said = [path.name.split("~") for path in self._folder.glob("[!.]*") if _is_alive(path)]
        self.is_bus_off = any(words[0] == _BUS_OFF for words in said)
        self.ports = [(int(words[0]), words[1]) for words in said if words[0] != _BUS_OFF]


class BusOff:
    """A channel on which nothing can be sent, until `end` or the end of this process."""

    def __init__(self, channel: str) -> None:
        self._presence = _Presence(_meeting_place(channel), _BUS_OFF)

    def end(self) -> None:
        """Let the channel work again."""
        self._presence.end()


class LoopbackBus(can.BusABC):
    """One socket on a channel of this machine."""

    def __init__(
        self,
        channel: Channel,
        can_filters: CanFilters | None = None,
        receive_own_messages: bool = False,
        local_loopback: bool = True,
        node: str | None = None,
        **kwargs: object,
    ) -> None:
        """Join a channel.

        Args:
            channel: Name of the bus, such as `can_left`.
            can_filters: Only frames that match one of these are received; None: all.
            receive_own_messages: Receive what this socket sends, too. Needs `local_loopback`, as on SocketCAN.
            local_loopback: Let other sockets of this node receive what this one sends.
            node: Which node of the bus this is, without `~`; None: this process.
            kwargs: Settings that other interfaces have (bitrate) and a bus without wires has not.
        """
        self.channel = str(channel)
        self.channel_info = f"{INTERFACE} channel {self.channel}"
        self._node = node or f"{os.getpid()}-{_PROCESS}"
        folder = _meeting_place(self.channel)
        self._tag = _tag(self.channel)
        self._node_digest = hashlib.blake2b(self._node.encode(), digest_size=8).digest()
        self._own, self._local = receive_own_messages and local_loopback, local_loopback
        self._filters_set: list[tuple[int, int, bool | None]] = []
        self._received: collections.deque[can.Message] = collections.deque()
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)
        self._socket.setblocking(False)
        self._socket.bind(("127.0.0.1", 0))
        self._port: int = self._socket.getsockname()[1]
        self._poll = select.poll()
        self._poll.register(self._socket, select.POLLIN)
        self._presence = _Presence(folder, f"{self._port}~{self._node}")
        self._listeners = _Listeners(folder)
        super().__init__(channel, can_filters)

    def send(self, msg: can.Message, timeout: float | None = None) -> None:
        """Send one frame.

        Raises:
            can.CanOperationError: the channel is bus-off, or this socket is closed.
        """
        del timeout  # Nothing is ever waited for.
        self.send_all((msg,))

    def send_all(self, messages: Sequence[can.Message]) -> None:
        """Send frames together: one datagram for each listener, so that neither side wakes once a frame.

        Raises:
            can.CanOperationError: the channel is bus-off, this socket is closed, or a frame is not a classic one.
        """
        self._listeners.refresh()
        if self._listeners.is_bus_off:
            raise can.CanOperationError(f"{self.channel} is bus-off, nothing can be sent", errno.ENOBUFS)
        head = _HEADER.pack(self._tag, self._node_digest, time.time())
        for start in range(0, len(messages), _FRAMES_A_DATAGRAM):
            frames = b"".join([_pack(message) for message in messages[start : start + _FRAMES_A_DATAGRAM]])
            for port, node in self._listeners.ports:
                if self._own if port == self._port else node != self._node or self._local:
                    self._transmit(head + frames, port)

    def _transmit(self, datagram: bytes, port: int) -> None:
        try:
            self._socket.sendto(datagram, ("127.0.0.1", port))
        except OSError as error:
            raise can.CanOperationError(f"failed to transmit on {self.channel}: {error}", error.errno) from error

    def _recv_internal(self, timeout: float | None) -> tuple[can.Message | None, bool]:
        deadline = None if timeout is None else time.monotonic() + timeout
        while not self._received:
            try:
                datagram = self._socket.recv(1 << 16)
            except BlockingIOError:
                left = None if deadline is None else deadline - time.monotonic()
                if (left is not None and left <= 0) or not self._poll.poll(None if left is None else left * 1000):
                    return None, True
            except OSError as error:
                raise can.CanOperationError(f"failed to receive on {self.channel}: {error}", error.errno) from error
            else:
                self._unpack(datagram)
        return self._received.popleft(), True

    def _unpack(self, datagram: bytes) -> None:
        if len(datagram) < _HEADER.size or (len(datagram) - _HEADER.size) % _RECORD.size:
            return
        tag, node, sent = _HEADER.unpack_from(datagram)
        if tag != self._tag:
            return
        for flags, length, data in _RECORD.iter_unpack(datagram[_HEADER.size :]):
            if self._wants(flags):
                self._received.append(
                    can.Message(
                        timestamp=sent,
                        arbitration_id=flags & _ID,
                        is_extended_id=bool(flags & _EXTENDED),
                        is_remote_frame=bool(flags & _REMOTE),
                        is_error_frame=bool(flags & _ERROR),
                        is_rx=node != self._node_digest,
                        channel=self.channel,
                        dlc=length,
                        data=data[:length],
                    )
                )

    def _wants(self, flags: int) -> bool:
        return not self._filters_set or any(
            ((flags & _ID) ^ wanted) & mask == 0 and extended in (None, bool(flags & _EXTENDED))
            for wanted, mask, extended in self._filters_set
        )

    def _apply_filters(self, filters: CanFilters | None) -> None:
        self._filters_set = [(f["can_id"], f["can_mask"], f.get("extended")) for f in filters or ()]

    def shutdown(self) -> None:
        """Leave the channel; may be called twice."""
        was_open = not self._is_shutdown
        super().shutdown()
        if was_open:
            self._presence.end()
            self._socket.close()

    @staticmethod
    def _detect_available_configs() -> Sequence[AutoDetectedConfig]:
        channels = sorted(path.name for path in _registry().iterdir() if path.is_dir())
        return [{"interface": INTERFACE, "channel": channel} for channel in channels]


def _pack(message: can.Message) -> bytes:
    if message.is_fd or message.dlc > 8:
        raise can.CanOperationError(f"frame {message.arbitration_id:#x} is no classic CAN frame of at most 8 bytes")
    flags = message.arbitration_id | (_EXTENDED if message.is_extended_id else 0)
    flags |= (_REMOTE if message.is_remote_frame else 0) | (_ERROR if message.is_error_frame else 0)
    return _RECORD.pack(flags, message.dlc, bytes(message.data))
