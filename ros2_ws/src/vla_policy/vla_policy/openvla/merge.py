"""Make one published folder of adapters and their base, for all who read such folders.

    python -m vla_policy.openvla.merge runs/grpo/checkpoints/step_000100 --out models/spatial_rl

The result answers a little faster than base and adapters, needs no peft, and depends on no other folder.
"""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import Literal

import torch
import tyro

from vla_policy import checkpoint
from vla_policy.errors import VlaError
from vla_policy.openvla import adapter_folder, adapters

_DTYPES = {"bfloat16": torch.bfloat16, "float32": torch.float32}


@dataclasses.dataclass(frozen=True, kw_only=True)
class MergeConfig:
    """Make one published folder of adapters and their base."""

    folder: tyro.conf.Positional[Path]
    """Checkpoint that holds adapters."""
    out: Path
    """Folder to write."""
    base: Path | None = None
    """Where the base lies now, if it was moved; it must be the same, bit for bit."""
    dtype: Literal["bfloat16", "float32"] = "bfloat16"
    """Precision of the weights written. Published ones are bfloat16; float32 rounds nothing and is twice as large."""
    device: str = "cpu"
    """Where it is computed; a GPU is not needed."""


def merge(config: MergeConfig) -> float:
    """Write the merged folder; returns what rounding changed, as a share of what was learned.

    Raises:
        VlaError: the folder holds no adapters, its base is not found, or `out` exists; nothing was written then.
    """
    if config.out.exists():
        raise VlaError(f"{config.out} already exists; choose another --out or remove it yourself")
    if not checkpoint.is_adapted(config.folder):
        raise VlaError(f"{config.folder} holds no adapters, so there is nothing to merge")
    network, parts = adapter_folder.load(config.folder, config.device, dtype=_DTYPES[config.dtype], base=config.base)
    rounded = adapters.fold(network)
    checkpoint.save(config.out, dataclasses.replace(parts, weights=network.state_dict(), adapted=None))
    return rounded


def main(config: MergeConfig) -> int:
    """Run `merge` and say what was written."""
    try:
        rounded = merge(config)
    except VlaError as error:
        print(error, file=sys.stderr)
        return 2
    print(f"{config.out} written as {config.dtype}; rounding changed what was learned by {rounded:.1%}")
    if rounded > 0.5:
        print("most of it is finer than bfloat16 can hold: give --dtype float32, or train longer", file=sys.stderr)
    return 0


if __name__ == "__main__":
    raise SystemExit(main(tyro.cli(MergeConfig)))
