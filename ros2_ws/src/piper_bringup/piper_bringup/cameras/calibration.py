"""What ROS's camera_calibration found out about a camera, and what becomes of it when images are cut and scaled."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import yaml

from vla_policy.embodiment import Camera
from vla_policy.errors import VlaError
from vla_policy.types import Image


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """Lens of one camera at one image size; matrices row by row."""

    width: int
    """[px]."""
    height: int
    """[px]."""
    model: str
    """Of the distortion: plumb_bob, rational_polynomial or equidistant."""
    distortion: tuple[float, ...]
    camera_matrix: tuple[float, ...]
    """K, 3 x 3."""
    rectification: tuple[float, ...]
    """R, 3 x 3."""
    projection: tuple[float, ...]
    """P, 3 x 4."""

    @staticmethod
    def load(path: Path) -> Calibration:
        """Read the YAML file that camera_calibration saved.

        Raises:
            VlaError: it is no such file.
        """
        try:
            found: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
            return Calibration(
                width=int(found["image_width"]),
                height=int(found["image_height"]),
                model=str(found.get("distortion_model", "plumb_bob")),
                distortion=_numbers(found["distortion_coefficients"]),
                camera_matrix=_numbers(found["camera_matrix"], 9),
                rectification=_numbers(found["rectification_matrix"], 9),
                projection=_numbers(found["projection_matrix"], 12),
            )
        except (OSError, ValueError, TypeError, KeyError, AttributeError, yaml.YAMLError) as error:
            raise VlaError(
                f"the calibration {path} cannot be read ({error!r}); save one with "
                "`ros2 run camera_calibration cameracalibrator`"
            ) from error

    def require_size(self, image: Image, camera: str) -> None:
        """Refuse an image of another size than was calibrated.

        Raises:
            VlaError: they differ.
        """
        height, width, _ = image.shape
        if (self.width, self.height) != (width, height):
            raise VlaError(
                f"camera {camera} sends {width} x {height} px but was calibrated at {self.width} x {self.height}; "
                "calibrate it again, or set its size to that"
            )

    def fitted(self, camera: Camera) -> Calibration:
        """Of images that `vla_policy.camera_image.fit_image` made."""
        wanted = round(self.height * camera.width / camera.height)
        left, scale = (self.width - wanted) // 2, camera.height / self.height
        return dataclasses.replace(
            self,
            width=camera.width,
            height=camera.height,
            camera_matrix=_cut(self.camera_matrix, 3, left, scale),
            projection=_cut(self.projection, 4, left, scale),
        )


def _cut(matrix: tuple[float, ...], columns: int, left: int, scale: float) -> tuple[float, ...]:
    """The first two rows of K or P after `left` pixels were cut off and the rest scaled; pixel centres are whole."""
    rows = [list(matrix[start : start + columns]) for start in range(0, len(matrix), columns)]
    for row, cut in ((rows[0], left), (rows[1], 0)):
        centre = (row[2] - cut + 0.5) * scale - 0.5
        row[:] = [value * scale for value in row]
        row[2] = centre
    return tuple(value for row in rows for value in row)


def _numbers(entry: dict[str, Any], count: int | None = None) -> tuple[float, ...]:
    """The data of a matrix as OpenCV writes one."""
    numbers = tuple(float(value) for value in entry["data"])
    if count is not None and len(numbers) != count:
        raise ValueError(f"{len(numbers)} numbers where {count} belong")
    return numbers
