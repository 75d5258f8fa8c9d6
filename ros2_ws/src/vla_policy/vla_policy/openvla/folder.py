"""A published OpenVLA-OFT folder: read without its code, and written back for all who read such folders.

Everything is checked before a weight is read: what the folder carries, whether its files are whole, whether names and
shapes are the network's, whether memory suffices. What the network does not use is kept (`Origin`) and written back:
dead weights, the vocabulary's other rows, tokenizer and processor files, all statistics.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from torch import Tensor

from vla_policy import checkpoint, precision
from vla_policy.checkpoint import Checkpoint
from vla_policy.embodiment import Embodiment
from vla_policy.errors import VlaError
from vla_policy.normalization import DatasetStatistics
from vla_policy.openvla import heads, manifest, memory, reading, shards, statistics, weights
from vla_policy.openvla.config import ActionHead, OpenVlaConfig
from vla_policy.openvla.network import OpenVlaNetwork
from vla_policy.openvla.reading import Reading
from vla_policy.origin import Origin

_CARRIED = (
    checkpoint.TOKENIZER,
    "tokenizer.model",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "preprocessor_config.json",
    "processor_config.json",
    "generation_config.json",
)
"""Files that travel with the weights as they are."""
_OURS = (manifest.FILE, statistics.FILE, reading.FILE, checkpoint.EMBODIMENT, shards.INDEX)
_PT_NAMES = {"proprio_projector": "proprio_projector.", "action_head": "action_head."}


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Surveyed:
    """A folder whose files were checked, and of which no large weight was read."""

    folder: Path
    config: OpenVlaConfig
    shards: shards.Shards
    heads: heads.Heads
    datasets: Mapping[str, Any]
    """Statistics of all data sets."""
    statistics: DatasetStatistics
    tokenizer: Tokenizer
    robot: Embodiment
    network: OpenVlaNetwork
    """Without memory."""

    def require_fitting(self) -> None:
        """Refuse parts that do not belong together.

        Raises:
            VlaError: names the camera or count that does not fit.
        """
        self.parts().require_consistent(f"checkpoint {self.folder}")

    def parts(self) -> Checkpoint:
        """All but the weights and what travels along."""
        return Checkpoint(
            config=self.config,
            weights=self.network.state_dict(),
            statistics=self.statistics,
            tokenizer=self.tokenizer,
            embodiment=self.robot,
            extra=checkpoint.extra_files(self.folder, _OURS + _CARRIED),
        )


def is_published(folder: Path) -> bool:
    """Whether `folder` looks like OpenVLA's."""
    try:
        content = json.loads((folder / manifest.FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(content, dict) and content.get("model_type") == manifest.MODEL_TYPE


def survey(folder: Path, robot: Embodiment | None = None, wanted: Reading | None = None) -> Surveyed:
    """Check everything about a folder that can be checked without reading its weights.

    Args:
        folder: The published folder.
        robot: Which robot it moves; by default what `embodiment.json` in the folder says.
        wanted: How to read it; by default what `reading.json` says, or as usual for actions of its size.

    Raises:
        VlaError: the folder carries code or a strange pickle, is not whole, or does not fit the robot.
    """
    checkpoint.refuse_code(folder, manifest.AUTO_MAP)
    owner, pickled, files = f"checkpoint {folder}", heads.read(folder), shards.Shards(folder)
    shapes = files.shapes | _shapes(pickled.tensors)
    if twice := sorted(files.shapes.keys() & pickled.tensors.keys()):
        raise VlaError(f"{folder} has {twice[0]} in a .pt file and among the other weights; remove the .pt file")
    described = manifest.read(folder)
    datasets = statistics.read(folder, described)
    robot = _robot(folder, robot)
    head = "l1" if "action_head" in pickled.files else "tokens"
    how = wanted or _reading(folder, robot, head)
    key = statistics.resolve(datasets, how.statistics_key, owner)
    with_proprio = bool(described.get("use_proprio")) or any(name.startswith("proprio_projector.") for name in shapes)
    chosen = statistics.of(datasets, key, with_proprio, owner)
    how = dataclasses.replace(how, statistics_key=key)
    config = manifest.network_config(folder, shapes, how, chosen, head)
    network = OpenVlaNetwork.without_memory(config)
    expected = weights.published_shapes(_shapes(network.state_dict()), config)
    weights.require_fitting(shapes, expected, config, owner)
    return Surveyed(
        folder=folder,
        config=config,
        shards=files,
        heads=pickled,
        datasets=datasets,
        statistics=chosen,
        tokenizer=_tokenizer(folder),
        robot=robot,
        network=network,
    )


def load(
    folder: Path,
    device: torch.device | str = "cpu",
    robot: Embodiment | None = None,
    dtype: torch.dtype | None = None,
    wanted: Reading | None = None,
) -> tuple[OpenVlaNetwork, Checkpoint]:
    """Read a published folder; weights go to `device` one by one.

    Args:
        folder: The published folder.
        device: Where the network shall run.
        robot: Which robot it moves; by default what `embodiment.json` in the folder says.
        dtype: Precision of the weights; by default as stored where `device` multiplies bfloat16, else float32.
        wanted: How to read it, as in `survey`.

    Raises:
        VlaError: the folder is damaged, not OpenVLA-OFT's, carries code, or does not fit into memory.
    """
    found, device = survey(folder, robot, wanted), torch.device(device)
    found.require_fitting()
    dtype = dtype or _dtype(found, device)
    shapes = _shapes(found.network.state_dict())
    num_values = sum(weight.numel() for weight in found.network.state_dict().values())
    memory.require(num_values * dtype.itemsize, device, dtype, f"checkpoint {folder}")

    def read(name: str, first: int | None, count: int) -> Tensor:
        pickled = found.heads.tensors
        return (pickled[name] if name in pickled else found.shards.read(name, first, count)).to(device, dtype)

    network = found.network
    network.load_state_dict(weights.collect(shapes, found.config, read), assign=True)
    network.fill_buffers(device)
    return network, dataclasses.replace(found.parts(), origin=_origin(found))


def _origin(found: Surveyed) -> Origin:
    folder = found.folder
    names = [name for name in found.shards.shapes if weights.is_dead(name, found.config)] + [weights.HEAD]
    return Origin(
        manifest=manifest.read(folder),
        datasets=found.datasets,
        carried={name: found.shards.read(name) for name in names},
        files={name: (folder / name).read_bytes() for name in _CARRIED if (folder / name).is_file()},
        heads=found.heads.files,
    )


def write(folder: Path, parts: Checkpoint, dtype: torch.dtype | None, max_bytes: int = shards.MAX_SHARD_BYTES) -> None:
    """Write all files of a published folder, and beside them whose it is and how to read it.

    Args:
        folder: Empty.
        parts: A policy whose config is an `OpenVlaConfig`.
        dtype: Precision of the weights on disk; by default as they are.
        max_bytes: Of one file.
    """
    config = parts.config
    assert isinstance(config, OpenVlaConfig)
    datasets = {config.statistics_key: parts.statistics.to_dict()}
    origin = parts.origin or Origin(
        manifest=manifest.make(config, datasets), datasets=datasets, carried=weights.idle_dead(config)
    )
    published = weights.publish(parts.weights, origin.carried, config)
    names = dict.fromkeys(published.parts)
    for kind, file in origin.heads.items():
        prefix = _PT_NAMES[kind]
        pickled = [name for name in names if name.startswith(prefix)]
        heads.write(folder / file, {name.removeprefix(prefix): published.tensor(name, dtype) for name in pickled})
        names = {name: None for name in names if name not in pickled}
    stored = dtype or next(iter(parts.weights.values())).dtype
    num_bytes = {name: published.num_values(name) * stored.itemsize for name in names}
    shards.write(folder, num_bytes, lambda name: published.tensor(name, stored), max_bytes)
    texts = {
        manifest.FILE: json.dumps(_manifest(origin, config, stored), indent=2),
        statistics.FILE: json.dumps(dict(origin.datasets), indent=2),
        checkpoint.TOKENIZER: parts.tokenizer.to_str(),
        checkpoint.EMBODIMENT: parts.embodiment.to_json(),
        reading.FILE: reading_of(config).to_json(),
    }
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")
    for name, content in origin.files.items():
        (folder / name).write_bytes(content)


def _manifest(origin: Origin, config: OpenVlaConfig, dtype: torch.dtype) -> dict[str, Any]:
    described = dict(origin.manifest) | {"torch_dtype": str(dtype).removeprefix("torch.")}
    if config.use_proprio and "proprio_projector" not in origin.heads:
        described |= {"use_proprio": True, "proprio_dim": config.state_dim}
    return described


def reading_of(config: OpenVlaConfig) -> Reading:
    """How a folder of such a network is to be read."""
    return Reading(
        camera_names=config.camera_names,
        chunk_length=config.chunk_length,
        normalisation=config.normalisation,
        images=config.images,
        statistics_key=config.statistics_key,
        action_frame=config.action_frame,
        decoding=config.decoding,
    )


def _shapes(tensors: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in tensors.items()}


def _dtype(found: Surveyed, device: torch.device) -> torch.dtype:
    if precision.compute_dtype(device.type) is torch.float32:
        return torch.float32
    return found.shards.dtypes[weights.HEAD]


def _robot(folder: Path, robot: Embodiment | None) -> Embodiment:
    path = folder / checkpoint.EMBODIMENT
    if path.is_file():
        stored = Embodiment.from_json(path.read_text(encoding="utf-8"))
        if robot is not None:
            robot.require_same(stored, f"checkpoint {folder}")
        return stored
    if robot is None:
        raise VlaError(
            f"{folder} does not say which robot it moves; say it once with "
            f"`python -m vla_policy.openvla.adopt {folder} --robot ...`, or hand over `robot`"
        )
    return robot


def _reading(folder: Path, robot: Embodiment, action_head: ActionHead) -> Reading:
    path = folder / reading.FILE
    if path.is_file():
        return Reading.from_json(path.read_text(encoding="utf-8"))
    return reading.usual(robot, action_head)


def _tokenizer(folder: Path) -> Tokenizer:
    path = folder / checkpoint.TOKENIZER
    if not path.is_file():
        raise VlaError(f"{folder} lacks {path.name}; copy it from openvla/openvla-7b, whose tokenizer it is")
    return checkpoint.read_tokenizer(path)
