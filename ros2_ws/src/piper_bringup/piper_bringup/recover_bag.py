"""Make bags of episodes whose recorder was killed.

    python -m piper_bringup.recover_bag bags

finishes every episode in the folder that was left unfinished; its outcome is "unknown". A bag of `ros2 bag record`
whose end is missing is given by its own folder or file, and the result stands beside it.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import tyro
from rosbags.interfaces import Connection
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.rosbag2.metadata import parse_qos
from rosbags.typesys import Stores, TypesysError, get_types_from_msg, get_typestore

from piper_bringup.recording.bag_files import BagFolder, free_name, is_unfinished, unfinished
from piper_bringup.recording.damaged_mcap import SavedMessage, ends_well, whole_messages
from piper_bringup.recording.episode_bag import STRING, TYPES
from piper_twin.exit_codes import exit_after
from vla_policy import topics
from vla_policy.episode_info import UNKNOWN, EpisodeInfo
from vla_policy.errors import VlaError


@dataclasses.dataclass(frozen=True, kw_only=True)
class RecoverConfig:
    """Saving unfinished bags."""

    folder: tyro.conf.Positional[Path]
    """Folder of bags, or one unfinished bag."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Recovered:
    """What became of one unfinished bag."""

    source: Path
    bag: Path | None
    """None when it held no message: nothing is left of it."""
    num_messages: int
    duration: float
    """From the first to the last message [s]."""

    def __str__(self) -> str:
        """One line for the terminal."""
        if self.bag is None:
            return f"{self.source} held no message and was removed"
        return f"{self.bag}: {self.num_messages} messages, {self.duration:.1f} s"


def recover(folder: Path) -> list[Recovered]:
    """Finish what was left unfinished in a folder of bags, or one bag.

    Raises:
        VlaError: nothing there is unfinished, or it is still being recorded.
    """
    if is_unfinished(folder):
        return [_recover_episode(folder)]
    if left := unfinished(folder):
        return [_recover_episode(path) for path in left]
    files = _mcap_files(folder)
    if not files:
        raise VlaError(f"{folder} holds no unfinished episode and no .mcap file; give a folder of bags or one bag")
    if all(ends_well(file) for file in files):
        raise VlaError(f"{folder} is whole, nothing is to be recovered; if metadata.yaml is missing: ros2 bag reindex")
    name = folder.stem if folder.is_file() else folder.name
    return [_rewrite(files, free_name(folder.absolute().with_name(f"{name}_recovered")), folder)[0]]


def _recover_episode(path: Path) -> Recovered:
    """One hidden folder of the recorder; what was written before a kill is moved, never lost."""
    folder = BagFolder(path)
    again = path / "recovered"
    shutil.rmtree(again, ignore_errors=True)  # of a recovery that was killed
    found, info = _rewrite(_mcap_files(folder.bag), again / folder.name, path)
    if found.bag is None:
        folder.remove()
        return found
    outcome = UNKNOWN if info is None else info.outcome  # killed after the last message, it knows more
    return dataclasses.replace(found, bag=folder.keep(outcome, found.bag))


def _rewrite(files: list[Path], target: Path, source: Path) -> tuple[Recovered, EpisodeInfo | None]:
    """A bag `target` of all whole messages, and what they tell of the episode."""
    info: EpisodeInfo | None = None
    count, first, last = 0, 0, 0
    messages = (message for file in files for message in whole_messages(file))
    head = next(messages, None)
    if head is None:
        return Recovered(source=source, bag=None, num_messages=0, duration=0.0), None
    target.parent.mkdir(exist_ok=True)
    with Writer(target, version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        for message, connection in _connected(writer, _chained(head, messages)):
            writer.write(connection, message.stamp, message.data)
            if message.topic == topics.EPISODE_INFO:
                info = _info(message, source)
            first = message.stamp if count == 0 else min(first, message.stamp)
            last, count = max(last, message.stamp), count + 1
        for key, value in ({} if info is None else info.custom_data()).items():
            writer.set_custom_data(key, value)
    return Recovered(source=source, bag=target, num_messages=count, duration=(last - first) * 1e-9), info


def _chained(head: SavedMessage, rest: Iterable[SavedMessage]) -> Iterator[SavedMessage]:
    yield head
    yield from rest


def _connected(writer: Writer, messages: Iterable[SavedMessage]) -> Iterator[tuple[SavedMessage, Connection]]:
    """Every message with its connection in the new bag, made when its topic comes up first."""
    connections: dict[tuple[str, str], Connection] = {}
    for message in messages:
        key = (message.topic, message.type)
        if key not in connections:
            types = get_typestore(Stores.EMPTY)
            try:
                types.register(get_types_from_msg(message.definition, message.type))
            except TypesysError as error:
                raise VlaError(f"{message.topic} is a {message.type}, whose definition cannot be read") from error
            connections[key] = writer.add_connection(
                message.topic, message.type, typestore=types, offered_qos_profiles=parse_qos(message.qos)
            )
        yield message, connections[key]


def _info(message: SavedMessage, source: Path) -> EpisodeInfo:
    told: Any = TYPES.deserialize_cdr(message.data, STRING)
    return EpisodeInfo.of(json.loads(told.data), str(source))


def _mcap_files(folder: Path) -> list[Path]:
    """Files of one bag, in the order they were written."""
    return [folder] if folder.suffix == ".mcap" and folder.is_file() else sorted(folder.glob("*.mcap"))


def main(config: RecoverConfig) -> None:
    """Recover, and tell."""
    for found in recover(config.folder):
        print(found)


if __name__ == "__main__":
    exit_after(lambda: main(tyro.cli(RecoverConfig)), "stopped; the same command goes on")
