"""Published names of weights and ours, in both directions.

Published vision towers fuse query, key and value; `transformers` keeps them apart. Of the language model's head our
network holds the rows that are actions. What the network does not hold at all is dead weight: the last block of each
tower, the norms after it, SigLIP's pooling. It is carried along and written back, so that other readers find it.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from vla_policy.errors import VlaError
from vla_policy.openvla.config import OpenVlaConfig
from vla_policy.tokenizer import NUM_BINS

HEAD = "language_model.lm_head.weight"
_TOWERS = {
    "vision.dinov2.": "vision_backbone.featurizer.",
    "vision.siglip.": "vision_backbone.fused_featurizer.",
}
_PREFIXES = _TOWERS | {"llama.": "language_model.model.", "l1_head.": "action_head.model."}
_IN_TOWERS = (
    (r"^patches\.", "patch_embed.proj."),
    (r"^positions$", "pos_embed"),
    (r"^class_token$", "cls_token"),
    (r"^registers$", "reg_token"),
    (r"^layers\.", "blocks."),
    (r"\.layer_norm([12])\.", r".norm\1."),
    (r"\.layer_scale([12])\.lambda1$", r".ls\1.scale_factor"),
    (r"\.(attention\.o_proj|attention\.output\.dense|self_attn\.out_proj)\.", ".attn.proj."),
)
"""Ours to published; some names have a second spelling, that of transformers 5.17."""
_FUSED = re.compile(r"\.(?:attention\.attention|attention|self_attn)\.(q|k|v|query|key|value)(?:_proj)?\.")
_NUM_FUSED = 3


@dataclasses.dataclass(frozen=True, slots=True)
class Source:
    """Where a weight of ours lies in a published file."""

    name: str
    first: int | None = None
    """First of the rows that are ours; None: all are."""


def sources(shapes: Mapping[str, tuple[int, ...]], config: OpenVlaConfig) -> dict[str, Source]:
    """Find every weight of the network; `shapes` are the network's, by our names."""
    return {name: _source(name, shape, config) for name, shape in shapes.items()}


def _source(name: str, shape: tuple[int, ...], config: OpenVlaConfig) -> Source:
    if name == "head.weight":
        return Source(HEAD, config.first_action_id)
    for prefix, published in _PREFIXES.items():
        if name.startswith(prefix):
            rest = name.removeprefix(prefix)
            if prefix not in _TOWERS:
                return Source(published + rest)
            for pattern, replacement in _IN_TOWERS:
                rest = re.sub(pattern, replacement, rest)
            if fused := _FUSED.search(rest):
                return Source(published + _FUSED.sub(".attn.qkv.", rest), "qkv".index(fused[1][0]) * shape[0])
            return Source(published + rest)
    return Source(name)


def layer_name(name: str, config: OpenVlaConfig) -> str:
    """Published name of a linear layer of ours, whatever `transformers` calls it; ends in q, k or v where qkv is fused.

    Args:
        name: Ours, such as `vision.siglip.layers.0.self_attn.q_proj`.
        config: Of the network.
    """
    found = _source(f"{name}.weight", (1,), config)
    stem = found.name.removesuffix(".weight")
    return stem if found.first is None else stem.removesuffix("qkv") + "qkv"[found.first]


def published_shapes(shapes: Mapping[str, tuple[int, ...]], config: OpenVlaConfig) -> dict[str, tuple[int, ...]]:
    """Names and shapes that a folder must have for the network."""
    published: dict[str, tuple[int, ...]] = {}
    for name, source in sources(shapes, config).items():
        rows, *others = shapes[name] or (0,)
        if source.name == HEAD:
            rows = config.text_vocab_size
        elif source.first is not None:
            rows *= _NUM_FUSED
        published[source.name] = (rows, *others) if shapes[name] else ()
    return published


def is_dead(name: str, config: OpenVlaConfig) -> bool:
    """Whether a published weight takes part in nothing."""
    for tower, published in ((config.dinov2, "featurizer"), (config.siglip, "fused_featurizer")):
        last = tower.num_blocks - 1
        if re.match(rf"vision_backbone\.{published}\.(blocks\.{last}\.|norm\.|attn_pool\.)", name):
            return True
    return False


