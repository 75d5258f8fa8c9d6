"""Where images come from: V4L2 devices, video files, folders of images. The only module that knows OpenCV."""

from __future__ import annotations

import dataclasses
import itertools
import os
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

import numpy as np
from PIL import Image as PillowImage

from piper_bringup.cameras.config import CameraConfig
from piper_bringup.pacing import Deadlines
from vla_policy.errors import VlaError
from vla_policy.types import Image

_OLDEST = 1.0
"""A kernel's stamp that is older than this is by another clock [s]."""
_IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg")


class CameraLost(VlaError):
    """A source cannot be opened, or gives no more images."""


@dataclasses.dataclass(frozen=True, slots=True)
class Frame:
    """One image."""

    image: Image
    """RGB, shape (height, width, 3)."""
    time: float
    """When it was taken, or as near to it as the source can tell [s], monotonic."""


class Source(Protocol):
    """Something open that gives images."""

    def read(self) -> Frame:
        """Wait for the next image.

        Raises:
            CameraLost: there will be none.
        """
        ...

    def close(self) -> None:
        """Let the device go."""
        ...


def open_source(config: CameraConfig) -> Source:
    """Open what `config.source` names: a device, a folder of images, or a video file.

    Raises:
        CameraLost: it is not there, or not as asked for.
        VlaError: OpenCV is missing.
    """
    path = Path(config.source)
    try:
        kind = path.stat().st_mode
    except OSError as error:
        raise CameraLost(f"{path} is not there; connect it, or correct `source` in the cameras' file") from error
    if stat.S_ISDIR(kind):
        return PlayedSource(_folder_images(path), config.rate)
    if stat.S_ISCHR(kind):
        return DeviceSource(config)
    return PlayedSource(_video_images(path), config.rate)


def _opencv() -> ModuleType:
    # Seconds until reading from a device that went silent gives up; OpenCV's own 10 s are long for a robot.
    os.environ.setdefault("OPENCV_VIDEOIO_V4L_SELECT_TIMEOUT", "2")
    try:
        import cv2
    except ImportError as error:
        raise VlaError(
            "cameras need OpenCV; pip install 'opencv-python-headless>=4.10' or apt install python3-opencv"
        ) from error
    return cv2


class DeviceSource:
    """A V4L2 device, as Motion JPEG where it can: three cameras of uncompressed images fill a USB bus."""

    def __init__(self, config: CameraConfig) -> None:
        """Open the device with the size and rate asked for.

        Raises:
            CameraLost: it does not open, or gives another size.
        """
        cv2: Any = _opencv()
        self._name = config.source
        self._cv2: Any = cv2
        self._capture: Any = cv2.VideoCapture(config.source, cv2.CAP_V4L2)
        if not self._capture.isOpened():
            raise CameraLost(f"{config.source} does not open; close what else uses it (fuser -v {config.source})")
        self._capture.set(cv2.CAP_PROP_FOURCC, cv2.VideoWriter.fourcc(*"MJPG"))
        self._capture.set(cv2.CAP_PROP_FRAME_WIDTH, config.width)
        self._capture.set(cv2.CAP_PROP_FRAME_HEIGHT, config.height)
        self._capture.set(cv2.CAP_PROP_FPS, config.rate)
        width, height = (round(self._capture.get(key)) for key in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT))
        if (width, height) != (config.width, config.height):
            self.close()
            raise CameraLost(
                f"{config.source} gives {width} x {height} px instead of {config.width} x {config.height}; choose a "
                f"size it has (v4l2-ctl -d {config.source} --list-formats-ext)"
            )

    def read(self) -> Frame:
        """Wait for the next image.

        Raises:
            CameraLost: the device is gone or went silent.
        """
        if not self._capture.grab():
            raise CameraLost(f"{self._name} gives no images; check its cable")
        now = time.monotonic()
        taken = self._capture.get(self._cv2.CAP_PROP_POS_MSEC) / 1000.0  # the kernel's stamp, by the same clock
        is_whole, bgr = self._capture.retrieve()
        if not is_whole:
            raise CameraLost(f"{self._name} gives broken images; check its cable")
        image: Image = self._cv2.cvtColor(bgr, self._cv2.COLOR_BGR2RGB)
        return Frame(image, taken if 0.0 <= now - taken < _OLDEST else now)

    def close(self) -> None:
        """Let the device go."""
        self._capture.release()


class PlayedSource:
    """Images of a file or folder at a fixed rate."""

    def __init__(self, images: Iterator[Image], rate: float) -> None:
        """Play `images` at `rate` [Hz]."""
        self._images = images
        self._deadlines = Deadlines(time.monotonic(), 1.0 / rate)

    def read(self) -> Frame:
        """Wait for the next image's turn.

        Raises:
            CameraLost: there is no next one.
        """
        time.sleep(max(0.0, self._deadlines.next - time.monotonic()))
        image = next(self._images, None)
        if image is None:
            raise CameraLost("the recording has ended")
        now = time.monotonic()
        self._deadlines.passed(now)
        return Frame(image, now)

    def close(self) -> None:
        """Nothing is held that the end of this object does not free."""


def _folder_images(folder: Path) -> Iterator[Image]:
    files = sorted(path for path in folder.iterdir() if path.suffix.lower() in _IMAGE_SUFFIXES)
    if not files:
        raise CameraLost(f"{folder} holds no images ({', '.join(_IMAGE_SUFFIXES)})")
    return map(_load, itertools.cycle(files))


def _load(path: Path) -> Image:
    try:
        return np.asarray(PillowImage.open(path).convert("RGB"))
    except OSError as error:
        raise CameraLost(f"{path} is no image ({error}); take it out of the folder") from error


def _video_images(path: Path) -> Iterator[Image]:
    cv2: Any = _opencv()
    capture: Any = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)
    if not capture.isOpened() or not capture.grab():
        raise CameraLost(f"{path} is no video that OpenCV can read")
    return _played_over_and_over(cv2, capture)


def _played_over_and_over(cv2: Any, capture: Any) -> Iterator[Image]:
    while True:
        capture.set(cv2.CAP_PROP_POS_FRAMES, 0)
        is_there, bgr = capture.read()
        if not is_there:
            return
        while is_there:
            yield cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)
            is_there, bgr = capture.read()
