"""What worlds cost in a device's memory, known before they are asked for."""

from __future__ import annotations

import functools

import torch
import warp as wp

from piper_twin.compiled_task import CompiledTask, compiled_task
from piper_twin.mjwarp.device import WarpConfig
from piper_twin.mjwarp.physics import bytes_of, make_data
from piper_twin.robot import DUAL_PIPER
from vla_policy.errors import VlaError

SHARE = 0.9
"""Of the free memory may go to worlds; graphs and the allocators want some too."""
COMPANIONS = 2.0
"""Times a world's own bytes that it needs while it is stepped: what mujoco_warp allocates within a step, and copies."""


@functools.cache
def bytes_per_world(task: str, config: WarpConfig) -> int:
    """Memory that one more world of a task takes: state, working space of the physics, and its images [B]."""
    with wp.ScopedDevice("cpu"):
        two, one = (bytes_of(make_data(compiled_task(task).model, count, config)) for count in (2, 1))
    camera = DUAL_PIPER.cameras[0]
    images = len(DUAL_PIPER.cameras) * camera.height * camera.width * 3
    return two - one + images


def require_memory(compiled: CompiledTask, num_worlds: int, config: WarpConfig, device: torch.device) -> None:
    """Refuse more worlds than the device has memory for.

    Raises:
        VlaError: says how many would fit.
    """
    if device.type != "cuda":
        return
    free, _ = torch.cuda.mem_get_info(device)
    each = round(COMPANIONS * bytes_per_world(compiled.task.name, config))
    fitting = int(SHARE * free) // each
    if num_worlds > fitting:
        raise VlaError(
            f"{num_worlds} worlds of {compiled.task.name} need about {num_worlds * each / 2**30:.1f} GiB, "
            f"{device} has {free / 2**30:.1f} GiB free: {fitting} would fit; give fewer --num-slots"
        )
