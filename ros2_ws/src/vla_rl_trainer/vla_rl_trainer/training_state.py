"""What a resumed run needs beside the policy: optimiser moments and the trainer's own numbers. No pickle.

Where several processes share a run, each writes a file of its own: its numbers, and of a network that is cut up among
them its part of weights and moments.
"""

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
from vla_rl_trainer import ranks
from vla_rl_trainer.optimizer import parameters
from vla_rl_trainer.ranks import Ranks
from vla_rl_trainer.sharding import own_part

_FILE = "optimizer.safetensors"
"""Moments as tensors, the numbers as JSON in the file's header (a file of their own would look like the policy's)."""
_WEIGHT = "weight"
"""Name among the moments of a weight that no other file holds in full precision."""


def save_state(folder: Path, optimizer: torch.optim.Optimizer, numbers: Mapping[str, Any]) -> None:
    """Write optimiser moments and `numbers` (anything JSON holds) into a checkpoint folder."""
    here, tensors = ranks.here(), dict[str, Tensor]()
    if here.is_first or _is_cut(optimizer):
        for index, moments in optimizer.state_dict()["state"].items():
            for name, value in moments.items():
                tensors[f"{index}.{name}"] = _stored(torch.as_tensor(value))
    if _is_cut(optimizer):
        weights = enumerate(parameters(optimizer))
        tensors |= {f"{index}.{_WEIGHT}": _stored(weight) for index, weight in weights}
    save_file(tensors, here.file(folder / _FILE), metadata={"numbers": json.dumps(numbers)})


def load_state(folder: Path, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Restore the optimiser in place; returns the numbers.

    Raises:
        VlaError: the files are damaged, belong to another network, or were written by more or fewer processes.
    """
    here = ranks.here()
    own = here.file(folder / _FILE)
    if not own.exists() and (others := sorted(folder.glob("optimizer*.safetensors"))):
        raise VlaError(
            f"{folder} was saved by another number of processes ({others[0].name}), this run has {here.count}; "
            "resume with as many"
        )
    try:
        tensors = load_file(own if _is_cut(optimizer) else Ranks(0, here.count).file(folder / _FILE))
        with safe_open(own, framework="pt") as file:
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
    _fill(state, optimizer)
    return numbers


def _fill(state: Mapping[int, dict[str, Tensor]], optimizer: torch.optim.Optimizer) -> None:
    with torch.no_grad():
        for index, moments in state.items():
            weight = parameters(optimizer)[index]
            if _WEIGHT in moments:
                own_part(weight).copy_(moments.pop(_WEIGHT))
            if own_part(weight) is not weight:
                moments |= {name: _cut_like(weight, part) for name, part in moments.items() if part.ndim}
    filled = {index: moments for index, moments in state.items() if moments}
    optimizer.load_state_dict({"state": filled, "param_groups": optimizer.state_dict()["param_groups"]})


def _cut_like(weight: Tensor, part: Tensor) -> Tensor:
    whole = torch.zeros_like(weight)
    own_part(whole).copy_(part)
    return whole


def _is_cut(optimizer: torch.optim.Optimizer) -> bool:
    return any(own_part(weight) is not weight for weight in parameters(optimizer))


def _stored(value: Tensor) -> Tensor:
    return own_part(value).detach().cpu().contiguous()


def _require_fitting(state: Mapping[int, Mapping[str, Tensor]], optimizer: torch.optim.Optimizer, folder: Path) -> None:
    """Refuse moments of other shapes than the parameters': torch would notice in the next step only."""
    weights = parameters(optimizer)
    for index, moments in state.items():
        shapes = {tuple(moment.shape) for moment in moments.values() if moment.ndim}
        if index >= len(weights) or shapes - {tuple(own_part(weights[index]).shape)}:
            raise VlaError(f"{folder} holds the optimiser of another network; choose another --out")
