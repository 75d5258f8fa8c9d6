"""`config.json` of a published folder: what of it decides the network, read strictly; and made for networks of ours.

Sizes of the vision towers are not written there but follow from names of timm's; they are taken from the weights. The
depth of towers that are not the published ones is that of the weights, the dead last block included.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from vla_policy.errors import VlaError
from vla_policy.normalization import DatasetStatistics
from vla_policy.openvla.config import (
    MEANS,
    STDS,
    VOCABULARY_PADDING,
    ActionHead,
    Colours,
    OpenVlaConfig,
    TowerConfig,
)
from vla_policy.openvla.reading import Reading

FILE = "config.json"
PROCESSOR = "preprocessor_config.json"
MODEL_TYPE = "openvla"
AUTO_MAP = frozenset(
    {
        "configuration_prismatic.OpenVLAConfig",
        "modeling_prismatic.OpenVLAForActionPrediction",
        "processing_prismatic.PrismaticImageProcessor",
        "processing_prismatic.PrismaticProcessor",
    }
)
"""Classes that published folders name; nothing here looks for them."""

_DINOV2, _SIGLIP = "vision_backbone.featurizer", "vision_backbone.fused_featurizer"
_PUBLISHED_BLOCKS = {(_DINOV2, 1024): 24, (_SIGLIP, 1152): 27}
"""Depth by width: a folder may lack the last block, which is dead weight, and must not be read as a shallower tower."""
_TIMM = ("vit_large_patch14_reg4_dinov2.lvd142m", "vit_so400m_patch14_siglip_224")
_FIXED = {
    "use_fused_vision_backbone": True,
    "arch_specifier": "no-align+fused-gelu-mlp",
    "image_resize_strategy": "resize-naive",
    "n_action_bins": 256,
}
"""Keys that change the network, and the only values known here."""
_FIXED_TEXT = {
    "model_type": "llama",
    "rms_norm_eps": 1e-6,
    "rope_theta": 10000.0,
    "rope_scaling": None,
    "hidden_act": "silu",
    "attention_bias": False,
    "tie_word_embeddings": False,
}
_LLAMA_2 = {"hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32, "num_attention_heads": 32}
"""What `config.json` leaves out, being `transformers`' defaults."""

Shapes = Mapping[str, tuple[int, ...]]


def read(folder: Path) -> dict[str, Any]:
    """Read `config.json` as plain JSON.

    Raises:
        VlaError: it is damaged.
    """
    return _json(folder / FILE)


def network_config(
    folder: Path, shapes: Shapes, reading: Reading, statistics: DatasetStatistics, action_head: ActionHead
) -> OpenVlaConfig:
    """Gather what decides the network.

    Args:
        folder: The published folder.
        shapes: Of all published weights, `.pt` files included.
        reading: How the folder is to be read.
        statistics: Of the data set it reads with.
        action_head: Whether actions come as tokens or from an L1 head.

    Raises:
        VlaError: something is missing, or of a kind unknown here.
    """
    numbers = _numbers(folder)
    means, stds = _colours(folder)
    return OpenVlaConfig(
        camera_names=reading.camera_names,
        image_size=numbers["image_size"],
        hidden_size=numbers["hidden_size"],
        intermediate_size=numbers["intermediate_size"],
        num_layers=numbers["num_hidden_layers"],
        num_heads=numbers["num_attention_heads"],
        num_kv_heads=numbers["num_key_value_heads"],
        dinov2=_tower(shapes, _DINOV2, folder),
        siglip=_tower(shapes, _SIGLIP, folder),
        chunk_length=reading.chunk_length,
        action_dim=statistics.action.size,
        use_proprio=statistics.proprio.size > 0,
        state_dim=statistics.proprio.size,
        text_vocab_size=numbers["vocab_size"],
        vocabulary_padding=numbers["padding"],
        action_frame=reading.action_frame,
        normalisation=reading.normalisation,
        statistics_key=reading.statistics_key or "",
        decoding=reading.decoding,
        images=reading.images,
        means=means,
        stds=stds,
        action_head=action_head,
    )


