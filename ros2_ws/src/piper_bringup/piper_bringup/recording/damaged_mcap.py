"""Messages of an MCAP file whose end is missing: chunk by chunk, as far as they are whole.

Such a file has no index, so the readers of rosbag2 and of mcap refuse it or hand out half a message at its end.
"""

from __future__ import annotations

import dataclasses
import io
import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from mcap.data_stream import ReadDataStream
from mcap.opcode import Opcode
from mcap.records import Channel, Chunk, Message, Schema
from mcap.stream_reader import get_chunk_data_stream

from vla_policy.errors import VlaError

_MAGIC = b"\x89MCAP0\r\n"
_HEAD = struct.Struct("<BQ")
"""Kind and length, before every record."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class SavedMessage:
    """One whole message."""

    topic: str
    type: str
    definition: str
    """Text of the message type."""
    qos: str
    """How it was offered, as YAML; may be empty."""
    stamp: int
    """When it was received [ns]."""
    data: bytes


def ends_well(path: Path) -> bool:
    """True when a file ends as whole MCAP files do."""
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - len(_MAGIC)))
        return size > len(_MAGIC) and file.read() == _MAGIC


def whole_messages(path: Path) -> Iterator[SavedMessage]:
    """Every whole message of an MCAP file, in the order of the file.

    Raises:
        VlaError: it is no MCAP file.
    """
    with path.open("rb") as file:
        if file.read(len(_MAGIC)) != _MAGIC:
            raise VlaError(f"{path} is no MCAP file; nothing of it can be recovered")
        schemas: dict[int, Schema] = {}
        channels: dict[int, Channel] = {}
        for kind, content in _records(file):
            stream = ReadDataStream(io.BytesIO(content))
            if kind == Opcode.SCHEMA:
                schema = Schema.read(stream)
                schemas[schema.id] = schema
            elif kind == Opcode.CHANNEL:
                channel = Channel.read(stream)
                channels[channel.id] = channel
            elif kind == Opcode.MESSAGE:
                message = Message.read(stream, len(content))
                channel = channels[message.channel_id]
                yield SavedMessage(
                    topic=channel.topic,
                    type=schemas[channel.schema_id].name,
                    definition=schemas[channel.schema_id].data.decode(),
                    qos=channel.metadata.get("offered_qos_profiles", ""),
                    stamp=message.log_time,
                    data=message.data,
                )


def _records(file: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """Kind and content of every record up to the end or the first that is cut off; chunks are opened."""
    start = file.tell()
    size = file.seek(0, os.SEEK_END)
    file.seek(start)
    while len(head := file.read(_HEAD.size)) == _HEAD.size:
        kind, length = _HEAD.unpack(head)
        left = max(0, size - file.tell())
        is_whole = length <= left
        content = file.read(min(length, left))
        if kind == Opcode.CHUNK:
            yield from _chunk_records(content, is_whole)
        elif is_whole:
            yield kind, content
        if not is_whole or kind == Opcode.DATA_END:
            return


def _chunk_records(content: bytes, is_whole: bool) -> Iterator[tuple[int, bytes]]:
    """Of half a chunk what is readable: nothing when it is compressed."""
    try:
        chunk = Chunk.read(ReadDataStream(io.BytesIO(content)))
    except Exception:  # not even its head is whole; the reader raises what it happens to meet
        return
    if is_whole:
        yield from _records(
            io.BytesIO(get_chunk_data_stream(chunk, validate_crc=True)[0].read(chunk.uncompressed_size))
        )
    elif not chunk.compression:
        yield from _records(io.BytesIO(chunk.data))
