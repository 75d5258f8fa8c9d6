"""Groups as bytes, to be kept on disk or sent to the other processes of a run.

Surplus is kept, so that a resumed run learns from the very groups an unbroken one would; all are sent, so that each
process learns its share of what all sampled. In safetensors' layout: pixels, bins and log-probabilities as tensors,
the rest as JSON in the header. No pickle.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from piper_twin.episode import Episode
from vla_policy.errors import VlaError
from vla_policy.inputs import PolicyInputs
from vla_rl_trainer.trajectory import Group, Trajectory

_INPUTS = tuple(field.name for field in dataclasses.fields(PolicyInputs))
_LENGTH_BYTES = 8
"""In which safetensors says how long its header is."""
_PLAIN = ("steps", "success", "dropped", "refused")


def save_groups(path: Path, groups: Sequence[Group]) -> None:
    """Write groups into one file."""
    path.write_bytes(pack(groups))


def load_groups(path: Path) -> list[Group]:
    """Read what `save_groups` wrote.

    Raises:
        VlaError: the file is missing or damaged.
    """
    try:
        return unpack(path.read_bytes())
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise VlaError(
            f"{path} cannot be resumed from ({error}); delete that checkpoint to resume from the one before"
        ) from error


def pack(groups: Sequence[Group]) -> bytes:
    """Everything of some groups."""
    tensors: dict[str, Tensor] = {}
    for number, group in enumerate(groups):
        for member, trajectory in enumerate(group.trajectories):
            parts = {} if trajectory.dropped else _tensors(trajectory)
            tensors |= {f"{number}.{member}.{name}": tensor for name, tensor in parts.items()}
    return save(tensors, metadata={"groups": json.dumps([_describe(group) for group in groups])})


def unpack(content: bytes) -> list[Group]:
    """Make groups of what `pack` made."""
    length = int.from_bytes(content[:_LENGTH_BYTES], "little")
    header = json.loads(content[_LENGTH_BYTES : _LENGTH_BYTES + length])
    tensors = load(content)
    return [
        _group(number, fields, tensors) for number, fields in enumerate(json.loads(header["__metadata__"]["groups"]))
    ]


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