def idle_dead(config: OpenVlaConfig) -> dict[str, Tensor]:
    """Dead weights for a network that came from no folder: zeros, for readers that insist on finding some."""
    shapes: dict[str, tuple[int, ...]] = {}
    for tower, published in ((config.dinov2, "featurizer"), (config.siglip, "fused_featurizer")):
        width, mlp, prefix = tower.width, tower.mlp_width, f"vision_backbone.{published}."
        layers = {"attn.qkv": (3 * width, width), "attn.proj": (width, width)}
        layers |= {"mlp.fc1": (mlp, width), "mlp.fc2": (width, mlp), "norm1": (width,), "norm2": (width,)}
        block = f"{prefix}blocks.{tower.num_blocks - 1}."
        shapes |= _with_bias(block, layers) | _with_bias(prefix, {"norm": (width,)})
        if tower.num_registers is not None:
            shapes |= {f"{block}ls{number}.scale_factor": (width,) for number in (1, 2)}
        else:
            pool = {"q": (width, width), "kv": (2 * width, width), "proj": (width, width), "norm": (width,)}
            pool |= {"mlp.fc1": (mlp, width), "mlp.fc2": (width, mlp)}
            shapes |= _with_bias(f"{prefix}attn_pool.", pool) | {f"{prefix}attn_pool.latent": (1, 1, width)}
    return {name: torch.zeros(shape) for name, shape in shapes.items()}


def _with_bias(prefix: str, layers: Mapping[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
    weights = {f"{prefix}{name}.weight": shape for name, shape in layers.items()}
    return weights | {f"{prefix}{name}.bias": shape[:1] for name, shape in layers.items()}


def require_fitting(
    found: Mapping[str, tuple[int, ...]], expected: Mapping[str, tuple[int, ...]], config: OpenVlaConfig, owner: str
) -> None:
    """Refuse a folder whose weights are not the network's.

    Raises:
        VlaError: names the first weights that are missing, unknown, or of another shape.
    """
    unknown = sorted(name for name in found.keys() - expected.keys() if not is_dead(name, config))
    for what, names in (("lacks", sorted(expected.keys() - found.keys())), ("has unknown", unknown)):
        if names:
            raise VlaError(
                f"{owner} {what} weights {', '.join(names[:3])} ({len(names)} in all); "
                "download the whole folder again, or take one that is OpenVLA-OFT's"
            )
    for name, shape in expected.items():
        if found[name] != shape:
            raise VlaError(
                f"{owner}: {name} has shape {found[name]}, the rest of the folder asks for {shape}; "
                "files of different checkpoints were mixed, download the whole folder again"
            )


def collect(
    shapes: Mapping[str, tuple[int, ...]], config: OpenVlaConfig, read: Callable[[str, int | None, int], Tensor]
) -> dict[str, Tensor]:
    """Gather the network's weights, by our names.

    Args:
        shapes: The network's, by our names.
        config: Of the network.
        read: Published name, first row or None, number of rows, to a tensor.
    """
    return {
        name: read(source.name, source.first, shapes[name][0] if shapes[name] else 0)
        for name, source in sources(shapes, config).items()
    }


def publish(weights: Mapping[str, Tensor], carried: Mapping[str, Tensor], config: OpenVlaConfig) -> Published:
    """Make a network's weights, and what was carried along, readable by published names."""
    parts: dict[str, list[Tensor]] = {}
    found = sources({name: tuple(tensor.shape) for name, tensor in weights.items()}, config)
    for name in sorted(weights, key=lambda name: (found[name].name, found[name].first or 0)):
        parts.setdefault(found[name].name, []).append(weights[name].detach())
    for name, tensor in carried.items():
        parts.setdefault(name, [tensor])
    return Published(parts=parts, vocabulary=carried.get(HEAD), config=config)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Published:
    """Weights by published names, put together one at a time."""

    parts: Mapping[str, list[Tensor]]
    vocabulary: Tensor | None
    """The language model's whole head, as it was read."""
    config: OpenVlaConfig

    def num_values(self, name: str) -> int:
        """Numbers in a weight."""
        config = self.config
        if name == HEAD:
            return config.text_vocab_size * config.hidden_size
        return sum(part.numel() for part in self.parts[name])

    def tensor(self, name: str, dtype: torch.dtype | None) -> Tensor:
        """One weight, on the CPU; `dtype` None keeps its own."""
        parts = [part.to("cpu", dtype or part.dtype) for part in self.parts[name]]
        if name != HEAD:
            return torch.cat(parts).contiguous() if len(parts) > 1 else parts[0].contiguous()
        rows, first = parts[0], self.config.first_action_id
        if self.vocabulary is None:
            whole = rows.new_zeros(self.config.text_vocab_size, rows.shape[1])
        else:
            whole = self.vocabulary.to(rows.dtype, copy=True)
        whole[first : first + NUM_BINS] = rows
        return whole
