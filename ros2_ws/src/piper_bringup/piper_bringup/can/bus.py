"""A CAN bus between the processes of one machine that needs no kernel CAN: python-can's interface `piper_loopback`.

Frames travel as UDP datagrams on 127.0.0.1; a directory of this user says who listens on which channel. It behaves as
SocketCAN does with one adapter a process: what a process sends reaches every other process on the channel, its own
other sockets only with `local_loopback`, the sending socket only with `receive_own_messages`. A process that plays two
nodes of one bus, such as a test with an emulated arm inside, gives the second a name of its own with `node`.

A channel can be made bus-off (`can_registry.BusOff`): then sending fails for everyone on it, as it does on an adapter.

python-can finds the interface by the entry point `piper_loopback = "piper_bringup.can.bus:LoopbackBus"` in the group
`can.interface`, or after a call of `register()`, which needs nothing installed.
"""

from __future__ import annotations

import collections
import errno
import hashlib
import os
import select
import socket
import struct
import time
import uuid
from collections.abc import Sequence

import can
import can.interfaces
import can.util
from can.typechecking import AutoDetectedConfig, CanFilters, Channel

from piper_bringup.can.registry import INTERFACE, Listeners, Presence, meeting_place, registry, tag

_PROCESS = uuid.uuid4().hex[:8]
"""Together with the process number (two containers may have the same, a fork has another) names this process."""
_HEADER = struct.Struct("=8s8sd")
"""Tag of the bus, digest of the sending node, time of sending [s, Unix]."""
_RECORD = struct.Struct("=IB8s")
"""Identifier with flags, number of bytes, bytes."""
_EXTENDED, _REMOTE, _ERROR, _ID = 0x80000000, 0x40000000, 0x20000000, 0x1FFFFFFF  # as in linux/can.h
_FRAMES_A_DATAGRAM = 256
_BUFFER = 4 << 20
"""Wanted receive buffer [B]; the kernel grants what it may."""


def register() -> None:
    """Make `piper_loopback` known to python-can in this process, installed or not."""
    can.interfaces.BACKENDS.setdefault(INTERFACE, (__name__, LoopbackBus.__name__))
    known = frozenset(can.interfaces.BACKENDS)
    can.interfaces.VALID_INTERFACES = can.VALID_INTERFACES = known
    can.util.VALID_INTERFACES = known  # pyright: ignore[reportPrivateImportUsage]  # the copy that Bus() looks into


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
        folder = meeting_place(self.channel)
        self._tag = tag(self.channel)
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
        self._presence = Presence(folder, f"{self._port}~{self._node}")
        self._listeners = Listeners(folder)
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
        channels = sorted(path.name for path in registry().iterdir() if path.is_dir())
        return [{"interface": INTERFACE, "channel": channel} for channel in channels]


def _pack(message: can.Message) -> bytes:
    if message.is_fd or message.dlc > 8:
        raise can.CanOperationError(f"frame {message.arbitration_id:#x} is no classic CAN frame of at most 8 bytes")
    flags = message.arbitration_id | (_EXTENDED if message.is_extended_id else 0)
    flags |= (_REMOTE if message.is_remote_frame else 0) | (_ERROR if message.is_error_frame else 0)
    return _RECORD.pack(flags, message.dlc, bytes(message.data))
