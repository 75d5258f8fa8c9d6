"""Which cameras this machine has: one YAML file, read and checked before anything is opened."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, cast

import yaml

from vla_policy.errors import VlaError


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class CameraConfig:
    """Where one camera's images come from."""

    source: str
    """V4L2 device (by path or by id), video file, or folder of images."""
    width: int = 640
    """Asked of a device [px]."""
    height: int = 480
    """Asked of a device [px]."""
    rate: float = 30.0
    """[Hz]."""
    calibration: Path | None = None
    """File that camera_calibration saved."""
    crop: bool = False
    """Publish what the policy reads: the middle of the image, averaged down."""

    def __post_init__(self) -> None:
        """Refuse what no camera has."""
        if not self.source or self.width < 1 or self.height < 1 or not self.rate > 0:
            raise VlaError(f"{self} is no camera; give a source, and a size and rate above 0")


_KINDS: dict[str, tuple[type, ...]] = {
    "source": (str,),
    "width": (int,),
    "height": (int,),
    "rate": (int, float),
    "calibration": (str,),
    "crop": (bool,),
}
"""Key of a camera to the types its value may have."""


def load_cameras(path: Path, known: Collection[str]) -> dict[str, CameraConfig]:
    """The cameras of a file by name.

    Args:
        path: YAML file, one mapping a camera.
        known: Names a camera may have.

    Raises:
        VlaError: the file cannot be read, or says something that is not understood.
    """
    try:
        content: object = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise VlaError(f"the cameras' file {path} cannot be read: {error}") from error
    if not isinstance(content, dict) or not content:
        raise VlaError(f"{path} names no camera; see config/cameras.yaml of piper_bringup for how it is written")
    entries = cast(dict[Any, object], content)
    return {str(name): _camera(str(name), entry, path, known) for name, entry in entries.items()}


def _camera(name: str, entry: object, path: Path, known: Collection[str]) -> CameraConfig:
    if name not in known:
        raise VlaError(f"{path}: the robot has no camera '{name}'; it has {', '.join(known)}")
    if not isinstance(entry, dict) or "source" not in entry:
        raise VlaError(f"{path}: camera {name} has no source; give it a device, a video file or a folder of images")
    values = dict(cast(Mapping[str, Any], entry))
    for key, value in values.items():
        if key not in _KINDS:
            raise VlaError(f"{path}: camera {name} has no setting '{key}'; there are {', '.join(_KINDS)}")
        if type(value) not in _KINDS[key]:
            raise VlaError(f"{path}: {key} of camera {name} is {value!r}; it must be {_KINDS[key][-1].__name__}")
    if "calibration" in values:
        values["calibration"] = path.parent / values["calibration"]
    return CameraConfig(**values)
