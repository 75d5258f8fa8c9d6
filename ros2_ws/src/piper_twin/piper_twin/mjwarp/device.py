"""Which backend steps the worlds, and where: one line for whoever lacks what it needs."""

from __future__ import annotations

import dataclasses
import functools
import importlib.util
import sys
from pathlib import Path
from typing import Literal, get_args

import torch

from vla_policy.errors import VlaError

Backend = Literal["auto", "mujoco", "warp", "mixed"]

INSTALL = 'pip install -c constraints.txt -e ".[warp]"'


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class WarpConfig:
    """How mujoco_warp runs; the worlds themselves are told by `TwinConfig`."""

    device: str = "auto"
    """cuda:0 and so on, or cpu, which is slow and for tests; auto is the first GPU."""
    contacts_per_world: int = 64
    """Room for contacts and pairs that are near each other, shared by all worlds."""
    constraints_per_world: int = 192
    """Room for rows of the contact solver in each world."""
    kernel_cache: Path | None = None
    """Folder of the compiled kernels; WARP_CACHE_PATH, else the user's cache by default."""

    def __post_init__(self) -> None:
        """Refuse buffers that hold nothing."""
        if self.contacts_per_world < 1 or self.constraints_per_world < 1:
            raise VlaError("contacts_per_world and constraints_per_world count from 1; give at least 1 of each")


WARP_MAY_DIFFER = tuple(f"warp.{field.name}" for field in dataclasses.fields(WarpConfig))
"""Fields of a command with a `warp: WarpConfig` that change nothing about its results."""


def require_backend(wanted: str) -> Backend:
    """Refuse a backend that there is not.

    Raises:
        VlaError: says which there are.
    """
    for backend in get_args(Backend):
        if backend == wanted:
            return backend
    raise VlaError(f"backend {wanted!r} does not exist; choose one of {', '.join(get_args(Backend))}")


def choose_backend(wanted: str) -> Literal["mujoco", "warp"]:
    """What steps the twin's worlds: auto takes mujoco_warp where CUDA is there, else MuJoCo on the CPU, and says so.

    Raises:
        VlaError: there is no such backend, or warp was asked for and is not installed.
    """
    if require_backend(wanted) == "mixed":
        raise VlaError("backend mixed is for GRPO, which samples on both; choose mujoco or warp here")
    if wanted == "mujoco":
        return "mujoco"
    if wanted == "warp":
        require_warp()
        return "warp"
    missing = "no CUDA device" if not torch.cuda.is_available() else None if is_installed() else "no mujoco_warp"
    if missing is None:
        return "warp"
    _say_once(f"backend auto: {missing} here, so MuJoCo steps the twin on the CPU")
    return "mujoco"


def is_installed() -> bool:
    """Whether Warp and mujoco_warp can be imported."""
    return all(importlib.util.find_spec(name) for name in ("warp", "mujoco_warp"))


def require_warp() -> None:
    """Refuse to go on without mujoco_warp.

    Raises:
        VlaError: says how to install it.
    """
    if not is_installed():
        raise VlaError(f"backend warp needs mujoco_warp; install it with {INSTALL}, or choose --backend mujoco")


def find_device(wanted: str) -> torch.device:
    """Where mujoco_warp runs.

    Raises:
        VlaError: there is no such device.
    """
    if wanted == "cpu":
        return torch.device("cpu")
    if wanted != "auto" and not wanted.startswith("cuda"):
        raise VlaError(f"device {wanted!r} does not exist; give cuda:0, cpu or auto")
    number = int(wanted.partition(":")[2] or 0) if wanted[-1:].isdigit() or wanted in ("auto", "cuda") else -1
    if not torch.cuda.is_available():
        raise VlaError(
            "mujoco_warp found no CUDA device (see nvidia-smi, and that torch.version.cuda is not None); "
            "choose --backend mujoco, or --device cpu for a slow but correct run"
        )
    if not 0 <= number < torch.cuda.device_count():
        raise VlaError(
            f"there is no device {wanted!r}; this machine has cuda:0 to cuda:{torch.cuda.device_count() - 1}"
        )
    return torch.device("cuda", number)


@functools.cache
def _say_once(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
