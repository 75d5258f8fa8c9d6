"""Episodes from start to outcome: what must be alive, where the bag goes, what ends it early.

Knows no ROS: messages come as bytes, times as arguments.
"""

from __future__ import annotations

import contextlib
import dataclasses
import shutil
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, Literal

from piper_bringup.recording import bag_files
from piper_bringup.recording.bag_files import BagFolder
from piper_bringup.recording.episode_bag import COMPRESSED, IMAGE, STRING, TYPES, EpisodeBag, Stream
from vla_policy import topics
from vla_policy.embodiment import Embodiment
from vla_policy.episode_info import UNKNOWN, EpisodeInfo
from vla_policy.errors import VlaError

_GB = 1e9


@dataclasses.dataclass(frozen=True, kw_only=True)
class RecorderConfig:
    """How episodes are recorded."""

    folder: Path = Path("bags")
    """Folder of the bags; made when it is missing."""
    images: Literal["jpeg", "raw"] = "jpeg"
    """jpeg: a camera's own JPEG topic where it has one, else its images encoded here; raw: as they come, 20 times the
    bytes."""
    jpeg_quality: int = 90
    """Of 100, for images encoded here."""
    task: str | None = None
    """Name of the task, for the bags' names and the dataset; without one the instruction names them."""
    instruction: str | None = None
    """Recorded with the episode until one is told on /instruction."""
    topic_timeout: float = 1.0
    """A topic silent for so long is missing [s]."""
    min_free_gb: float = 2.0
    """Free disk space an episode needs to start [GB]."""
    stop_free_gb: float = 0.5
    """Free disk space at which a running episode is ended [GB]."""
    queue_mb: int = 256
    """Memory for messages that wait for a slow disk; what comes on top is dropped, and told [MB]."""

    def __post_init__(self) -> None:
        """Refuse what cannot be meant."""
        if not 1 <= self.jpeg_quality <= 100:
            raise VlaError(f"jpeg_quality is {self.jpeg_quality}; give 1 to 100")
        if self.topic_timeout <= 0.0 or self.queue_mb < 1:
            raise VlaError("topic_timeout and queue_mb must be positive")
        if not 0.0 < self.stop_free_gb <= self.min_free_gb:
            raise VlaError(
                f"stop_free_gb is {self.stop_free_gb} and min_free_gb {self.min_free_gb}; the first must be positive "
                "and at most the second"
            )


@dataclasses.dataclass(slots=True)
class _Episode:
    """The one that is being recorded."""

    folder: BagFolder
    bag: EpisodeBag
    info: EpisodeInfo


def free_bytes(folder: Path) -> int:
    """Free space where `folder` is or would be [B]."""
    existing = next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())
    return shutil.disk_usage(existing).free


