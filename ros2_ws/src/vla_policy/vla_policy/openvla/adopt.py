"""Say once how a published folder is to be read: `python -m vla_policy.openvla.adopt FOLDER --embodiment robot.json`.

Checks everything about the folder that can be checked without reading its weights, then writes `embodiment.json` and
`reading.json` beside them. From then on it is a checkpoint like any other: `VlaPolicy.load(FOLDER)`.
"""

from __future__ import annotations

import dataclasses
import os
import sys
from pathlib import Path
from typing import Literal

import tyro

from vla_policy import checkpoint
from vla_policy.action_frame import ActionFrame
from vla_policy.embodiment import Embodiment
from vla_policy.errors import VlaError
from vla_policy.normalization import Scheme
from vla_policy.openvla import folder as published
from vla_policy.openvla import reading
from vla_policy.openvla.config import LIBERO_IMAGES, ROBOTWIN_IMAGES, ImagePipeline
from vla_policy.openvla.reading import Reading

_IMAGES = {"libero": LIBERO_IMAGES, "robotwin": ROBOTWIN_IMAGES, "scaled": ImagePipeline(lanczos=True)}


@dataclasses.dataclass(frozen=True, kw_only=True)
class AdoptConfig:
    """Say once how a published folder is to be read; what is left out is as usual for actions of its size."""

    folder: tyro.conf.Positional[Path]
    """The published folder."""
    embodiment: Path
    """embodiment.json of the robot it moves."""
    cameras: tuple[str, ...] = ()
    """Cameras of that robot that the network reads. Usual: the first for checkpoints of tokens, all for L1."""
    statistics: str | None = None
    """Data set to un-normalise with, such as libero_spatial; not needed where there is only one."""
    chunk_length: int | None = None
    """Steps in a chunk. Usual: 8 for 7 actions, 25 for 14."""
    normalisation: Scheme | None = None
    """Usual: bounds_q99 for 7 actions, bounds for 14."""
    images: Literal["usual", "libero", "robotwin", "scaled"] = "usual"
    """What is done to images: JPEG, Lanczos and crop; crop alone; scaling alone."""
    rotate_180: bool = False
    """Turn images that hang upside down, as LIBERO's own do; those of our LIBERO stand upright."""
    action_frame: ActionFrame = "absolute"
    """'libero' for a robot whose gripper is LIBERO's, which counts the other way round than its data."""


def adopt(config: AdoptConfig) -> Reading:
    """Check a folder and write how it is to be read.

    Raises:
        VlaError: the folder is damaged, or does not fit the robot; nothing was written then.
    """
    folder = config.folder
    try:
        robot = Embodiment.from_json(config.embodiment.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise VlaError(
            f"{config.embodiment} cannot be read ({error}); give the embodiment.json of the robot"
        ) from error
    if not published.is_published(folder):
        raise VlaError(f"{folder} is no folder of OpenVLA's: its config.json does not say model_type 'openvla'")
    found = published.survey(folder, robot, _reading(robot, config))
    found.require_fitting()
    how = published.reading_of(found.config)
    for name, text in ((checkpoint.EMBODIMENT, robot.to_json()), (reading.FILE, how.to_json())):
        fresh = folder / f".{name}.new"
        fresh.write_text(text, encoding="utf-8")
        os.replace(fresh, folder / name)
    return how


def _reading(robot: Embodiment, config: AdoptConfig) -> Reading:
    if unknown := set(config.cameras) - set(robot.camera_names):
        raise VlaError(f"the robot has no camera {', '.join(sorted(unknown))}; it has {', '.join(robot.camera_names)}")
    stated = {
        "camera_names": config.cameras,
        "statistics_key": config.statistics,
        "chunk_length": config.chunk_length,
        "normalisation": config.normalisation,
        "action_frame": config.action_frame,
    }
    head = "l1" if any(config.folder.glob("action_head--*.pt")) else "tokens"
    if config.chunk_length and config.normalisation and config.images != "usual":
        usual = Reading(
            camera_names=robot.camera_names[:1] if head == "tokens" else robot.camera_names,
            chunk_length=config.chunk_length,
            normalisation=config.normalisation,
            images=_IMAGES[config.images],
        )
    else:
        usual = reading.usual(robot, head)
    images = dataclasses.replace(_IMAGES.get(config.images, usual.images), rotate_180=config.rotate_180)
    return dataclasses.replace(usual, images=images, **{name: value for name, value in stated.items() if value})


def main(config: AdoptConfig) -> int:
    """Run `adopt` and say what was written."""
    try:
        how = adopt(config)
    except VlaError as error:
        print(error, file=sys.stderr)
        return 2
    cameras = ", ".join(how.camera_names)
    print(f"{config.folder} reads {cameras}, {how.chunk_length} steps a chunk, un-normalised by '{how.statistics_key}'")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(tyro.cli(AdoptConfig)))
