"""Where networks run."""

from __future__ import annotations

import torch

from vla_policy.allocator import keep_freed_memory


def pick_device() -> torch.device:
    """The first GPU when there is one, else the CPU, with memory kept between passes."""
    if torch.cuda.is_available():
        return torch.device("cuda", 0)
    keep_freed_memory()
    return torch.device("cpu")
