"""A policy as one folder, in Hugging Face's layout: data only, never code.

Networks of our own design have the layout below; OpenVLA's keep the published one (`openvla.folder`).
Written whole or not at all: into a folder beside the target, which then takes the target's name. Read with suspicion:
no pickle is ever opened, a folder that carries Python is refused, and every part is checked against the others before
a network is built.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import shutil
import struct
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from torch import Tensor

from vla_policy.config import PolicyConfig, VlaConfig
from vla_policy.embodiment import Embodiment
from vla_policy.errors import VlaError
from vla_policy.normalization import DatasetStatistics, read_statistics, write_statistics
from vla_policy.origin import Adapted, Origin

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
STATISTICS = "dataset_statistics.json"
TOKENIZER = "tokenizer.json"
EMBODIMENT = "embodiment.json"
ADAPTERS, BASE = "adapter_model.safetensors", "base.json"
_FILES = (CONFIG, WEIGHTS, STATISTICS, TOKENIZER, EMBODIMENT)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Checkpoint:
    """Everything a policy is made of."""

    config: PolicyConfig
    weights: Mapping[str, Tensor]
    """State dict of the network."""
    statistics: DatasetStatistics
    tokenizer: Tokenizer
    embodiment: Embodiment
    extra: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """Further JSON files by name without suffix, such as how the policy was trained."""
    origin: Origin | None = None
    """What the published folder that it came from holds besides."""
    adapted: Adapted | None = None
    """The base, where adapters alone are trained and stored (`openvla.adapter_folder`)."""

    def require_consistent(self, owner: str) -> None:
        """Refuse parts that do not belong together.

        Raises:
            VlaError: names the camera, joint count or statistics that do not fit.
        """
        config, robot = self.config, self.embodiment
        cameras = tuple(name for name in robot.camera_names if config.reads_all_cameras or name in config.camera_names)
        if config.camera_names != cameras:
            raise VlaError(
                f"{owner}: {CONFIG} reads cameras {config.camera_names}, {EMBODIMENT} has {robot.camera_names}"
            )
        joints = f"{robot.num_joints} joints of {EMBODIMENT}"
        sizes = [
            (f"action_dim in {CONFIG}", config.action_dim),
            (f"'{config.statistics_key}' action in {STATISTICS}", self.statistics.action.size),
        ]
        if config.state_is_joints:
            sizes += [
                (f"state_dim in {CONFIG}", config.state_dim),
                (f"'{config.statistics_key}' proprio in {STATISTICS}", self.statistics.proprio.size),
            ]
        for name, size in sizes:
            if size != robot.num_joints:
                raise VlaError(f"{owner}: {name} has length {size}, not the {joints}; restore the original files")
        if self.tokenizer.get_vocab_size() > config.text_vocab_size:
            raise VlaError(
                f"{owner}: {TOKENIZER} has {self.tokenizer.get_vocab_size()} ids, the network {config.text_vocab_size}"
            )


def save(folder: Path, checkpoint: Checkpoint, dtype: torch.dtype | None = None) -> None:
    """Write a checkpoint; an older one of that name is replaced, anything else there is refused.

    Args:
        folder: The checkpoint.
        checkpoint: What to write.
        dtype: Precision of the weights on disk; `torch.bfloat16` halves the size for shipping.

    Raises:
        VlaError: `folder` exists and is no checkpoint, or the parts do not belong together.
    """
    folder = Path(folder).absolute()
    if folder.exists() and not is_checkpoint(folder) and (not folder.is_dir() or any(folder.iterdir())):
        raise VlaError(f"{folder} exists and is no checkpoint; choose another name or remove it yourself")
    checkpoint.require_consistent(f"checkpoint {folder}")
    for name in checkpoint.extra:
        if Path(name).name != name or f"{name}.json" in _FILES:
            raise VlaError(f"'{name}' cannot be the name of an extra file in a checkpoint")
    fresh = folder.with_name(f".{folder.name}.new-{os.getpid()}")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    try:
        _writer(checkpoint)(fresh, checkpoint, dtype)
        for name, content in checkpoint.extra.items():
            (fresh / f"{name}.json").write_text(json.dumps(content, indent=2), encoding="utf-8")
        _take_over(folder, fresh)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def load(folder: Path, device: torch.device | str = "cpu") -> Checkpoint:
    """Read a checkpoint; weights come as float32 on `device`.

    Raises:
        VlaError: a file is missing, damaged, or does not fit the others, or the folder carries code.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise VlaError(f"there is no checkpoint folder {folder}")
    refuse_code(folder)
    if missing := [name for name in _FILES if not (folder / name).is_file()]:
        raise VlaError(f"checkpoint {folder} lacks {', '.join(missing)}; copy the whole folder again")
    config = VlaConfig.from_json(_text(folder / CONFIG))
    checkpoint = Checkpoint(
        config=config,
        weights=_weights(folder / WEIGHTS, device),
        statistics=read_statistics(folder / STATISTICS, config.statistics_key),
        tokenizer=read_tokenizer(folder / TOKENIZER),
        embodiment=Embodiment.from_json(_text(folder / EMBODIMENT)),
        extra=extra_files(folder, _FILES),
    )
    checkpoint.require_consistent(f"checkpoint {folder}")
    return checkpoint


def is_checkpoint(folder: Path) -> bool:
    """Whether `folder` looks like something `save` wrote."""
    return is_adapted(folder) or ((Path(folder) / CONFIG).is_file() and bool(_weight_files(Path(folder))))


