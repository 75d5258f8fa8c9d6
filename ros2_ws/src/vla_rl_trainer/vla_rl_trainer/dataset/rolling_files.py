"""The files of a dataset under writing: episodes go into one until it is full, then into the next."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from vla_policy.errors import VlaError
from vla_rl_trainer.dataset import layout, video_files

_MB = 2**20


class DataFiles:
    """The parquet files, one row group an episode."""

    def __init__(self, root: Path, schema: pa.Schema) -> None:
        self._root, self._schema = root, schema
        self._number = -1
        self._file: pq.ParquetWriter | None = None

    def append(self, columns: dict[str, Any]) -> dict[str, int]:
        """Write one episode; returns where it went, as columns of the episode table."""
        file = self._file
        if file is None:
            self._number += 1
            self._path = self._root / layout.DATA.format(**_place(self._number))
            self._path.parent.mkdir(parents=True, exist_ok=True)
            file = self._file = pq.ParquetWriter(self._path, self._schema)
        arrays = [_to_arrow(columns[field.name], field.type) for field in self._schema]
        file.write_table(pa.Table.from_arrays(arrays, schema=self._schema))
        if self._path.stat().st_size >= layout.DATA_FILE_MB * _MB:
            self.close()
        return {f"data/{name}": value for name, value in _place(self._number).items()}

    def close(self) -> None:
        """Write the footer."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def abandon(self) -> None:
        """Let go of the file after an error."""
        try:
            self.close()
        except OSError:
            self._file = None  # the disk that caused the error is still full


class VideoFiles:
    """The mp4 files of one camera."""

    def __init__(self, root: Path, key: str, fps: float, height: int, width: int) -> None:
        self._root, self._key, self._fps, self._sides = root, key, fps, (height, width)
        self._number = -1
        self._file: video_files.VideoFile | None = None

    def append(self, images_THW3: npt.NDArray[np.uint8]) -> dict[str, Any]:
        """Encode one episode; returns where it went, as columns of the episode table."""
        if self._file is None:
            self._number += 1
            path = self._root / layout.VIDEO.format(video_key=self._key, **_place(self._number))
            self._file = video_files.VideoFile(path, self._fps, *self._sides)
        start = self._file.num_frames
        self._file.append(images_THW3)
        place: dict[str, Any] = {
            **_place(self._number),
            "from_timestamp": start / self._fps,
            "to_timestamp": self._file.num_frames / self._fps,
        }
        if self._file.size >= layout.VIDEO_FILE_MB * _MB:
            self.close()
        return {f"videos/{self._key}/{name}": value for name, value in place.items()}

    def close(self) -> None:
        """Finish the file and make sure that all frames arrived."""
        if self._file is not None:
            self._file.close()
            written, expected = video_files.num_frames(self._file.path), self._file.num_frames
            self._file = None
            if written != expected:
                raise VlaError(f"camera {self._key}: only {written} of {expected} frames were stored; record it again")

    def abandon(self) -> None:
        """Let go of the file after an error."""
        if self._file is not None:
            self._file.abandon()
            self._file = None


def _place(number: int) -> dict[str, int]:
    chunk, file = divmod(number, layout.FILES_PER_CHUNK)
    return {"chunk_index": chunk, "file_index": file}


def _to_arrow(values: Any, kind: pa.DataType) -> pa.Array:
    if isinstance(values, np.ndarray) and values.ndim == 2:
        return pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), values.shape[1])
    return pa.array(values, type=kind)
