"""The two vision towers, DINOv2 with registers and SigLIP, in `transformers`' layers.

Features are the output of the block before the last, without the final norm: that block, the norm and SigLIP's
pooling are never built. Departures of `transformers` from the published weights' own library are undone: SigLIP's
activation is the exact GELU, positions cover patches alone, and the class token comes before the registers.

N images, H and W pixels, P patches, W width.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from vla_policy.openvla.config import OpenVlaConfig, TowerConfig
from vla_policy.sequence import run_layer

_LAYER_NORM_EPSILON = 1e-6


class Tower(nn.Module):
    """A vision transformer up to the block whose features are read."""

    recomputes: bool = False
    """As in `sequence.ActionSequence`."""

    def __init__(
        self, config: TowerConfig, image_size: int, layer: Callable[[], nn.Module], arguments: tuple[Any, ...] = ()
    ) -> None:
        """Build it around `num_blocks` - 1 of `layer`, which is called with tokens and `arguments`."""
        super().__init__()
        width = config.width
        self.patches = nn.Conv2d(3, width, config.patch_size, stride=config.patch_size)
        self.positions = nn.Parameter(torch.zeros(1, (image_size // config.patch_size) ** 2, width))
        if config.num_registers is not None:
            self.class_token = nn.Parameter(torch.zeros(1, 1, width))
            self.registers = nn.Parameter(torch.zeros(1, config.num_registers, width))
        self.layers = nn.ModuleList(layer() for _ in range(config.num_blocks - 1))
        self._num_prefix = config.num_prefix_tokens
        self._arguments = arguments

    def forward(self, planes_N3HW: Tensor) -> Tensor:
        """Encode normalised images, features_NPW."""
        planes_N3HW = planes_N3HW.to(self.patches.weight.dtype)
        tokens = self.patches(planes_N3HW).flatten(2).transpose(1, 2) + self.positions
        if self._num_prefix:
            before = torch.cat((self.class_token, self.registers), dim=1).expand(len(tokens), -1, -1)
            tokens = torch.cat((before.to(tokens.dtype), tokens), dim=1)
        for layer in self.layers:
            tokens = run_layer(layer, tokens, self.recomputes, *self._arguments)
        return tokens[:, self._num_prefix :]


class FusedVision(nn.Module):
    """Images to the features of both towers, side by side, DINOv2's first."""

    means_2311: Tensor
    stds_2311: Tensor

    def __init__(self, config: OpenVlaConfig) -> None:
        super().__init__()
        self._config = config
        size, no_mask = config.image_size, (None,)  # SigLIP's layers insist on being told
        self.dinov2 = Tower(config.dinov2, size, lambda: _dinov2_layer(config.dinov2))
        self.siglip = Tower(config.siglip, size, lambda: _siglip_layer(config.siglip), no_mask)
        for name in ("means_2311", "stds_2311"):
            self.register_buffer(name, torch.empty(2, 3, 1, 1), persistent=False)
        self.fill_buffers(torch.device("cpu"))

    def fill_buffers(self, device: torch.device) -> None:
        """Make what no checkpoint holds; to be called when the network was built without memory."""
        self.means_2311 = torch.tensor(self._config.means, device=device)[..., None, None]
        self.stds_2311 = torch.tensor(self._config.stds, device=device)[..., None, None]

    def forward(self, images_NHW3: Tensor) -> Tensor:
        """Encode uint8 images of the network's size, features_NPW."""
        planes_N3HW = images_NHW3.permute(0, 3, 1, 2).float() / 255
        normalised = [(planes_N3HW - mean) / std for mean, std in zip(self.means_2311, self.stds_2311, strict=True)]
        return torch.cat((self.dinov2(normalised[0]), self.siglip(normalised[1])), dim=-1)


def _dinov2_layer(config: TowerConfig) -> nn.Module:
    from transformers import Dinov2WithRegistersConfig  # takes seconds to import
    from transformers.models.dinov2_with_registers.modeling_dinov2_with_registers import Dinov2WithRegistersLayer

    settings: dict[str, Any] = _settings(config) | {"mlp_ratio": config.mlp_width // config.width}
    return Dinov2WithRegistersLayer(Dinov2WithRegistersConfig(**settings))


def _siglip_layer(config: TowerConfig) -> nn.Module:
    from transformers import SiglipVisionConfig
    from transformers.models.siglip.modeling_siglip import SiglipEncoderLayer

    settings: dict[str, Any] = _settings(config) | {"intermediate_size": config.mlp_width}
    return SiglipEncoderLayer(SiglipVisionConfig(**settings))


def _settings(config: TowerConfig) -> dict[str, Any]:
    return {
        "hidden_size": config.width,
        "num_attention_heads": config.num_heads,
        "hidden_act": "gelu",  # SigLIP's own default is an approximation of it
        "layer_norm_eps": _LAYER_NORM_EPSILON,
        "attn_implementation": "sdpa",
    }
