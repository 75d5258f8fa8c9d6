"""Safetensors in several files with an index, as large checkpoints come: all checked before anything is read."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from vla_policy.errors import VlaError

INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"
MAX_SHARD_BYTES = 5 * 10**9
"""Of one file, as published ones are cut."""

_DTYPES = {"F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16, "F64": torch.float64}


class Shards:
    """The tensors of a folder; nothing but headers is read until one is asked for."""

    def __init__(self, folder: Path) -> None:
        """Open every file.

        Raises:
            VlaError: a file is missing, cut short, or lacks what the index says it holds.
        """
        self._files: dict[str, Any] = {}
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.dtypes: dict[str, torch.dtype] = {}
        self._places: dict[str, Path] = {}
        for path, names in _listed(folder).items():
            self._open(path, names)

    def read(self, name: str, first: int | None = None, count: int = 0) -> Tensor:
        """A copy of a tensor on the CPU, or of `count` of its rows from `first` on."""
        path = self._places[name]
        file = self._files[str(path)]
        try:
            tensor = file.get_tensor(name) if first is None else file.get_slice(name)[first : first + count]
        except (SafetensorError, OSError) as error:
            raise VlaError(f"{path} cannot be read ({error}); download it again") from error
        return tensor.clone()

    def _open(self, path: Path, names: set[str] | None) -> None:
        try:
            file = safe_open(str(path), framework="pt")
            held = set(file.keys())
            slices = {name: file.get_slice(name) for name in sorted(held)}
        except (SafetensorError, OSError, ValueError) as error:
            raise VlaError(f"{path} is missing, damaged or cut short ({error}); download it again") from error
        if names is not None and names != held:
            raise VlaError(
                f"{path} holds other weights than {INDEX} says (such as {min(names ^ held)}); "
                "files of different checkpoints were mixed, download the whole folder again"
            )
        for name, piece in slices.items():
            if piece.get_dtype() not in _DTYPES:
                raise VlaError(
                    f"{path}: {name} is stored as {piece.get_dtype()}; only unquantised weights load "
                    f"({', '.join(_DTYPES)}), take the original checkpoint"
                )
            self.shapes[name], self.dtypes[name] = tuple(piece.get_shape()), _DTYPES[piece.get_dtype()]
            self._places[name] = path
        self._files[str(path)] = file


def is_there(folder: Path) -> bool:
    """Whether a folder has weights, in one file or in several."""
    return (folder / INDEX).is_file() or (folder / SINGLE).is_file()


def paths(folder: Path) -> list[Path]:
    """Files that hold the weights, in order.

    Raises:
        VlaError: the index is damaged.
    """
    return sorted(_listed(folder))


def _listed(folder: Path) -> dict[Path, set[str] | None]:
    """Files to open, and what the index says of each."""
    if not (folder / INDEX).is_file():
        return {folder / SINGLE: None}
    try:
        placed: dict[str, str] = json.loads((folder / INDEX).read_text(encoding="utf-8"))["weight_map"]
        files: dict[Path, set[str] | None] = {}
        for name, file in placed.items():
            if Path(file).name != file or not file.endswith(".safetensors"):
                raise ValueError(f"'{file}' is no file beside it")
            names = files.setdefault(folder / file, set())
            assert names is not None
            names.add(name)
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise VlaError(f"{folder / INDEX} cannot be read ({error}); download it again") from error
    return files


def write(folder: Path, num_bytes: Mapping[str, int], tensor: Callable[[str], Tensor], max_bytes: int) -> None:
    """Write tensors and their index, one file in memory at a time.

    Args:
        folder: Where to.
        num_bytes: Of every tensor by name, in the order to write.
        tensor: Name to tensor.
        max_bytes: Of one file; a tensor larger than that has a file of its own.
    """
    groups: list[list[str]] = [[]]
    for name, size in num_bytes.items():
        if groups[-1] and sum(num_bytes[other] for other in groups[-1]) + size > max_bytes:
            groups.append([])
        groups[-1].append(name)
    placed: dict[str, str] = {}
    for number, names in enumerate(groups, start=1):
        file = f"model-{number:05d}-of-{len(groups):05d}.safetensors"
        save_file({name: tensor(name) for name in names}, folder / file, metadata={"format": "pt"})
        placed |= dict.fromkeys(names, file)
    index = {"metadata": {"total_size": sum(num_bytes.values())}, "weight_map": dict(sorted(placed.items()))}
    (folder / INDEX).write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")
