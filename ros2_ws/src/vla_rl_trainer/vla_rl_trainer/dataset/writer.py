"""Writing a LeRobotDataset v3.0: all goes to a hidden folder beside the target, which gets its name at the end."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq

from vla_policy.embodiment import Embodiment
from vla_policy.errors import VlaError
from vla_rl_trainer.dataset import layout
from vla_rl_trainer.dataset.episode import EpisodeData
from vla_rl_trainer.dataset.images import encode_png
from vla_rl_trainer.dataset.rolling_files import DataFiles, VideoFiles
from vla_rl_trainer.dataset.statistics import Statistics, image_histogram, image_statistics, vector_statistics
from vla_rl_trainer.disk import refuse_full_disk
from vla_rl_trainer.folder_lock import FolderLock


class DatasetWriter:
    """Collects episodes into a new dataset; use it as a context manager.

    Leaving the block without an error names the dataset; leaving it with one removes what was written. A killed
    writer leaves only its hidden folder, which the next writer to the same path clears away.
    """

    def __init__(self, path: str | Path, embodiment: Embodiment, images: Literal["video", "image"] = "video") -> None:
        """Choose the target; nothing is written yet.

        Args:
            path: Folder of the dataset; must not exist.
            embodiment: The robot all episodes come from.
            images: "video" for H.264, small and nearly lossless; "image" for PNG in the parquet files, lossless.

        Raises:
            VlaError: `path` exists, or `images` is neither.
        """
        if images not in ("video", "image"):
            raise VlaError(f"images = {images!r} is not known; choose 'video' or 'image'")
        self.path = Path(path)
        self.embodiment = embodiment
        self._refuse_existing()
        self._partial = layout.partial_folder(self.path)
        self._is_video = images == "video"
        self._features: dict[str, dict[str, Any]] | None = None
        self._broken = False
        self._data: DataFiles | None = None
        self._videos: dict[str, VideoFiles] = {}
        self._rows: list[dict[str, Any]] = []
        self._tasks: list[str] = []
        self._vectors: dict[str, list[npt.NDArray]] = {}
        self._histograms: dict[str, npt.NDArray[np.int64]] = {}
        self.num_frames = 0

    @property
    def num_episodes(self) -> int:
        """Episodes added so far."""
        return len(self._rows)

    def __enter__(self) -> DatasetWriter:
        """Make the hidden folder.

        Raises:
            VlaError: another process writes the same dataset, or the disk refuses.
        """
        self._refuse_existing()
        with refuse_full_disk(self.path):
            self._partial.mkdir(parents=True, exist_ok=True)
        self._lock = FolderLock(self._partial)
        for leftover in self._partial.iterdir():
            if leftover.name != ".lock":
                shutil.rmtree(leftover)
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        """Name the dataset, or remove it after an error."""
        try:
            if kind is None:
                with refuse_full_disk(self.path):
                    self._finalise()
        finally:
            for file in (self._data, *self._videos.values()):
                if file is not None:
                    file.abandon()
            shutil.rmtree(self._partial, ignore_errors=True)
            self._lock.close()

    def add(self, episode: EpisodeData) -> None:
        """Append one episode.

        Raises:
            VlaError: the episode does not fit the robot or the episodes before it, which leaves the dataset as it
                was; or the disk is full, which ends it.
        """
        episode.validate()
        self._refuse_unlike(episode)
        try:
            with refuse_full_disk(self.path):
                self._write(episode)
        except BaseException:
            self._broken = True
            raise

    def _refuse_existing(self) -> None:
        if self.path.exists() or self.path.is_symlink():
            raise VlaError(f"dataset {self.path} already exists; choose another path or delete it")

    def _refuse_unlike(self, episode: EpisodeData) -> None:
        robot = self.embodiment
        for name, values in (("state", episode.state), ("action", episode.action)):
            if values.shape[1] != robot.num_joints:
                raise VlaError(f"{name} has {values.shape[1]} numbers, {robot.name} has {robot.num_joints} joints")
        if set(episode.images) != set(robot.camera_names):
            raise VlaError(f"the episode has cameras {sorted(episode.images)}, {robot.name} has {robot.camera_names}")
        for camera in robot.camera_names:
            shape = list(episode.images[camera].shape[1:])
            if self._is_video and (shape[0] % 2 or shape[1] % 2):
                raise VlaError(f"video needs even image sides, camera {camera} has {shape[:2]}; use images='image'")
            known = self._features[layout.image_key(camera)]["shape"] if self._features else shape
            if shape != known:
                raise VlaError(f"camera {camera} gives images of {shape[:2]}, earlier episodes had {known[:2]}")

    def _open(self, episode: EpisodeData) -> dict[str, dict[str, Any]]:
        """Start the files, now that the image sizes are known."""
        shapes = {camera: episode.images[camera].shape[1:] for camera in self.embodiment.camera_names}
        features = layout.features(self.embodiment, shapes, self._is_video)
        self._data = DataFiles(self._partial, layout.data_schema(features))
        if self._is_video:
            rate = layout.frame_rate(self.embodiment.control_period)
            self._videos = {
                layout.image_key(camera): VideoFiles(self._partial, layout.image_key(camera), rate, *shape[:2])
                for camera, shape in shapes.items()
            }
        return features

    def _write(self, episode: EpisodeData) -> None:
        if self._features is None or self._data is None:
            self._features = self._open(episode)
        assert self._data is not None
        if episode.instruction not in self._tasks:
            self._tasks.append(episode.instruction)
        columns = self._columns(episode)
        row: dict[str, Any] = {
            "episode_index": self.num_episodes,
            "tasks": [episode.instruction],
            "length": len(episode),
            "dataset_from_index": self.num_frames,
            "dataset_to_index": self.num_frames + len(episode),
            "success": episode.success,
            "seed": episode.seed,
            "task_name": episode.task,
        }
        for camera in self.embodiment.camera_names:
            key, images = layout.image_key(camera), episode.images[camera]
            if self._is_video:
                row.update(self._videos[key].append(images))
            else:
                columns[key] = [{"bytes": encode_png(image), "path": _png_name(i)} for i, image in enumerate(images)]
        row.update(self._data.append(columns))
        row.update(_flatten(self._count(columns, episode)))
        self._rows.append({**row, "meta/episodes/chunk_index": 0, "meta/episodes/file_index": 0})
        self.num_frames += len(episode)

    def _columns(self, episode: EpisodeData) -> dict[str, Any]:
        frames = np.arange(len(episode))
        return {
            layout.STATE: np.asarray(episode.state, dtype=np.float32),
            layout.ACTION: np.asarray(episode.action, dtype=np.float32),
            "timestamp": (frames / layout.frame_rate(self.embodiment.control_period)).astype(np.float32),
            "frame_index": frames,
            "episode_index": np.full(len(episode), self.num_episodes),
            "index": frames + self.num_frames,
            "task_index": np.full(len(episode), self._tasks.index(episode.instruction)),
        }

    def _count(self, columns: dict[str, Any], episode: EpisodeData) -> dict[str, Statistics]:
        """Statistics of one episode; its numbers are kept for those of the whole."""
        statistics: dict[str, Statistics] = {}
        for name, values in columns.items():
            if isinstance(values, np.ndarray):
                values_TD = values.reshape(len(episode), -1)
                self._vectors.setdefault(name, []).append(values_TD)
                statistics[name] = vector_statistics(values_TD)
        for camera in self.embodiment.camera_names:
            key, histogram = layout.image_key(camera), image_histogram(episode.images[camera])
            self._histograms[key] = self._histograms.get(key, 0) + histogram
            statistics[key] = image_statistics(histogram, len(episode))
        return statistics

    def _finalise(self) -> None:
        if self._broken:
            raise VlaError(f"dataset {self.path} is incomplete after an error and was not kept; record it again")
        if self._features is None or self._data is None:
            raise VlaError(f"dataset {self.path} would be empty and was not made; add at least one episode")
        for files in (self._data, *self._videos.values()):
            files.close()
        counts = {"total_episodes": self.num_episodes, "total_frames": self.num_frames, "total_tasks": len(self._tasks)}
        statistics = {name: vector_statistics(np.concatenate(parts)) for name, parts in self._vectors.items()}
        statistics |= {key: image_statistics(total, self.num_frames) for key, total in self._histograms.items()}
        info = layout.info(self.embodiment, self._features, counts, self._is_video)
        self._write_text(layout.INFO, json.dumps(info, indent=4))
        self._write_text(layout.STATS, json.dumps(statistics, indent=4))
        self._write_text(layout.EMBODIMENT, self.embodiment.to_json())
        pq.write_table(layout.task_table(self._tasks), self._partial / layout.TASKS)
        episodes = self._partial / layout.EPISODES.format(chunk_index=0, file_index=0)
        episodes.parent.mkdir(parents=True)
        pq.write_table(layout.episode_table(self._rows), episodes)
        for file in self._partial.rglob("*.*"):
            if file.is_file():
                _flush_to_disk(file)
        self._refuse_existing()
        (self._partial / ".lock").unlink()
        self._partial.rename(self.path)

    def _write_text(self, name: str, text: str) -> None:
        file = self._partial / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)


def _png_name(frame: int) -> str:
    return f"frame-{frame:06d}.png"


def _flatten(statistics: dict[str, Statistics]) -> dict[str, list]:
    return {f"stats/{name}/{key}": value for name, each in statistics.items() for key, value in each.items()}


def _flush_to_disk(file: Path) -> None:
    handle = os.open(file, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
