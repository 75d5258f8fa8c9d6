"""One recorded episode: what was seen, what was sent, how it ended."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from vla_policy.errors import VlaError

# T = frames, S = state, A = action


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class EpisodeData:
    """An episode of T frames, one a control period."""

    images: Mapping[str, npt.NDArray[np.uint8]]
    """Camera name to RGB images, uint8 (T, H, W, 3)."""
    state: npt.NDArray[np.float32]
    """Measured joint positions [rad], grippers [m], float32 (T, S)."""
    action: npt.NDArray[np.float32]
    """Absolute joint targets really sent after each frame [rad], grippers [m], float32 (T, A)."""
    instruction: str
    success: bool
    seed: int | None
    """What the world was made from; None on a real robot or in public data."""
    task: str
    """Name of the task ("click_bell"); the instruction where no name is known."""

    def __len__(self) -> int:
        """Number of frames T."""
        return len(self.state)

    def validate(self) -> None:
        """Refuse arrays that do not fit together or hold values that are not finite.

        Raises:
            VlaError: names the array and what is wrong with it.
        """
        if not len(self):
            raise VlaError("an episode needs at least one frame; discard empty recordings")
        for name, values in (("state", self.state), ("action", self.action)):
            if values.ndim != 2 or len(values) != len(self):
                raise VlaError(f"{name} must have shape ({len(self)}, joints), got {values.shape}")
            if not np.isfinite(values).all():
                raise VlaError(f"{name} holds values that are not finite; discard the episode")
        for camera, images in self.images.items():
            if images.dtype != np.uint8 or images.ndim != 4 or images.shape[-1] != 3 or len(images) != len(self):
                raise VlaError(
                    f"images of camera {camera} must be uint8 ({len(self)}, H, W, 3), got {images.dtype} {images.shape}"
                )
