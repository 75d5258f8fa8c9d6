"""One episode out of a rosbag2 bag, MCAP or sqlite3, of our recorder or of `ros2 bag record`; no ROS needed.

A bag is read twice: for the times and joints of everything, then for the images that are wanted.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from rosbags.highlevel import AnyReader
from rosbags.interfaces import Connection
from rosbags.typesys import Stores, get_typestore

from vla_policy import topics
from vla_policy.camera_image import fit_image
from vla_policy.embodiment import Camera, Embodiment
from vla_policy.episode_info import EpisodeInfo
from vla_policy.errors import VlaError
from vla_policy.types import Image
from vla_rl_trainer.alignment import Indices, Times
from vla_rl_trainer.dataset.images import decode_image

JOINTS = (topics.JOINT_STATES, topics.JOINT_COMMANDS)

_COMPRESSED = "sensor_msgs/msg/CompressedImage"
_CHANNELS = {"rgb8": slice(None), "bgr8": slice(None, None, -1)}
_TEXTS = (topics.EPISODE_INFO, topics.INSTRUCTION)


class BagReader:
    """Times and joints of a bag on opening; images on demand."""

    def __init__(self, path: Path, embodiment: Embodiment) -> None:
        """Open and read all but the images.

        Args:
            path: Folder or file of the bag.
            embodiment: Names and orders the joints and cameras.

        Raises:
            VlaError: the bag is damaged or unfinished, or a message does not fit the robot.
        """
        self.path = path
        self._embodiment = embodiment
        self._reader = self._opened()
        self._image_topics = self._choose_image_topics()
        self.info: EpisodeInfo | None = None
        """What the recorder says of the episode; None in bags of others."""
        self.instruction = ""
        """First told on /instruction."""
        self.times: dict[str, Times] = {}
        """Joint topic or camera to the times of its messages, ascending [s]; from the first of all messages on."""
        self.positions: dict[str, npt.NDArray[np.float32]] = {}
        """Joint topic to positions in the embodiment's order [rad], [m], shape (N, num_joints)."""
        self._order: dict[str, Indices] = {}
        try:
            self._take_custom_data()
            self._read_all_but_images()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> BagReader:
        """Nothing is left to do."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the files."""
        self.close()

    def close(self) -> None:
        """Close the files."""
        self._reader.close()

    def images(self, rows: Mapping[str, Indices]) -> dict[str, Image]:
        """Images at the robot's size: camera to (T, height, width, 3), from camera to T indices into its `times`.

        Raises:
            VlaError: an image cannot be read or cut to the robot's size.
        """
        cameras = {camera.name: camera for camera in self._embodiment.cameras if camera.name in rows}
        images = {
            name: np.zeros((len(rows[name]), camera.height, camera.width, 3), np.uint8)
            for name, camera in cameras.items()
        }
        places: dict[str, dict[int, list[int]]] = {name: {} for name in cameras}
        for name in cameras:
            for row, index in enumerate(self._order[name][rows[name]]):
                places[name].setdefault(int(index), []).append(row)
        seen = dict.fromkeys(cameras, -1)
        name_of = {self._image_topics[name]: name for name in cameras}
        for connection, _, data in self._messages(name_of.__contains__):
            name = name_of[connection.topic]
            seen[name] += 1
            if wanted := places[name].get(seen[name]):
                images[name][wanted] = self._image(connection, data, cameras[name])
        return images

    def _opened(self) -> AnyReader:
        try:
            reader = AnyReader([self.path], default_typestore=get_typestore(Stores.ROS2_JAZZY))
            reader.open()
        except Exception as error:  # rosbags raises what it meets in a damaged file
            raise self._damaged(error) from error
        return reader

    def _damaged(self, error: Exception) -> VlaError:
        remedy = f"save what is whole with python -m piper_bringup.recover_bag {self.path}"
        if self.path.suffix == ".db3" or (self.path.is_dir() and any(self.path.glob("*.db3"))):
            remedy = f"try ros2 bag reindex {self.path}"
        return VlaError(f"bag {self.path} is unfinished or cut off ({error}); {remedy}")

    def _choose_image_topics(self) -> dict[str, str]:
        """Camera to the topic its images are on: the exact ones where there are both."""
        offered = {connection.topic for connection in self._reader.connections if connection.msgcount}
        return {
            camera: next((t for t in (topics.image(camera), topics.compressed(camera)) if t in offered), "")
            for camera in self._embodiment.camera_names
        }

    def _messages(self, is_wanted: Callable[[str], bool]) -> Iterator[tuple[Connection, int, bytes]]:
        connections = [connection for connection in self._reader.connections if is_wanted(connection.topic)]
        if not connections:
            return
        try:
            yield from self._reader.messages(connections)
        except Exception as error:
            raise self._damaged(error) from error

    def _message(self, connection: Connection, data: bytes) -> Any:
        try:
            return self._reader.deserialize(data, connection.msgtype)
        except Exception as error:
            raise VlaError(f"bag {self.path} holds a {connection.msgtype} that cannot be read: {error}") from error

    def _read_all_but_images(self) -> None:
        cameras = {topic: name for name, topic in self._image_topics.items() if topic}
        stamps: dict[str, list[tuple[int, int]]] = {name: [] for name in (*JOINTS, *self._embodiment.camera_names)}
        positions: dict[str, list[npt.NDArray[np.float32]]] = {topic: [] for topic in JOINTS}
        wanted = {*JOINTS, *_TEXTS, *cameras}
        for connection, received, data in self._messages(wanted.__contains__):
            topic = connection.topic
            if topic in _TEXTS:
                self._take_text(topic, str(self._message(connection, data).data))
                continue
            stamps[cameras.get(topic, topic)].append((_header_stamp(data), received))
            if topic in positions:
                positions[topic].append(self._in_order(topic, self._message(connection, data)))
        self._sort(stamps)
        for topic, rows in positions.items():
            ordered = np.stack(rows) if rows else np.zeros((0, self._embodiment.num_joints), np.float32)
            self.positions[topic] = ordered[self._order[topic]]

    def _take_text(self, topic: str, text: str) -> None:
        if topic == topics.INSTRUCTION:
            self.instruction = self.instruction or text
            return
        try:
            texts = json.loads(text)
        except ValueError as error:
            raise VlaError(f"bag {self.path} holds {topic} of another recorder: {text[:80]}") from error
        self._take_info(texts)

    def _take_custom_data(self) -> None:
        """A bare .mcap file has none; the messages in it say the same."""
        reader: Any = self._reader.readers[0]
        texts = reader.storage.metadata.custom or {}
        if "embodiment" in texts:
            self._take_info(texts)

    def _take_info(self, texts: Mapping[str, Any]) -> None:
        """The last told holds: the first message says what is known at the start."""
        self.info = EpisodeInfo.of(texts, f"bag {self.path}")
        self._embodiment.require_same(Embodiment.from_json(self.info.embodiment), f"bag {self.path}")

    def _sort(self, stamps: dict[str, list[tuple[int, int]]]) -> None:
        """Times by the stamps in the messages; by their arrival where a publisher does not stamp them."""
        arrays = {name: np.array(pairs, np.int64).reshape(-1, 2) for name, pairs in stamps.items()}
        column = 0 if all((pairs[:, 0] > 0).all() for pairs in arrays.values()) else 1
        zero = min((int(pairs[:, column].min()) for pairs in arrays.values() if len(pairs)), default=0)
        for name, pairs in arrays.items():
            self._order[name] = np.argsort(pairs[:, column], kind="stable")
            self.times[name] = (pairs[self._order[name], column] - zero).astype(np.float64) * 1e-9

    def _in_order(self, topic: str, message: Any) -> npt.NDArray[np.float32]:
        names, robot = list(message.name), self._embodiment
        if missing := [name for name in robot.joint_names if name not in names]:
            raise VlaError(f"bag {self.path}: {topic} lacks {', '.join(missing)}; {robot.name} has them: another robot")
        if len(message.position) != len(names):
            raise VlaError(f"bag {self.path}: {topic} has {len(message.position)} positions for {len(names)} names")
        values = np.asarray(message.position, np.float32)
        return values[[names.index(name) for name in robot.joint_names]]

    def _image(self, connection: Connection, data: bytes, camera: Camera) -> Image:
        message = self._message(connection, data)
        owner = f"bag {self.path} topic {connection.topic}"
        if connection.msgtype == _COMPRESSED:
            return _fitted(decode_image(message.data.tobytes(), owner), camera, owner)
        if message.encoding not in _CHANNELS:
            raise VlaError(f"{owner} has '{message.encoding}' images; record one of {', '.join(_CHANNELS)}, or JPEG")
        if message.step < 3 * message.width or len(message.data) != message.height * message.step:
            raise VlaError(f"{owner} has {len(message.data)} bytes for {message.height} x {message.width} px")
        rows = message.data.reshape(message.height, message.step)[:, : 3 * message.width]
        pixels = rows.reshape(message.height, message.width, 3)[..., _CHANNELS[message.encoding]]
        return _fitted(np.ascontiguousarray(pixels), camera, owner)


def _fitted(image: Image, camera: Camera, owner: str) -> Image:
    """The image as the running robot's policy sees it."""
    try:
        return fit_image(image, camera)
    except VlaError as error:
        raise VlaError(f"{owner}: {error}") from error


def _header_stamp(data: bytes) -> int:
    """Stamp of a serialised message that begins with a header [ns]."""
    seconds, nanoseconds = struct.unpack_from("<iI" if data[1] & 1 else ">iI", data, 4)
    return seconds * 1_000_000_000 + nanoseconds
