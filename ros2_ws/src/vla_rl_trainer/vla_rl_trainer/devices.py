"""Where networks run, and on how many cores simulations do."""

from __future__ import annotations

import os

import torch

from vla_policy.allocator import keep_freed_memory
from vla_rl_trainer import ranks


def pick_device() -> torch.device:
    """The first GPU when there is one (of several processes, each takes its own), else the CPU, which keeps memory."""
    if torch.cuda.is_available():
        return torch.device("cuda", ranks.here().local)
    keep_freed_memory()
    return torch.device("cpu")


def share_cores(num_workers: int | None) -> int | None:
    """Simulation processes of this process: as many as asked for, else its share of the cores; None: one a core."""
    here = ranks.here()
    if num_workers is not None or here.local_count == 1:
        return num_workers
    return max(1, len(os.sched_getaffinity(0)) // here.local_count)
