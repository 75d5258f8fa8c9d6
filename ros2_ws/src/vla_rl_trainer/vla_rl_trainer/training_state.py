"""What a resumed run needs beside the policy: optimiser moments and the trainer's own numbers. No pickle."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from vla_policy.errors import VlaError

_FILE = "optimizer.safetensors"
"""Moments as tensors, the numbers as JSON in the file's header (a file of their own would look like the policy's)."""


def save_state(folder: Path, optimizer: torch.optim.Optimizer, numbers: Mapping[str, Any]) -> None:
    """Write optimiser moments and `numbers` (anything JSON holds) into a checkpoint folder."""
    tensors: dict[str, Tensor] = {}
    for index, moments in optimizer.state_dict()["state"].items():
        for name, value in moments.items():
            tensors[f"{index}.{name}"] = torch.as_tensor(value).detach().cpu().contiguous()
    save_file(tensors, folder / _FILE, metadata={"numbers": json.dumps(numbers)})


def load_state(folder: Path, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Restore the optimiser in place; returns the numbers.

    Raises:
        VlaError: the files are damaged or belong to another network.
    """
    try:
        tensors = load_file(folder / _FILE)
        with safe_open(folder / _FILE, framework="pt") as file:
            numbers = dict[str, Any](json.loads((file.metadata() or {})["numbers"]))
    except (OSError, ValueError, TypeError, KeyError, SafetensorError) as error:
        raise VlaError(
            f"{folder} cannot be resumed from ({error}); delete that checkpoint to resume from the one before"
        ) from error
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        index, name = key.split(".", 1)
        state.setdefault(int(index), {})[name] = value
    _require_fitting(state, optimizer, folder)
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
    return numbers


def _require_fitting(state: Mapping[int, Mapping[str, Tensor]], optimizer: torch.optim.Optimizer, folder: Path) -> None:
    """Refuse moments of other shapes than the parameters': torch would notice in the next step only."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    for index, moments in state.items():
        shapes = {tuple(moment.shape) for moment in moments.values() if moment.ndim}
        if index >= len(parameters) or shapes - {tuple(parameters[index].shape)}:
            raise VlaError(f"{folder} holds the optimiser of another network; choose another --out")