class Recorder:
    """Keeps one episode at a time; every method is called from the same thread."""

    def __init__(
        self,
        config: RecorderConfig,
        embodiment: Embodiment,
        software: str,
        free: Callable[[Path], int] = free_bytes,
    ) -> None:
        """Record nothing yet.

        Args:
            config: How.
            embodiment: The robot, kept with every bag; its cameras are what must be alive.
            software: Commit or version, kept with every bag.
            free: Free space of a folder [B].
        """
        self._config = config
        self._embodiment = embodiment
        self._software = software
        self._free = free
        self._instruction = config.instruction or ""
        self._seen: dict[str, float] = {}
        self._latched: dict[str, bytes] = {}
        self._episode: _Episode | None = None
        self.problem: str | None = None
        """Why the last episode did not end as the operator wished; a new start clears it."""
        self.streams: dict[str, Stream] = {}
        """By topic; what is to be subscribed to."""
        self.watch(())

    def watch(self, compressed: Collection[str]) -> None:
        """Choose the streams, unless an episode runs; `compressed` are the cameras that publish JPEG themselves."""
        if self._episode is None:
            jpeg = compressed if self._config.images == "jpeg" else ()
            streams = recorded_streams(self._embodiment, jpeg, encode=self._config.images == "jpeg")
            self.streams = {stream.topic: stream for stream in streams}

    def take(self, topic: str, data: bytes, stamp: int, now: float) -> None:
        """One serialised message, received at `stamp` [ns] of the graph's clock and `now` [s]."""
        stream = self.streams.get(topic)
        if stream is None:
            return
        self._seen[topic] = now
        if stream.latched:
            self._latched[topic] = data
        if topic == topics.INSTRUCTION:
            message: Any = TYPES.deserialize_cdr(data, STRING)
            self._instruction = str(message.data)
        if self._episode is not None:
            self._episode.bag.put(stream, stamp, data)

    def start(self, stamp: int, now: float) -> str:
        """Begin an episode; returns its name.

        Raises:
            VlaError: one runs already, a topic is missing, nothing was instructed, or the disk is nearly full.
        """
        config = self._config
        if self._episode is not None:
            raise VlaError(f"{self._episode.folder.name} is being recorded; end it by success, failure or discard")
        if missing := self.missing(now):
            raise VlaError(f"cannot record: {', '.join(missing)} silent; start what publishes that and try again")
        if not self._instruction:
            raise VlaError(f"cannot record: nobody has told the task; publish it on {topics.INSTRUCTION}")
        if (free := self._free(config.folder)) < config.min_free_gb * _GB:
            raise VlaError(
                f"cannot record: {free / _GB:.1f} GB are free in {config.folder}, {config.min_free_gb} are needed; "
                "free some space or choose another folder"
            )
        info = EpisodeInfo(
            instruction=self._instruction,
            task=config.task or "",
            embodiment=self._embodiment.to_json(),
            software=self._software,
        )
        folder = BagFolder.create(config.folder, config.task or self._instruction)
        queue = config.queue_mb * 1_000_000
        try:
            bag = EpisodeBag(folder.bag, info, stamp, max_queue=queue, jpeg_quality=config.jpeg_quality)
        except OSError as error:
            folder.remove()
            raise VlaError(f"cannot record into {config.folder} ({error}); choose another folder") from error
        self.problem = None
        self._episode = _Episode(folder, bag, info)
        for topic, data in self._latched.items():
            bag.put(self.streams[topic], stamp, data)
        return folder.name

    def end(self, outcome: str, stamp: int, reason: str = "") -> Path:
        """Finish the running episode; returns its bag.

        Args:
            outcome: "success", "failure", "unknown" or "discarded".
            stamp: Time of the graph's clock [ns].
            reason: Why, when no operator said so.

        Raises:
            VlaError: no episode runs, or the disk does not take the rest.
        """
        episode, self._episode = self._episode, None
        if episode is None:
            why = f": {self.problem}" if self.problem else ""
            raise VlaError(f"no episode is being recorded{why}")
        try:
            dropped = ", ".join(f"{topic}: {count}" for topic, count in sorted(episode.bag.dropped.items()))
            info = dataclasses.replace(episode.info, outcome=outcome, reason=reason, dropped=dropped)
            episode.bag.close(info, stamp)
            path = episode.folder.keep(outcome)
        except OSError as error:
            episode.folder.leave()
            self.problem = (
                f"{episode.folder.name} could not be finished ({error}); "
                f"free some space, then python -m piper_bringup.recover_bag {self._config.folder}"
            )
            raise VlaError(self.problem) from error
        if dropped:
            self.problem = f"{path.name} lacks messages that the disk was too slow for ({dropped}); record it again"
        return path

    def check(self, stamp: int, now: float) -> None:
        """To be called twice a second: flushes, and ends an episode that cannot go on well, keeping what is there."""
        if self._episode is None:
            return
        self._episode.bag.flush()
        reason = None
        if (error := self._episode.bag.error) is not None:
            reason = f"the bag could not be written ({error})"
        elif missing := self.missing(now):
            reason = f"{', '.join(missing)} fell silent"
        elif (free := self._free(self._config.folder)) < self._config.stop_free_gb * _GB:
            reason = f"only {free / _GB:.1f} GB of disk are left"
        if reason is not None:
            with contextlib.suppress(VlaError):  # told as the problem
                path = self.end(UNKNOWN, stamp, reason)
                self.problem = f"{reason}; {path.name} holds what came before"

    def missing(self, now: float) -> list[str]:
        """Required topics that are silent."""
        limit = now - self._config.topic_timeout
        return [t for t, stream in self.streams.items() if stream.required and self._seen.get(t, float("-inf")) < limit]

    def values(self, now: float) -> dict[str, object]:
        """What diagnostics tell."""
        episode = self._episode
        told: dict[str, object] = {
            "episode": "" if episode is None else episode.folder.name,
            "missing": ", ".join(self.missing(now)),
            "free_gb": round(self._free(self._config.folder) / _GB, 1),
        }
        if episode is not None:
            told["messages"] = episode.bag.num_messages
            told["dropped"] = episode.bag.dropped.total()
            told["queue_peak_mb"] = round(episode.bag.peak / 1e6, 1)
        return told

    def close(self, stamp: int) -> str | None:
        """End a running episode because the recorder is told to stop; returns what went wrong."""
        if self._episode is not None:
            with contextlib.suppress(VlaError):  # told as the problem
                self.end(UNKNOWN, stamp, "the recorder was stopped")
        return self.problem

    def left_behind(self) -> str | None:
        """Tells of episodes that a killed recorder has left, and how to save them."""
        left = bag_files.unfinished(self._config.folder)
        if not left:
            return None
        return f"{len(left)} unfinished episodes; save them with python -m piper_bringup.recover_bag {left[0].parent}"


def recorded_streams(embodiment: Embodiment, compressed: Collection[str], *, encode: bool) -> list[Stream]:
    """What is recorded of a robot.

    Args:
        embodiment: Names the cameras.
        compressed: Cameras whose own JPEG topic is taken.
        encode: Turn the images of the others into JPEG.
    """
    joints = "sensor_msgs/msg/JointState"
    streams = [
        Stream(topic=topics.JOINT_STATES, type=joints, required=True),
        Stream(topic=topics.JOINT_COMMANDS, type=joints, required=True),
        Stream(topic=topics.INSTRUCTION, type=STRING, latched=True),
        Stream(topic=topics.ACTION_CHUNK, type="trajectory_msgs/msg/JointTrajectory"),
        Stream(topic=topics.DIAGNOSTICS, type="diagnostic_msgs/msg/DiagnosticArray"),
    ]
    for camera in embodiment.camera_names:
        jpeg = topics.compressed(camera)
        if camera in compressed:
            streams.append(Stream(topic=jpeg, type=COMPRESSED, required=True))
        else:
            streams.append(
                Stream(topic=topics.image(camera), type=IMAGE, required=True, jpeg_topic=jpeg if encode else None)
            )
        streams.append(Stream(topic=topics.camera_info(camera), type="sensor_msgs/msg/CameraInfo"))
    return streams
