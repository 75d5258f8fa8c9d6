"""One episode's bag, written on a thread of its own, so that no disk ever delays the intake.

What was put in stands in the file after the next `flush`: a killed process loses what came since then, and
`recover_bag` makes a bag of the rest.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import queue
import threading
from collections import Counter
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
from PIL import Image as PillowImage
from rosbags.interfaces import (
    Connection,
    Qos,
    QosDurability,
    QosHistory,
    QosLiveliness,
    QosReliability,
    QosTime,
)
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore

from vla_policy import topics
from vla_policy.episode_info import EpisodeInfo

TYPES = get_typestore(Stores.ROS2_JAZZY)
STRING = "std_msgs/msg/String"
IMAGE = "sensor_msgs/msg/Image"
COMPRESSED = "sensor_msgs/msg/CompressedImage"

_COLOURS = {"rgb8": (3, slice(None)), "bgr8": (3, slice(None, None, -1)), "mono8": (1, slice(None))}
"""Encodings that a JPEG can hold: bytes a pixel, and their order from red to blue."""
_FOREVER = QosTime(2147483647, 4294967295)  # as rosbag2 writes it
_FLUSH = object()
_END = object()


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Stream:
    """A topic that is recorded."""

    topic: str
    type: str
    """Message type ("sensor_msgs/msg/Image")."""
    required: bool = False
    """An episode without it is worth nothing."""
    latched: bool = False
    """Told to whoever joins later: its last message stands at the start of every episode."""
    jpeg_topic: str | None = None
    """Where its images stand in the bag as JPEG; None: stored as they came."""


class _Chunk(Protocol):
    bio: io.BytesIO


class _McapStorage(Protocol):
    """What of the storage of rosbags is needed to end a chunk before it has grown to a mebibyte."""

    bio: io.BufferedWriter
    chunk: _Chunk

    def close_chunk(self) -> None: ...


class EpisodeBag:
    """Takes serialised messages from one thread and writes them on another."""

    def __init__(self, path: Path, info: EpisodeInfo, stamp: int, *, max_queue: int, jpeg_quality: int) -> None:
        """Begin the bag; what is known of the episode stands in the file when this returns.

        Args:
            path: Folder of the bag, which must not exist.
            info: Instruction, robot and so on.
            stamp: Time of the start [ns].
            max_queue: Bytes that may wait for the disk; what comes on top is dropped and counted.
            jpeg_quality: Of 100.
        """
        self._max_queue = max_queue
        self._jpeg_quality = jpeg_quality
        self._writer = Writer(path, version=9, storage_plugin=StoragePlugin.MCAP)
        self._writer.open()
        self._storage = cast(_McapStorage, self._writer.storage)
        self._connections: dict[str, Connection] = {}
        self._queue: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._queued = 0
        self.dropped: Counter[str] = Counter()
        """Messages by topic that the disk was too slow for."""
        self.num_messages = 0
        """Put in so far."""
        self.peak = 0
        """Most bytes that have waited for the disk."""
        self.error: Exception | None = None
        """What the disk said when it stopped taking anything."""
        self._write_info(info, stamp)
        self._flush()
        self._thread = threading.Thread(target=self._run, name="bag", daemon=True)
        self._thread.start()

    def put(self, stream: Stream, stamp: int, data: bytes) -> None:
        """Hand over one message, received at `stamp` [ns]; never waits."""
        with self._lock:
            if self._queued + len(data) > self._max_queue:
                self.dropped[stream.topic] += 1
                return
            self._queued += len(data)
            self.peak = max(self.peak, self._queued)
        self.num_messages += 1
        self._queue.put((stream, stamp, data))

    def flush(self) -> None:
        """Have all that was put in so far written to the file soon."""
        self._queue.put(_FLUSH)

    def close(self, info: EpisodeInfo, stamp: int) -> None:
        """Write the rest, the outcome and the index.

        Raises:
            OSError: the disk is full or gone; the file keeps what is in it.
        """
        self._queue.put(_END)
        self._thread.join()
        try:
            if self.error is not None:
                raise self.error
            self._write_info(info, stamp)
            for key, value in info.custom_data().items():
                self._writer.set_custom_data(key, value)
            self._writer.close()
        except BaseException:
            self._abort()
            raise

    def _run(self) -> None:
        while (item := self._queue.get()) is not _END:
            try:
                if self.error is None:
                    self._take(item)
            except Exception as error:
                self.error = error

    def _take(self, item: Any) -> None:
        if item is _FLUSH:
            self._flush()
            return
        stream, stamp, data = cast("tuple[Stream, int, bytes]", item)
        with self._lock:
            self._queued -= len(data)
        jpeg = None if stream.jpeg_topic is None else to_jpeg(data, self._jpeg_quality)
        if jpeg is None or stream.jpeg_topic is None:
            self._writer.write(self._connection(stream.topic, stream.type, stream.latched), stamp, data)
        else:
            self._writer.write(self._connection(stream.jpeg_topic, COMPRESSED, False), stamp, jpeg)

    def _connection(self, topic: str, type_name: str, latched: bool) -> Connection:
        if topic not in self._connections:
            self._connections[topic] = self._writer.add_connection(
                topic, type_name, typestore=TYPES, offered_qos_profiles=[_qos(latched)]
            )
        return self._connections[topic]

    def _write_info(self, info: EpisodeInfo, stamp: int) -> None:
        message = TYPES.types[STRING](data=info.to_json())
        connection = self._connection(topics.EPISODE_INFO, STRING, True)
        self._writer.write(connection, stamp, TYPES.serialize_cdr(message, STRING))

    def _flush(self) -> None:
        if self._storage.chunk.bio.tell():
            self._storage.close_chunk()
        self._storage.bio.flush()

    def _abort(self) -> None:
        with contextlib.suppress(OSError):  # the last of a full disk; what was written before is in the file
            self._writer.abort()


def to_jpeg(image: bytes, quality: int) -> bytes | memoryview | None:
    """A serialised Image as a serialised CompressedImage; None for what JPEG cannot hold (depth, Bayer patterns)."""
    message: Any = TYPES.deserialize_cdr(image, IMAGE)
    size, order = _COLOURS.get(message.encoding, (0, slice(None)))
    if not size or message.step < size * message.width or len(message.data) != message.height * message.step:
        return None
    rows = message.data.reshape(message.height, message.step)[:, : size * message.width]
    pixels = np.ascontiguousarray(rows.reshape(message.height, message.width, size)[..., order])
    buffer = io.BytesIO()
    PillowImage.fromarray(pixels if size > 1 else pixels[..., 0]).save(buffer, format="JPEG", quality=quality)
    jpeg = TYPES.types[COMPRESSED](
        header=message.header,
        format=f"{message.encoding}; jpeg compressed",
        data=np.frombuffer(buffer.getbuffer(), np.uint8),
    )
    return TYPES.serialize_cdr(jpeg, COMPRESSED)


def _qos(latched: bool) -> Qos:
    """What `ros2 bag play` shall offer: an instruction is heard by those who join later, too."""
    return Qos(
        history=QosHistory.KEEP_LAST,
        depth=1 if latched else 30,
        reliability=QosReliability.RELIABLE,
        durability=QosDurability.TRANSIENT_LOCAL if latched else QosDurability.VOLATILE,
        deadline=_FOREVER,
        lifespan=_FOREVER,
        liveliness=QosLiveliness.AUTOMATIC,
        liveliness_lease_duration=_FOREVER,
        avoid_ros_namespace_conventions=False,
    )
