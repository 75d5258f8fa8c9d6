"""Whether weights fit, asked before they are read: a machine that swaps or kills says nothing helpful."""

from __future__ import annotations

from pathlib import Path

import torch

from vla_policy.errors import VlaError

_GB = 1e9


def require(num_bytes: int, device: torch.device, dtype: torch.dtype, owner: str) -> None:
    """Refuse weights that do not fit on `device`.

    Raises:
        VlaError: says how much is missing and what to do.
    """
    free = available(device)
    if num_bytes <= free:
        return
    kind = str(dtype).removeprefix("torch.")
    remedy = (
        "close what else runs on that GPU, or choose a larger one"
        if device.type == "cuda"
        else "close other programs, or load it on a GPU (device 'cuda')"
    )
    if dtype == torch.float32:
        remedy += "; bfloat16 would need half: VLA_POLICY_PRECISION=bfloat16"
    raise VlaError(
        f"{owner} needs {num_bytes / _GB:.1f} GB of memory as {kind} on device '{device}', {free / _GB:.1f} GB are "
        f"free; {remedy}"
    )


def available(device: torch.device) -> int:
    """Memory that can be had on a device [bytes]."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    limits = [_meminfo(Path("/proc/meminfo")), _cgroup(Path("/sys/fs/cgroup"))]
    return min((limit for limit in limits if limit is not None), default=2**62)


def _meminfo(path: Path) -> int | None:
    if not path.exists():
        return None
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return None


def _cgroup(folder: Path) -> int | None:
    """What a container may still take; files it has read count as free, they give way."""
    try:
        limit = (folder / "memory.max").read_text(encoding="utf-8").strip()
        used = int((folder / "memory.current").read_text(encoding="utf-8"))
        counted = (folder / "memory.stat").read_text(encoding="utf-8").splitlines()
        cached = sum(int(line.split()[1]) for line in counted if line.startswith(("inactive_file ", "active_file ")))
        return None if limit == "max" else int(limit) - used + cached
    except (OSError, ValueError):
        return None
