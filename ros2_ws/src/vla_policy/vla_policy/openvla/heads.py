"""The `.pt` files that lie beside OpenVLA-OFT's weights: proprio projector and L1 head.

The only pickles of this project. Two names are known, and they are read with `weights_only=True`, which builds tensors
and nothing else; a folder with any other pickle is refused.
"""

from __future__ import annotations

import dataclasses
import pickle
import re
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from vla_policy.errors import VlaError

_PICKLES = frozenset({".bin", ".ckpt", ".pickle", ".pkl", ".pt", ".pth"})
_KNOWN = re.compile(r"(proprio_projector|action_head)--(\w+)_checkpoint\.pt")
_UNSUPPORTED = {
    "noisy_action_projector": "its action head is a diffusion model",
    "vision_backbone": "its vision towers are modulated by language (FiLM)",
}
_MODULE = "module."
"""What training on several GPUs put before every name."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Heads:
    """Contents of the `.pt` files of one folder."""

    files: Mapping[str, str]
    """File name by what it holds: 'proprio_projector', 'action_head'."""
    tensors: Mapping[str, Tensor]
    """By published name: the kind, a dot, and the name in the file without `module.`."""


def read(folder: Path) -> Heads:
    """Read the known `.pt` files.

    Raises:
        VlaError: there is another pickle, two of a kind, or one that is damaged or holds more than tensors.
    """
    files: dict[str, str] = {}
    tensors: dict[str, Tensor] = {}
    for path in sorted(path for path in folder.rglob("*") if path.suffix in _PICKLES):
        known = _KNOWN.fullmatch(path.name)
        if known is None or path.parent != folder:
            raise VlaError(_why_refused(path))
        kind = known[1]
        if kind in files:
            raise VlaError(f"{folder} has two of a kind, {files[kind]} and {path.name}; keep the one you want to run")
        files[kind] = path.name
        tensors |= {f"{kind}.{name.removeprefix(_MODULE)}": tensor for name, tensor in _tensors(path).items()}
    return Heads(files=files, tensors=tensors)


def write(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write one such file, in the names its readers expect."""
    torch.save({_MODULE + name: tensor for name, tensor in tensors.items()}, path)


def _why_refused(path: Path) -> str:
    for kind, reason in _UNSUPPORTED.items():
        if path.name.startswith(f"{kind}--"):
            return f"{path.parent} cannot be run here: {reason} ({path.name}); take a token or L1 checkpoint"
    return f"{path} is a pickle, which can run code when it is opened; remove it if the rest is to be trusted"


def _tensors(path: Path) -> dict[str, Tensor]:
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, OSError, EOFError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise VlaError(f"{path} is damaged, or holds more than weights ({reason}); download it again") from error
    if not isinstance(content, dict) or not all(isinstance(value, Tensor) for value in content.values()):
        raise VlaError(f"{path} holds more than weights; download it again")
    return content
