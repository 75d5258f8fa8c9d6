"""What a published folder does not say of itself: which robot it moves, through which images, in chunks of what length.

Its own code takes this from environment variables and command lines. Here it is a value, kept as `reading.json` (and
`embodiment.json`) beside the weights: written by `adopt`, and by us with every checkpoint. A folder without it is read
as the published ones of its action size are.
"""

from __future__ import annotations

import dataclasses
import json
from typing import Any

from vla_policy.action_frame import ActionFrame
from vla_policy.config import Decoding
from vla_policy.embodiment import Embodiment
from vla_policy.errors import VlaError
from vla_policy.normalization import Scheme
from vla_policy.openvla.config import LIBERO_IMAGES, ROBOTWIN_IMAGES, ActionHead, ImagePipeline

FILE = "reading.json"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """How a published folder is to be read."""

    camera_names: tuple[str, ...]
    """Of the embodiment's, those the network reads, in its order."""
    chunk_length: int
    """Steps in an action chunk (K)."""
    normalisation: Scheme
    images: ImagePipeline
    statistics_key: str | None = None
    """Data set to un-normalise with; None: the only one there is."""
    action_frame: ActionFrame = "absolute"
    """'libero' where the robot's gripper is LIBERO's; 'relative' only in checkpoints of ours."""
    decoding: Decoding = "argmax"

    def __post_init__(self) -> None:
        """Refuse what makes no sense."""
        if self.chunk_length < 1 or not self.camera_names:
            raise VlaError(
                f"{FILE}: a chunk of {self.chunk_length} steps from cameras {self.camera_names}; at least one of each"
            )

    def to_json(self) -> str:
        """The text stored as `reading.json`."""
        return json.dumps(dataclasses.asdict(self), indent=2)

    @staticmethod
    def from_json(text: str) -> Reading:
        """Read what `to_json` wrote.

        Raises:
            VlaError: the text is no reading.
        """
        try:
            fields: dict[str, Any] = json.loads(text)
            images = ImagePipeline.from_dict(fields.pop("images"))
            return Reading(camera_names=tuple(fields.pop("camera_names")), images=images, **fields)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise VlaError(f"{FILE} cannot be read ({error}); write it again with vla_policy.openvla.adopt") from error


def usual(robot: Embodiment, action_head: ActionHead) -> Reading:
    """How published checkpoints of a robot's action size are read.

    Those that regress were trained with all cameras, those of tokens with the first alone.

    Raises:
        VlaError: none has actions of that size.
    """
    cameras = robot.camera_names if action_head == "l1" else robot.camera_names[:1]
    if robot.num_joints == 7:  # LIBERO: six deltas of the hand, one gripper
        return Reading(camera_names=cameras, chunk_length=8, normalisation="bounds_q99", images=LIBERO_IMAGES)
    if robot.num_joints == 14:  # RoboTwin, ALOHA: two arms of six joints and a gripper
        return Reading(camera_names=cameras, chunk_length=25, normalisation="bounds", images=ROBOTWIN_IMAGES)
    raise VlaError(
        f"no published checkpoint has actions of {robot.num_joints} numbers, so nothing is usual for them; "
        "say how the folder is to be read with vla_policy.openvla.adopt"
    )
