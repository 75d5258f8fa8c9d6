"""What a forward and a backward pass of the published network cost, reckoned from its sizes: operations and memory.

Operations are those of matrix products and attention, two for each multiplication with its addition; everything else
is counted as free, so that what follows is a floor. Memory is what the backward pass reads, in the weights' precision:
of a layer of the language model the two norms' inputs and outputs, queries, keys, values and what attention gives, and
four times the width between the two halves of the MLP; of a layer of the towers likewise.

T tokens.
"""

from __future__ import annotations

from collections.abc import Mapping

from vla_policy.openvla.config import OpenVlaConfig, TowerConfig
from vla_policy.tokenizer import NUM_BINS

_KEPT_LLAMA, _KEPT_MLP = 8, 4
"""Tensors kept of a layer of the language model, as wide as it and as wide as its MLP."""
_KEPT_TOWER, _KEPT_TOWER_MLP = 9, 2


def num_tokens(config: OpenVlaConfig, prompt_tokens: int) -> int:
    """Length of the sequence; `prompt_tokens` without BOS."""
    images = config.num_cameras * config.num_image_tokens
    return 1 + images + config.use_proprio + prompt_tokens + config.num_action_tokens + 1


def forward_flops(config: OpenVlaConfig, prompt_tokens: int) -> dict[str, float]:
    """Operations of one observation's forward pass, by part."""
    length, hidden = num_tokens(config, prompt_tokens), config.hidden_size
    narrow = hidden * config.num_kv_heads // config.num_heads
    attention = 2 * length * (2 * hidden * hidden + 2 * hidden * narrow) + 4 * length * length * hidden
    mlp_of_a_token = 2 * 3 * hidden * config.intermediate_size
    read = (config.num_layers - 1) * length + config.num_action_tokens  # the last layer's MLP sees what is read
    features = config.dinov2.width + config.siglip.width
    projector = 4 * features * features + 4 * features * hidden + hidden * hidden
    proprio = config.use_proprio * (config.state_dim * hidden + hidden * hidden)
    return {
        "llama": config.num_layers * attention + read * mlp_of_a_token,
        "dinov2": config.num_cameras * _tower_flops(config, config.dinov2),
        "siglip": config.num_cameras * _tower_flops(config, config.siglip),
        "projectors": 2 * config.num_cameras * config.num_image_tokens * projector + 2 * proprio,
        "head": 2 * config.num_action_tokens * hidden * NUM_BINS,
    }


def learner_flops(config: OpenVlaConfig, prompt_tokens: int, adapters: bool, recomputes: bool) -> float:
    """Operations of one observation's forward and backward pass; adapters' own, under 2 %, are left out.

    The backward pass needs as many as the forward one for the gradients of what flows through, and as many again for
    those of the weights, which are not needed where adapters are trained.
    """
    passes = 1 + (1 if adapters else 2) + recomputes
    return passes * sum(forward_flops(config, prompt_tokens).values())


def activation_bytes(config: OpenVlaConfig, prompt_tokens: int, recomputes: bool, bytes_a_number: int = 2) -> int:
    """Memory that the backward pass of one observation keeps; recomputing keeps one number a token, width and layer."""
    length, hidden = num_tokens(config, prompt_tokens), config.hidden_size
    a_layer = length * (_KEPT_LLAMA * hidden + _KEPT_MLP * config.intermediate_size)
    towers = [(_tower_tokens(config, tower), tower) for tower in (config.dinov2, config.siglip)]
    in_towers = [tokens * (_KEPT_TOWER * tower.width + _KEPT_TOWER_MLP * tower.mlp_width) for tokens, tower in towers]
    blocks = [tower.num_blocks - 1 for _, tower in towers]
    if recomputes:
        inputs = config.num_layers * length * hidden
        of_towers = sum(count * tokens * tower.width for count, (tokens, tower) in zip(blocks, towers, strict=True))
        kept = inputs + a_layer + config.num_cameras * of_towers
    else:
        of_towers = sum(count * each for count, each in zip(blocks, in_towers, strict=True))
        kept = config.num_layers * a_layer + config.num_cameras * of_towers
    return bytes_a_number * kept


def training_bytes(num_weights: int, num_trained: int, bytes_a_weight: int, num_ranks: int = 1) -> Mapping[str, float]:
    """Memory of weights and optimiser on every GPU, by what it holds.

    Args:
        num_weights: Of the network.
        num_trained: All of them, or those of the adapters.
        bytes_a_weight: As the weights answer, 2 for bfloat16.
        num_ranks: Processes that share the training of all weights; adapters are the same in all.
    """
    whole = num_trained == num_weights
    shared = num_ranks if whole else 1
    single = 0 if bytes_a_weight == 4 and shared == 1 else 4
    return {
        "weights": num_weights * bytes_a_weight,
        "copies": num_trained * single / shared,
        "gradients": 4 * num_trained / shared,
        "moments": 8 * num_trained / shared,
    }


def _tower_tokens(config: OpenVlaConfig, tower: TowerConfig) -> int:
    return config.num_image_tokens + tower.num_prefix_tokens


def _tower_flops(config: OpenVlaConfig, tower: TowerConfig) -> float:
    tokens, width = _tower_tokens(config, tower), tower.width
    block = 2 * tokens * (4 * width * width + 2 * width * tower.mlp_width) + 4 * tokens * tokens * width
    patches = 2 * config.num_image_tokens * 3 * tower.patch_size**2 * width
    return (tower.num_blocks - 1) * block + patches