def make(config: OpenVlaConfig, datasets: Mapping[str, Any]) -> dict[str, Any]:
    """`config.json` for a network that was not read from a published folder."""
    return {
        "architectures": ["OpenVLAForActionPrediction"],
        "auto_map": {
            "AutoConfig": "configuration_prismatic.OpenVLAConfig",
            "AutoModelForVision2Seq": "modeling_prismatic.OpenVLAForActionPrediction",
        },
        "model_type": MODEL_TYPE,
        **_FIXED,
        "hf_llm_id": "meta-llama/Llama-2-7b-hf",
        "image_sizes": [config.image_size, config.image_size],
        "llm_backbone_id": "llama2-7b-pure",
        "llm_max_length": 2048,
        "norm_stats": dict(datasets),
        "output_projector_states": False,
        "pad_to_multiple_of": config.vocabulary_padding,
        "pad_token_id": 32000,
        "timm_model_ids": list(_TIMM),
        "timm_override_act_layers": [None, None],
        "vision_backbone_id": "dinosiglip-vit-so-224px",
        "text_config": {
            "model_type": "llama",
            "vocab_size": config.text_vocab_size,
            "pad_token_id": 32000,
            "hidden_size": config.hidden_size,
            "intermediate_size": config.intermediate_size,
            "num_hidden_layers": config.num_layers,
            "num_attention_heads": config.num_heads,
            "num_key_value_heads": config.num_kv_heads,
            "rms_norm_eps": _FIXED_TEXT["rms_norm_eps"],
        },
    }


def _numbers(folder: Path) -> dict[str, int]:
    """Sizes that `config.json` states or leaves to `transformers`' defaults."""
    config = read(folder)
    text = config.get("text_config") or {}
    _require(config, _FIXED, folder)
    _require(text, _FIXED_TEXT, folder)
    try:
        numbers = {key: int(text.get(key) or default) for key, default in _LLAMA_2.items()}
        sizes = {int(size) for size in config.get("image_sizes", [224, 224])}
        numbers["vocab_size"] = int(text["vocab_size"])
        numbers["padding"] = int(config.get("pad_to_multiple_of", VOCABULARY_PADDING))
    except (KeyError, TypeError, ValueError) as error:
        raise VlaError(f"{folder / FILE} is incomplete ({error}); download it again") from error
    if len(sizes) != 1:
        raise VlaError(f"{folder / FILE}: image_sizes {sorted(sizes)} differ; only one size for both towers is known")
    heads = numbers["num_attention_heads"]
    return numbers | {"image_size": sizes.pop(), "num_key_value_heads": int(text.get("num_key_value_heads") or heads)}


def _require(found: Mapping[str, Any], fixed: Mapping[str, Any], folder: Path) -> None:
    for key, value in fixed.items():
        if key in found and found[key] != value:
            raise VlaError(
                f"{folder / FILE}: {key} is {found[key]!r}; only {value!r} is known here, the published OpenVLA-OFT's"
            )


def _tower(shapes: Shapes, prefix: str, folder: Path) -> TowerConfig:
    numbers = [int(match[1]) for name in shapes if (match := re.match(rf"{re.escape(prefix)}\.blocks\.(\d+)\.", name))]
    try:
        width, _, patch_size, _ = shapes[f"{prefix}.patch_embed.proj.weight"]
        mlp_width = shapes[f"{prefix}.blocks.0.mlp.fc1.weight"][0]
        registers = shapes[f"{prefix}.reg_token"][1] if f"{prefix}.cls_token" in shapes else None
    except (KeyError, ValueError, IndexError) as error:
        raise VlaError(
            f"{folder} lacks weights of a vision tower ({error}); it is no OpenVLA folder with two towers, or not whole"
        ) from error
    return TowerConfig(
        width=width,
        num_blocks=_PUBLISHED_BLOCKS.get((prefix, width), max(numbers) + 1),
        mlp_width=mlp_width,
        patch_size=patch_size,
        num_registers=registers,
    )


def _colours(folder: Path) -> tuple[Colours, Colours]:
    """Means and deviations of both towers; the file's are rounded to bfloat16, and networks were trained with them."""
    path = folder / PROCESSOR
    if not path.is_file():
        return MEANS, STDS
    try:
        towers: Sequence[Mapping[str, Sequence[float]]] = _json(path)["tvf_normalize_params"]
        values = [[tuple(float(number) for number in tower[key]) for tower in towers] for key in ("mean", "std")]
    except (KeyError, TypeError, ValueError) as error:
        raise VlaError(f"{path} lacks the normalisation of the images ({error}); download it again") from error
    if any(len(kind) != 2 or any(len(colours) != 3 for colours in kind) for kind in values):
        raise VlaError(f"{path} does not normalise three colours for two towers; download it again")
    means, stds = (cast("Colours", tuple(kind)) for kind in values)
    return means, stds


def _json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise VlaError(f"{path} cannot be read ({error}); download it again") from error
    if not isinstance(content, dict):
        raise VlaError(f"{path} is no JSON object; download it again")
    return content
