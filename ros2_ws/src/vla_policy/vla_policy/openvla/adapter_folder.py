"""A checkpoint that holds adapters alone, and says by its digest which base they change: 0.2 GB instead of 15.

    adapter_model.safetensors   what was trained, by published names
    adapter_config.json         rank and the like, in peft's words
    base.json                   where the base lies, and the sha256 of its weights
    reading.json, embodiment.json   how the base is read

`merge` makes a published folder of it that everybody reads.
"""

from __future__ import annotations

import dataclasses
import json
import struct
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from vla_policy import checkpoint
from vla_policy.checkpoint import Checkpoint
from vla_policy.embodiment import Embodiment
from vla_policy.errors import VlaError
from vla_policy.openvla import adapters, reading, weights
from vla_policy.openvla import folder as published
from vla_policy.openvla.config import OpenVlaConfig
from vla_policy.openvla.network import OpenVlaNetwork
from vla_policy.openvla.reading import Reading
from vla_policy.origin import Adapted, AdapterSize

WEIGHTS, CONFIG, BASE = checkpoint.ADAPTERS, "adapter_config.json", checkpoint.BASE
_OURS = (CONFIG, BASE, reading.FILE, checkpoint.EMBODIMENT)


def write(folder: Path, parts: Checkpoint, dtype: torch.dtype | None) -> None:
    """Write adapters and what they change into an empty folder; `dtype` as in `checkpoint.save`.

    Raises:
        VlaError: the base is no folder that could be referred to.
    """
    adapted, config = parts.adapted, parts.config
    assert adapted is not None
    if adapted.folder is None:
        raise VlaError("adapters refer to the folder of their base; save the policy before it is adapted, and load it")
    assert isinstance(config, OpenVlaConfig)
    tensors = _stored(parts, config, adapted.size)
    save_file(
        {name: tensor.detach().to("cpu", dtype).contiguous() for name, tensor in tensors.items()},
        folder / WEIGHTS,
        metadata={"format": "pt"},
    )
    texts = {
        CONFIG: json.dumps(_describe(adapted, tensors), indent=2),
        BASE: json.dumps({"folder": str(adapted.folder), "sha256": adapted.sha256}, indent=2),
        reading.FILE: published.reading_of(config).to_json(),
        checkpoint.EMBODIMENT: parts.embodiment.to_json(),
    }
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")


def load(
    folder: Path,
    device: torch.device | str = "cpu",
    robot: Embodiment | None = None,
    dtype: torch.dtype | None = None,
    base: Path | None = None,
) -> tuple[OpenVlaNetwork, Checkpoint]:
    """Read the base, and put the adapters into it.

    Args:
        folder: What `write` wrote.
        device: As in `folder.load`.
        robot: As in `folder.load`.
        dtype: As in `folder.load`.
        base: Where the base lies now; by default where it lay then.

    Raises:
        VlaError: the base is not there, or is another one; a file is damaged.
    """
    adapted = read(folder, base)
    stored = Embodiment.from_json((folder / checkpoint.EMBODIMENT).read_text(encoding="utf-8"))
    if robot is not None:
        robot.require_same(stored, f"checkpoint {folder}")
    how = Reading.from_json((folder / reading.FILE).read_text(encoding="utf-8"))
    tensors = _tensors(folder)
    assert adapted.folder is not None
    network, parts = published.load(adapted.folder, device, stored, dtype, how)
    adapters.attach(network, adapted.size)
    adapters.take_over(network, adapted.size.whole, tensors, f"checkpoint {folder}")
    extra = checkpoint.extra_files(folder, _OURS)
    return network, dataclasses.replace(parts, weights=network.state_dict(), extra=extra, adapted=adapted)


def restore(network: OpenVlaNetwork, adapted: Adapted, folder: Path) -> None:
    """Fill the adapters of a network on the same base from a checkpoint.

    Raises:
        VlaError: the checkpoint's base or its adapters' size is another, or a file is damaged.
    """
    described = _json(folder / BASE)
    if described.get("sha256") != adapted.sha256 or _size(folder) != adapted.size:
        raise VlaError(f"{folder} holds adapters of another base, or of another size; choose another --out")
    adapters.take_over(network, adapted.size.whole, _tensors(folder), f"checkpoint {folder}")


def read(folder: Path, base: Path | None = None) -> Adapted:
    """Find the base of a folder with adapters.

    Raises:
        VlaError: it is not there, or not the one that the adapters were trained on.
    """
    described, size = _json(folder / BASE), _size(folder)
    where, wanted = Path(base or str(described.get("folder"))), str(described.get("sha256"))
    if not published.is_published(where):
        raise VlaError(
            f"{folder} changes a base that is not at {where} (sha256 {wanted[:12]}...); put it there, or write its "
            f"place into {BASE}"
        )
    found = checkpoint.weights_sha256(where)
    if found != wanted:
        raise VlaError(
            f"{folder} changes a base of sha256 {wanted[:12]}..., at {where} lies {found[:12]}...; "
            f"find the original and write its place into {BASE}"
        )
    return Adapted(size=size, folder=where, sha256=wanted)


def _stored(parts: Checkpoint, config: OpenVlaConfig, size: AdapterSize) -> dict[str, Tensor]:
    """What was trained, from a state dict, under the names of `adapters.trained`."""
    found: dict[str, Tensor] = {}
    for name, tensor in parts.weights.items():
        layer, kind, _ = name.partition(".lora_")
        if kind:
            found[f"{weights.layer_name(layer, config)}.lora_{name.removeprefix(layer + kind)[0]}.weight"] = tensor
        elif name.split(".")[0] in size.whole:
            found[name] = tensor
    return found


def _describe(adapted: Adapted, tensors: dict[str, Tensor]) -> dict[str, Any]:
    size = adapted.size
    targets = [name.removesuffix(".lora_A.weight") for name in tensors if name.endswith(".lora_A.weight")]
    return {
        "peft_type": "LORA",
        "base_model_name_or_path": str(adapted.folder),
        "r": size.rank,
        "lora_alpha": size.alpha,
        "lora_dropout": 0.0,
        "bias": "none",
        "target_modules": targets,
        "modules_to_save": list(size.whole),
    }


def _size(folder: Path) -> AdapterSize:
    described = _json(folder / CONFIG)
    try:
        whole = tuple(described.get("modules_to_save") or ())
        return AdapterSize(rank=int(described["r"]), alpha=float(described["lora_alpha"]), whole=whole)
    except (KeyError, TypeError, ValueError) as error:
        raise VlaError(f"{folder / CONFIG} is incomplete ({error}); copy the checkpoint again") from error


def _tensors(folder: Path) -> dict[str, Tensor]:
    try:
        return load_file(folder / WEIGHTS)
    except (SafetensorError, struct.error, OSError, ValueError) as error:
        raise VlaError(f"{folder / WEIGHTS} is damaged or cut short ({error}); copy it again") from error


def _json(path: Path) -> dict[str, Any]:
    try:
        return dict[str, Any](json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise VlaError(f"{path} cannot be read ({error}); copy the checkpoint again") from error
