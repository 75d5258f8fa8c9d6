"""Running every kernel once, so that it is compiled."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from piper_twin.episode import Episode
from piper_twin.mjwarp.device import WarpConfig
from piper_twin.mjwarp.worlds import WarpWorlds
from piper_twin.worlds import TwinConfig


def build_kernels(tasks: Sequence[str], device: str) -> None:
    """Step and draw one world of each task.

    Raises:
        VlaError: a task or the device does not exist.
    """
    for task in tasks:
        worlds = WarpWorlds(1, TwinConfig(), WarpConfig(device=device))
        worlds.reset([0], [Episode(task, 0)])
        worlds.step_chunk([0], worlds.world(0).command[None, None])
        worlds.look([0])
        worlds.close()
        print(f"{task}: done", file=sys.stderr, flush=True)
