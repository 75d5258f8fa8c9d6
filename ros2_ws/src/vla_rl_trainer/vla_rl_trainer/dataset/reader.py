"""Reading a LeRobotDataset v3.0, ours or a public one.

Opening checks every file, so that training does not stop halfway.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from vla_policy.embodiment import Embodiment
from vla_policy.errors import VlaError
from vla_rl_trainer.dataset import layout, video_files
from vla_rl_trainer.dataset.episode import EpisodeData
from vla_rl_trainer.dataset.frames import FrameTable
from vla_rl_trainer.dataset.images import decode_image, square_images

_RESTORE = "restore it, or copy the dataset again"


class Dataset:
    """A dataset on disk. Data without `embodiment.json` or success marks (public sets) is read as solved episodes."""

    def __init__(self, path: str | Path, embodiment: Embodiment | None = None) -> None:
        """Open and check.

        Args:
            path: Folder of the dataset.
            embodiment: When given, the robot the data must come from.

        Raises:
            VlaError: the recording is unfinished, or a file, which is named, is missing, damaged, of another version
                or of another robot.
        """
        self.path = Path(path)
        if layout.is_unfinished(self.path):
            raise VlaError(
                f"dataset {path} is unfinished: its recording was interrupted, or still runs; "
                "run the same collect command again with a new --out"
            )
        self.info = self._load_info()
        self.cameras = tuple(
            layout.camera_name(key) for key, entry in self._features.items() if entry.get("dtype") in ("image", "video")
        )
        self.embodiment = self._load_embodiment()
        self._require(embodiment)
        self.instructions = self._load_instructions()
        self._episodes = self._load_episodes()
        self._check_data()
        self._check_videos()
        self._cached: tuple[Path, pa.Table] | None = None

    @property
    def num_episodes(self) -> int:
        """Number of episodes."""
        return len(self._episodes)

    @property
    def num_frames(self) -> int:
        """Number of frames of all episodes."""
        return sum(row["length"] for row in self._episodes)

    @property
    def success_E(self) -> npt.NDArray[np.bool_]:
        """Whether each episode was solved."""
        return np.asarray([row.get("success") is not False for row in self._episodes], dtype=bool)

    def episode(self, number: int) -> EpisodeData:
        """One episode with all its images.

        Raises:
            VlaError: no such episode, or its files do not hold what the index promises.
        """
        if not 0 <= number < self.num_episodes:
            raise VlaError(f"episode {number} is not in {self.path}, which has {self.num_episodes}, from 0")
        row = self._episodes[number]
        path = self._data_path(row)
        table = self._table(path)
        rows = table.filter(pc.equal(table["episode_index"], row["episode_index"]))
        if len(rows) != row["length"]:
            raise VlaError(f"{path} has {len(rows)} of {row['length']} frames of episode {number}; {_RESTORE}")
        instruction = self._instruction(int(rows["task_index"][0].as_py()))
        seed = row.get("seed")
        return EpisodeData(
            images={camera: self._images(key, row, rows) for camera, key in zip(self.cameras, self._keys, strict=True)},
            state=_matrix(rows[layout.STATE]),
            action=_matrix(rows[layout.ACTION]),
            instruction=instruction,
            success=row.get("success") is not False,
            seed=None if seed is None else int(seed),
            task=row.get("task_name") or instruction,
        )

    def frames(self, image_size: int | None, episodes: Sequence[int] | None = None) -> FrameTable:
        """The frames of all episodes, or of some, in memory.

        Args:
            image_size: Side of the square images [px]; None keeps them as they are.
            episodes: Numbers of the wanted episodes, in the wanted order.
        """
        chosen = range(self.num_episodes) if episodes is None else episodes
        wanted: list[EpisodeData] = []
        for number in chosen:
            episode = self.episode(number)
            if image_size is not None:  # shrink at once: full-size images of a whole dataset may not fit
                images = {camera: square_images(frames, image_size) for camera, frames in episode.images.items()}
                episode = dataclasses.replace(episode, images=images)
            wanted.append(episode)
        return FrameTable.from_episodes(wanted, self.embodiment or self.cameras, None)

    @property
    def statistics(self) -> dict[str, dict[str, Any]]:
        """Content of meta/stats.json: feature to min, max, mean, std, count, q01 .. q99.

        Raises:
            VlaError: the file is missing or damaged.
        """
        return self._load_json(layout.STATS)

    @property
    def _features(self) -> dict[str, dict[str, Any]]:
        return self.info["features"]

    @property
    def _keys(self) -> list[str]:
        return [key for key, entry in self._features.items() if entry.get("dtype") in ("image", "video")]

    def _load_json(self, name: str) -> dict[str, Any]:
        file = self.path / name
        try:
            content = json.loads(file.read_text())
        except FileNotFoundError as error:
            raise VlaError(f"{self.path} is not a LeRobot dataset: {name} is missing; {_RESTORE}") from error
        except (OSError, ValueError) as error:
            raise VlaError(f"{file} is damaged; {_RESTORE}") from error
        if not isinstance(content, dict):
            raise VlaError(f"{file} is damaged; {_RESTORE}")
        return content

    def _load_info(self) -> dict[str, Any]:
        info = self._load_json(layout.INFO)
        version = info.get("codebase_version")
        if version != layout.VERSION:
            raise VlaError(
                f"{self.path / layout.INFO} says LeRobot version {version}, this reads {layout.VERSION}; "
                "convert it with python -m lerobot.datasets.v30.convert_dataset_v21_to_v30 (lerobot 0.4.4)"
            )
        try:
            missing = {layout.STATE, layout.ACTION} - set(info["features"])
            info["fps"] = float(info["fps"])
            info["data_path"].format(chunk_index=0, file_index=0)
            all(entry["dtype"] for entry in info["features"].values())
        except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
            raise VlaError(f"{self.path / layout.INFO} is damaged ({error!r}); {_RESTORE}") from error
        if missing or info["fps"] <= 0:
            what = ", ".join(sorted(missing)) or "a frame rate"
            raise VlaError(f"{self.path / layout.INFO} lacks {what}; {_RESTORE}")
        return info

    def _load_embodiment(self) -> Embodiment | None:
        file = self.path / layout.EMBODIMENT
        return Embodiment.from_json(file.read_text()) if file.exists() else None

    def _require(self, robot: Embodiment | None) -> None:
        """Refuse data of another robot; without an embodiment file only names and sizes can be compared."""
        if robot is None:
            return
        if self.embodiment is not None:
            robot.require_same(self.embodiment, f"dataset {self.path}")
            return
        for key in (layout.STATE, layout.ACTION):
            size = self._features[key]["shape"][0]
            if size != robot.num_joints:
                raise VlaError(f"dataset {self.path} has {size} numbers in {key}, the robot {robot.num_joints} joints")
        missing = [camera for camera in robot.camera_names if camera not in self.cameras]
        if missing:
            raise VlaError(f"dataset {self.path} has cameras {self.cameras}, the robot also {missing}")

    def _load_instructions(self) -> list[str]:
        table = _read(self.path / layout.TASKS)
        texts = next((name for name in ("task", "__index_level_0__") if name in table.column_names), None)
        if texts is None or "task_index" not in table.column_names:
            raise VlaError(f"{self.path / layout.TASKS} has no tasks; {_RESTORE}")
        by_number = dict(zip(table["task_index"].to_pylist(), table[texts].to_pylist(), strict=True))
        return [by_number.get(number, "") for number in range(max(by_number, default=-1) + 1)]

    def _instruction(self, number: int) -> str:
        if not 0 <= number < len(self.instructions):
            raise VlaError(f"{self.path / layout.TASKS} has no task {number}; {_RESTORE}")
        return self.instructions[number]

    def _load_episodes(self) -> list[dict[str, Any]]:
        files = sorted((self.path / "meta/episodes").glob("chunk-*/file-*.parquet"))
        if not files:
            raise VlaError(f"{self.path}/meta/episodes/chunk-000 has no parquet file; {_RESTORE}")
        rows: list[dict[str, Any]] = []
        for file in files:
            rows += _read(file, leave_out="stats/").to_pylist()
        needed = {"episode_index", "length", "data/chunk_index", "data/file_index"}
        needed |= {f"videos/{key}/{name}" for key in self._video_keys for name in ("chunk_index", "file_index")}
        needed |= {f"videos/{key}/from_timestamp" for key in self._video_keys}
        lacking = sorted(needed - set(rows[0])) if rows else []
        if not rows or lacking:
            raise VlaError(f"{files[0]} lists no episodes or lacks {lacking}; {_RESTORE}")
        return sorted(rows, key=lambda row: row["episode_index"])

    @property
    def _video_keys(self) -> list[str]:
        return [key for key, entry in self._features.items() if entry["dtype"] == "video"]

    @property
    def _columns(self) -> list[str]:
        """What is read of the data files."""
        images = [key for key in self._keys if key not in self._video_keys]
        return [layout.STATE, layout.ACTION, "episode_index", "task_index", *images]

    def _data_path(self, row: dict[str, Any]) -> Path:
        place = {"chunk_index": row["data/chunk_index"], "file_index": row["data/file_index"]}
        return self.path / self.info["data_path"].format(**place)

    def _video_path(self, key: str, row: dict[str, Any]) -> Path:
        place = {name: row[f"videos/{key}/{name}"] for name in ("chunk_index", "file_index")}
        return self.path / (self.info.get("video_path") or layout.VIDEO).format(video_key=key, **place)

    def _check_data(self) -> None:
        needed = set(self._columns)
        frames: dict[Path, int] = {}
        for row in self._episodes:
            frames[self._data_path(row)] = frames.get(self._data_path(row), 0) + row["length"]
        for path, expected in frames.items():
            with _opened(path) as file:
                missing = needed - set(file.schema_arrow.names)
                if missing:
                    raise VlaError(f"{path} lacks {', '.join(sorted(missing))}; {_RESTORE}")
                if file.metadata.num_rows < expected:
                    raise VlaError(f"{path} has {file.metadata.num_rows} of {expected} frames; {_RESTORE}")

    def _check_videos(self) -> None:
        ends: dict[Path, float] = {}
        for row in self._episodes:
            for key in self._video_keys:
                path = self._video_path(key, row)
                end = row[f"videos/{key}/from_timestamp"] * self.info["fps"] + row["length"]
                ends[path] = max(ends.get(path, 0.0), end)
        for path, end in ends.items():
            found = video_files.num_frames(path)
            if 0 < found < round(end):  # 0: containers that do not say
                raise VlaError(f"video {path} has {found} of {round(end)} frames; {_RESTORE}")

    def _table(self, path: Path) -> pa.Table:
        """One data file, kept until another is asked for: episodes of a file are usually read one after the other."""
        if self._cached is None or self._cached[0] != path:
            self._cached = (path, _read(path, self._columns))
        return self._cached[1]

    def _images(self, key: str, row: dict[str, Any], rows: pa.Table) -> npt.NDArray[np.uint8]:
        if key in self._video_keys:
            start = row[f"videos/{key}/from_timestamp"]
            return video_files.read_frames(self._video_path(key, row), start, row["length"], self.info["fps"])
        owner = f"{self._data_path(row)} column {key}"
        return np.stack([decode_image(cell["bytes"] or b"", owner) for cell in rows[key].to_pylist()])


def _opened(path: Path) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(path)
    except FileNotFoundError as error:
        raise VlaError(f"{path} is missing; {_RESTORE}") from error
    except (OSError, pa.ArrowException) as error:
        raise VlaError(f"{path} is damaged or truncated; {_RESTORE}") from error


def _read(path: Path, names: list[str] | None = None, leave_out: str | None = None) -> pa.Table:
    """A whole parquet file, or some columns of it; `leave_out` is the start of unwanted names."""
    with _opened(path) as file:
        if leave_out is not None:
            names = [name for name in file.schema_arrow.names if not name.startswith(leave_out)]
        try:
            return file.read(columns=names)
        except (OSError, pa.ArrowException) as error:
            raise VlaError(f"{path} is damaged; {_RESTORE}") from error


def _matrix(column: pa.ChunkedArray) -> npt.NDArray[np.float32]:
    """A column of lists, or of single numbers, as (T, D)."""
    values = column.combine_chunks()
    flat = values.flatten() if pa.types.is_nested(values.type) else values
    return flat.to_numpy(zero_copy_only=False).astype(np.float32).reshape(len(values), -1)
