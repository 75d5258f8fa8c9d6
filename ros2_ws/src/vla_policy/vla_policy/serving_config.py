"""How a policy is run beside a robot; the fields are the parameters of the policy node."""

from __future__ import annotations

import dataclasses
from typing import Literal

from vla_policy.errors import VlaError


@dataclasses.dataclass(frozen=True, kw_only=True)
class ServingConfig:
    """How the policy is run."""

    mode: Literal["run", "shadow", "dry_run", "approve"] = "run"
    """run: the robot plays the chunks. shadow: they are shown on /action_chunk/proposed, the robot does not hear them.
    dry_run: they go nowhere, only diagnostics tell of them. approve: each is shown, and played once /policy/approve is
    called."""
    instruction: str = ""
    """What to do until /instruction says otherwise."""
    autostart: bool = False
    """Begin at once, instead of when /policy/run is called."""
    wait_for_chunk: bool = True
    """Look only when the last chunk has been played, as in training; otherwise the next chunk is thought out while the
    last one plays. Approval always waits."""
    fitted_images: bool = False
    """Read image_fitted instead of image_raw: a twentieth of the bytes. camera_node and the twin offer it; other
    drivers do not."""
    settle: float = 0.02
    """Between the end of a chunk and the next look [s]: the robot averages its commands over 0.04 s and arrives half of
    that later. Only when waiting for the chunk."""
    margin: float = 0.02
    """How much sooner than needed the next chunk shall arrive [s]. Only when not waiting for the chunk."""
    max_image_age: float = 0.2
    """Older images are not acted on [s]."""
    max_joint_age: float = 0.1
    """Older joint states are not acted on [s]."""
    approval_timeout: float = 10.0
    """A chunk proposed so long ago is thought out anew [s]."""
    realtime_priority: int = 10
    """Of the threads that take images in and hand chunks on, under SCHED_FIFO, 1 to 89, below the robot's 20; 0:
    ordinary ones. The network's own thread is always ordinary while it thinks. Where the system does not permit it all
    are (the diagnostics tell)."""

    def __post_init__(self) -> None:
        """Refuse what cannot be."""
        for name in ("settle", "margin"):
            if getattr(self, name) < 0.0:
                raise VlaError(f"{name} is {getattr(self, name)}; give 0 or more")
        if not 0 <= self.realtime_priority <= 89:
            raise VlaError(f"realtime_priority is {self.realtime_priority}; it must be 0 to 89")
        for name in ("max_image_age", "max_joint_age", "approval_timeout"):
            if getattr(self, name) <= 0.0:
                raise VlaError(f"{name} is {getattr(self, name)}; give more than 0")

    @property
    def waits(self) -> bool:
        """Whether the robot stands still while the policy thinks."""
        return self.wait_for_chunk or self.mode == "approve"
