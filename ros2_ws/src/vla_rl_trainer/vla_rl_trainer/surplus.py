"""Surplus groups on disk, so that a resumed run learns from the very groups an unbroken one would.

One safetensors file: pixels, bins and log-probabilities as tensors, the rest as JSON in the file's header. No pickle.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from piper_twin.episode import Episode
from vla_policy.errors import VlaError
from vla_policy.inputs import PolicyInputs
from vla_rl_trainer.trajectory import Group, Trajectory

_INPUTS = tuple(field.name for field in dataclasses.fields(PolicyInputs))
_PLAIN = ("steps", "success", "dropped", "refused")


def save_groups(path: Path, groups: Sequence[Group]) -> None:
    """Write groups into one file."""
    tensors: dict[str, Tensor] = {}
    for number, group in enumerate(groups):
        for member, trajectory in enumerate(group.trajectories):
            parts = {} if trajectory.dropped else _tensors(trajectory)
            tensors |= {f"{number}.{member}.{name}": tensor for name, tensor in parts.items()}
    save_file(tensors, path, metadata={"groups": json.dumps([_describe(group) for group in groups])})


def load_groups(path: Path) -> list[Group]:
    """Read what `save_groups` wrote.

    Raises:
        VlaError: the file is missing or damaged.
    """
    try:
        with safe_open(path, framework="pt") as file:
            described = json.loads((file.metadata() or {})["groups"])
        tensors = load_file(path)
        return [_group(number, fields, tensors) for number, fields in enumerate(described)]
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise VlaError(
            f"{path} cannot be resumed from ({error}); delete that checkpoint to resume from the one before"
        ) from error


def _describe(group: Group) -> dict[str, Any]:
    return {
        "episode": dataclasses.asdict(group.episode),
        "policy_version": group.policy_version,
        "trajectories": [
            {name: getattr(trajectory, name) for name in _PLAIN} | {"signals": sorted(trajectory.signals)}
            for trajectory in group.trajectories
        ],
    }


def _tensors(trajectory: Trajectory) -> dict[str, Tensor]:
    inputs = PolicyInputs.cat(trajectory.inputs)
    return {name: getattr(inputs, name).contiguous() for name in _INPUTS} | {
        "indices": torch.stack(trajectory.indices),
        "log_probs": torch.stack(trajectory.log_probs),
    }


def _group(number: int, fields: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Group:
    group = Group(Episode(**fields["episode"]), policy_version=fields["policy_version"])
    for member, described in enumerate(fields["trajectories"]):
        trajectory = Trajectory(group.episode, **(described | {"signals": set(described["signals"])}))
        prefix = f"{number}.{member}."
        if not trajectory.dropped:
            inputs = PolicyInputs(**{name: tensors[prefix + name] for name in _INPUTS})
            for row in range(len(inputs)):
                trajectory.record(
                    inputs[row : row + 1], tensors[prefix + "indices"][row], tensors[prefix + "log_probs"][row]
                )
        group.trajectories.append(trajectory)
    return group
