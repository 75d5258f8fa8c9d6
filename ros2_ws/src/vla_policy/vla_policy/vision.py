"""Image encoder of the small presets: stride-2 convolutions, one for all cameras.

Reaching for things asks for precision more than for depth, so the pixels get their coordinates as two extra channels,
the first convolutions keep the fine detail, and nothing pools before the token grid.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from vla_policy.config import VlaConfig
from vla_policy.errors import VlaError


class ConvEncoder(nn.Module):
    """Images to a grid of feature vectors."""

    coordinates: Tensor

    def __init__(self, config: VlaConfig) -> None:
        super().__init__()
        self._size = config.image_size
        layers: list[nn.Module] = []
        width = 5  # RGB, x, y
        for channels in config.vision_channels:
            layers += [nn.Conv2d(width, channels, 3, stride=2, padding=1), nn.GELU()]
            if config.vision_residuals:
                layers.append(ResidualConv(channels))
            width = channels
        self.layers = nn.Sequential(*layers)
        for module in self.layers.modules():
            if isinstance(module, nn.Conv2d) and module.bias is not None:
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                nn.init.zeros_(module.bias)
        axis = torch.linspace(-1.0, 1.0, self._size)
        grid = torch.stack(torch.meshgrid(axis, axis, indexing="xy"))
        self.register_buffer("coordinates", grid[None], persistent=False)

    def forward(self, images_NHW3: Tensor) -> Tensor:
        """Encode uint8 images.

        Returns:
            Features, shape (N, tokens, channels), tokens row by row.
        """
        pixels = shrink(images_NHW3, self._size)
        coordinates = self.coordinates.expand(len(pixels), -1, -1, -1)
        planes = torch.cat((pixels, coordinates), dim=1).contiguous(memory_format=torch.channels_last)
        return self.layers(planes).flatten(2).transpose(1, 2)


class ResidualConv(nn.Module):
    """One pre-normalised 3x3 convolution around which the signal can pass."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(8, channels)
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, planes: Tensor) -> Tensor:
        """Add the convolution of the normalised input."""
        return planes + functional.gelu(self.conv(self.norm(planes)))


def shrink(images_NHW3: Tensor, size: int) -> Tensor:
    """Average uint8 images down to `size` and scale them to [-1, 1].

    Returns:
        Planes of shape (N, 3, size, size), channels last in memory.

    Raises:
        VlaError: height or width is no multiple of `size`.
    """
    height, width = images_NHW3.shape[1:3]
    if height % size or width % size or not height or not width:
        raise VlaError(f"images are {height} x {width} px; this policy reads multiples of {size} x {size}")
    planes = images_NHW3.permute(0, 3, 1, 2).to(torch.float32)
    if (height, width) != (size, size):
        planes = functional.avg_pool2d(planes, (height // size, width // size))
    return planes / 127.5 - 1.0
