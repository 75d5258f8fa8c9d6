"""The mp4 files of a dataset: every camera one stream, episodes one after the other, every second frame a key frame."""

from __future__ import annotations

import contextlib
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
from av.video.reformatter import VideoReformatter

from vla_policy.errors import VlaError

# T = frames, H = height, W = width
Frames = npt.NDArray[np.uint8]
_ENCODER: dict[str, str] = {"crf": "14", "g": "2", "bf": "0", "preset": "veryfast"}
"""Nearly lossless; a key frame every second frame, so that any frame is found by decoding at most two."""
_EXACT_COLOUR = 2 | 1 << 13 | 1 << 14 | 1 << 18
"""libswscale's bilinear, full_chroma_int, full_chroma_inp, accurate_rnd: its quick default darkens every pixel by a
level or more, and a policy trained on such images sees others when it runs."""
_RESTORE = "restore it, or copy the dataset again"


class VideoFile:
    """One mp4 being written."""

    def __init__(self, path: Path, fps: float, height: int, width: int) -> None:
        """Open the file.

        Raises:
            VlaError: a side is odd, which H.264 with 4:2:0 colour cannot hold.
        """
        if height % 2 or width % 2:
            raise VlaError(f"video needs even image sides, got {width} x {height}; use images='image'")
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self.num_frames = 0
        self._container = av.open(str(path), "w")
        self._stream = self._container.add_stream("libx264", rate=Fraction(fps).limit_denominator(1000))
        self._stream.width, self._stream.height, self._stream.pix_fmt = width, height, "yuv420p"
        self._stream.options = dict(_ENCODER)

    def append(self, images_THW3: Frames) -> None:
        """Encode more frames."""
        for image_HW3 in images_THW3:
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image_HW3), format="rgb24")
            self._container.mux(self._stream.encode(frame))
        self.num_frames += len(images_THW3)

    @property
    def size(self) -> int:
        """What the file takes so far [B]; the encoder holds the first frames back."""
        return self.path.stat().st_size if self.path.exists() else 0

    def close(self) -> None:
        """Write what is buffered, and the index."""
        self._container.mux(self._stream.encode())
        self._container.close()

    def abandon(self) -> None:
        """Let go of the file after an error; its content is lost."""
        with contextlib.suppress(OSError, ValueError):  # the disk that caused the error is still full
            self._container.close()


def num_frames(path: Path) -> int:
    """How many frames a video's index lists.

    Raises:
        VlaError: the file is missing, truncated or no video.
    """
    try:
        with av.open(str(path)) as container:
            return container.streams.video[0].frames
    except FileNotFoundError as error:
        raise VlaError(f"video {path} is missing; {_RESTORE}") from error
    except (OSError, ValueError, IndexError) as error:
        raise VlaError(f"video {path} is damaged or truncated; {_RESTORE}") from error


def read_frames(path: Path, start: float, count: int, fps: float) -> Frames:
    """Decode consecutive frames.

    Args:
        path: The mp4 file.
        start: Time of the first frame in the file [s].
        count: Number of frames.
        fps: Frames a second.

    Returns:
        RGB frames (count, H, W, 3).

    Raises:
        VlaError: the file is damaged or ends too early.
    """
    images: list[Frames] = []
    colours = VideoReformatter()
    try:
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            stream.thread_type = "NONE"  # starting threads costs more than such small images take
            container.seek(max(0, int((start - 0.5 / fps) / stream.time_base)), stream=stream)
            for frame in container.decode(stream):
                if frame.time is not None and frame.time > start - 0.5 / fps:
                    exact = colours.reformat(frame, format="rgb24", interpolation=_EXACT_COLOUR)
                    images.append(np.asarray(exact.to_ndarray(), dtype=np.uint8))
                if len(images) == count:
                    break
    except (OSError, ValueError, IndexError) as error:
        raise VlaError(f"video {path} is damaged or missing; {_RESTORE}") from error
    if len(images) != count:
        raise VlaError(f"video {path} ends after {len(images)} of {count} frames; {_RESTORE}")
    return np.stack(images)