def is_adapted(folder: Path) -> bool:
    """Whether `folder` holds adapters to a base that lies elsewhere."""
    return (Path(folder) / BASE).is_file() and (Path(folder) / ADAPTERS).is_file()


def weights_sha256(folder: Path) -> str:
    """What tells one policy from another, wherever it lies; `cat model*.safetensors | sha256sum` prints the same.

    Of adapters, the digest of their base counts in, not where it lies.
    """
    digest = hashlib.sha256(str(_json(Path(folder) / BASE).get("sha256")).encode() if is_adapted(folder) else b"")
    for path in _weight_files(Path(folder)):
        with path.open("rb") as file:
            while block := file.read(2**20):
                digest.update(block)
    return digest.hexdigest()


def extra_files(folder: Path, known: Collection[str]) -> dict[str, Any]:
    """Read the JSON files of a folder that are not among `known`, by name without suffix."""
    return {path.stem: _json(path) for path in sorted(folder.glob("*.json")) if path.name not in known}


def refuse_code(folder: Path, known: Collection[str] = ()) -> None:
    """Refuse a folder that asks to be executed.

    Args:
        folder: The checkpoint.
        known: Classes that an `auto_map` may name, for nothing here looks for them.

    Raises:
        VlaError: there is a Python file, or a JSON file with an `auto_map`.
    """
    if scripts := sorted(path.name for path in folder.rglob("*.py")):
        raise VlaError(f"{folder} carries code ({', '.join(scripts)}); checkpoints are data; remove it to go on")
    for path in folder.glob("*.json"):
        content = _json(path)
        if isinstance(content, dict) and "auto_map" in content and not _is_known(content["auto_map"], known):
            raise VlaError(f"{path} asks for remote code (auto_map); remove the key if the rest is to be trusted")


def require_fitting(weights: Mapping[str, Tensor], expected: Mapping[str, Tensor], owner: str) -> None:
    """Refuse weights whose names or shapes are not those of the network that `config.json` describes.

    Raises:
        VlaError: names the first weights that are missing, unknown, or of another shape.
    """
    for what, names in (
        ("lacks", sorted(expected.keys() - weights.keys())),
        ("has unknown", sorted(weights.keys() - expected.keys())),
    ):
        if names:
            raise VlaError(f"{owner}: {WEIGHTS} {what} {', '.join(names[:3])} ({len(names)} in all)")
    for name, tensor in expected.items():
        if weights[name].shape != tensor.shape:
            raise VlaError(
                f"{owner}: {name} in {WEIGHTS} has shape {tuple(weights[name].shape)}, {CONFIG} asks for "
                f"{tuple(tensor.shape)}; the two are from different checkpoints"
            )


def _writer(checkpoint: Checkpoint) -> Callable[[Path, Checkpoint, torch.dtype | None], None]:
    if isinstance(checkpoint.config, VlaConfig):
        return _write
    from vla_policy.openvla import adapter_folder, folder  # they read checkpoints themselves

    return adapter_folder.write if checkpoint.adapted else folder.write


def _weight_files(folder: Path) -> list[Path]:
    """Files that hold the weights, in one or in several."""
    return (
        sorted(folder.glob(ADAPTERS)) or sorted(folder.glob("model-*-of-*.safetensors")) or sorted(folder.glob(WEIGHTS))
    )


def _is_known(auto_map: Any, known: Collection[str]) -> bool:
    """Whether all that an `auto_map` names is known; 'owner/name--' before a class says where its code lies."""
    return isinstance(auto_map, dict) and all(str(value).split("--")[-1] in known for value in auto_map.values())


def _write(folder: Path, checkpoint: Checkpoint, dtype: torch.dtype | None) -> None:
    weights = {
        name: tensor.detach().to("cpu", dtype if tensor.is_floating_point() else None).contiguous()
        for name, tensor in checkpoint.weights.items()
    }
    save_file(weights, folder / WEIGHTS, metadata={"format": "pt"})
    assert isinstance(checkpoint.config, VlaConfig)
    write_statistics(folder / STATISTICS, {checkpoint.config.statistics_key: checkpoint.statistics})
    texts = {
        CONFIG: checkpoint.config.to_json(),
        TOKENIZER: checkpoint.tokenizer.to_str(),
        EMBODIMENT: checkpoint.embodiment.to_json(),
    }
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")


def _take_over(folder: Path, fresh: Path) -> None:
    """Give `fresh` the name `folder`; between the two renames the old one stands beside it as `.<name>.old`."""
    if not folder.exists():
        fresh.rename(folder)
        return
    old = folder.with_name(f".{folder.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    folder.rename(old)
    fresh.rename(folder)
    shutil.rmtree(old)


def _weights(path: Path, device: torch.device | str) -> dict[str, Tensor]:
    try:
        tensors = load_file(path, device=str(device))
    except (SafetensorError, struct.error, OSError, ValueError) as error:
        raise VlaError(f"{path} is damaged or cut short ({error}); copy it again") from error
    return {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in tensors.items()}


def read_tokenizer(path: Path) -> Tokenizer:
    """Read a `tokenizer.json`.

    Raises:
        VlaError: it is none.
    """
    try:
        return Tokenizer.from_str(_text(path))
    except Exception as error:  # the library raises nothing narrower
        raise VlaError(f"{path} is no tokenizer ({error}); copy it again") from error


def _json(path: Path) -> Any:
    try:
        return json.loads(_text(path))
    except ValueError as error:
        raise VlaError(f"{path} is not JSON ({error}); copy it again") from error


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise VlaError(f"{path} cannot be read ({error}); copy it again") from error
