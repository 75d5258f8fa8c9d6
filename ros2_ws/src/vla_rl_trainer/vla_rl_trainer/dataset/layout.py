"""Names, paths and types of LeRobotDataset v3.0, plus the little of our own that rides along.

    meta/info.json              features, counts, path templates
    meta/stats.json             statistics of every feature
    meta/tasks.parquet          instruction -> task_index
    meta/episodes/chunk-*/      one row an episode: where its rows and video frames lie; ours: success, seed, task_name
    meta/embodiment.json        ours: the robot (`vla_policy.embodiment`)
    data/chunk-*/file-*.parquet one row a frame
    videos/<key>/chunk-*/file-*.mp4

A file holds many episodes; a new one is begun at 100 MB (data) and 200 MB (video), a new chunk at 1,000 files.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from vla_policy.embodiment import Embodiment

VERSION = "v3.0"
INFO = "meta/info.json"
STATS = "meta/stats.json"
TASKS = "meta/tasks.parquet"
EMBODIMENT = "meta/embodiment.json"
EPISODES = "meta/episodes/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
DATA = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
VIDEO = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"

STATE = "observation.state"
ACTION = "action"
IMAGE_PREFIX = "observation.images."

FILES_PER_CHUNK = 1000
DATA_FILE_MB = 100
VIDEO_FILE_MB = 200

_COUNTERS: dict[str, str] = {
    "timestamp": "float32",
    "frame_index": "int64",
    "episode_index": "int64",
    "index": "int64",
    "task_index": "int64",
}
_IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def partial_folder(path: Path) -> Path:
    """Hidden folder in which the dataset at `path` is written until it is whole."""
    return path.absolute().with_name(f".{path.name}.partial")


def is_unfinished(path: Path) -> bool:
    """True when a running or killed writer is all there is at `path`, or when what it left was moved there."""
    if not path.exists():
        return partial_folder(path).exists()
    begun = (path / "data" / "chunk-000").exists() and not (path / "meta").exists()  # copying may lose hidden files
    return begun or (path / ".lock").exists()


def image_key(camera: str) -> str:
    """Feature name of a camera."""
    return IMAGE_PREFIX + camera


def camera_name(key: str) -> str:
    """Camera of a feature name; public data also has plain "observation.image"."""
    return key.removeprefix(IMAGE_PREFIX).removeprefix("observation.")


def frame_rate(control_period: float) -> int | float:
    """Frames a second, whole where it can be: LeRobot's own type is int."""
    rate = 1.0 / control_period
    return round(rate) if abs(rate - round(rate)) < 1e-6 else rate


def features(
    embodiment: Embodiment, image_shapes: Mapping[str, tuple[int, int, int]], video: bool
) -> dict[str, dict[str, Any]]:
    """The feature table of info.json.

    Args:
        embodiment: Names of joints and cameras.
        image_shapes: Camera name to (H, W, 3).
        video: True for mp4, False for PNG in the parquet files.
    """
    rate = frame_rate(embodiment.control_period)
    joints = {"dtype": "float32", "shape": [embodiment.num_joints], "names": list(embodiment.joint_names)}
    table: dict[str, dict[str, Any]] = {STATE: joints, ACTION: dict(joints)}
    for camera, (height, width, channels) in image_shapes.items():
        entry: dict[str, Any] = {
            "dtype": "video" if video else "image",
            "shape": [height, width, channels],
            "names": ["height", "width", "channels"],
        }
        if video:
            entry["info"] = {
                "video.height": height,
                "video.width": width,
                "video.channels": channels,
                "video.codec": "h264",
                "video.pix_fmt": "yuv420p",
                "video.is_depth_map": False,
                "video.fps": rate,
                "has_audio": False,
            }
        table[image_key(camera)] = entry
    return {**table, **{name: {"dtype": kind, "shape": [1], "names": None} for name, kind in _COUNTERS.items()}}


def data_schema(table: Mapping[str, Mapping[str, Any]]) -> pa.Schema:
    """Columns of the data files; videos have none."""
    fields = []
    for name, feature in table.items():
        if feature["dtype"] == "image":
            fields.append((name, _IMAGE))
        elif name in _COUNTERS:
            fields.append((name, pa.type_for_alias(_COUNTERS[name])))
        elif feature["dtype"] != "video":
            fields.append((name, pa.list_(pa.float32(), feature["shape"][0])))
    return pa.schema(fields)


def info(embodiment: Embodiment, table: Mapping[str, Any], counts: Mapping[str, int], video: bool) -> dict[str, Any]:
    """Content of info.json.

    Args:
        embodiment: The robot.
        table: From `features`.
        counts: total_episodes, total_frames, total_tasks.
        video: True when there are mp4 files.
    """
    return {
        "codebase_version": VERSION,
        "robot_type": embodiment.name,
        **counts,
        "chunks_size": FILES_PER_CHUNK,
        "data_files_size_in_mb": DATA_FILE_MB,
        "video_files_size_in_mb": VIDEO_FILE_MB,
        "fps": frame_rate(embodiment.control_period),
        "splits": {"train": f"0:{counts['total_episodes']}"},
        "data_path": DATA,
        "video_path": VIDEO if video else None,
        "features": dict(table),
    }


def task_table(tasks: list[str]) -> pa.Table:
    """Instruction and number; the metadata makes pandas, which LeRobot reads it with, use the text as the index."""
    pandas = {
        "index_columns": ["task"],
        "column_indexes": [],
        "columns": [
            {"name": "task_index", "field_name": "task_index", "pandas_type": "int64", "numpy_type": "int64"},
            {"name": "task", "field_name": "task", "pandas_type": "unicode", "numpy_type": "object"},
        ],
        "pandas_version": "2.0.0",
    }
    table = pa.table({"task_index": pa.array(range(len(tasks)), pa.int64()), "task": pa.array(tasks, pa.string())})
    return table.replace_schema_metadata({"pandas": json.dumps(pandas)})


def episode_table(rows: list[dict[str, Any]]) -> pa.Table:
    """Content of meta/episodes: one row an episode."""
    kinds = {"seed": pa.int64()}
    return pa.table({name: pa.array([row[name] for row in rows], kinds.get(name)) for name in rows[0]})
