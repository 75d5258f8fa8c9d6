"""What happens to images between renderer and policy, on their device; the arithmetic of `piper_twin.pixels`."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from piper_twin.pixels import noise_record

_AT_ONCE = 256
"""Images whose noise is in memory at one time."""


def average_down(images: Tensor, size: int) -> Tensor:
    """Square images (..., H, H, 3) as (..., size, size, 3), each pixel the mean of a block of `H / size` squared."""
    *lead, height, _, channels = images.shape
    factor = height // size
    if factor == 1:
        return images
    blocks = images.reshape(*lead, size, factor, size, factor, channels).sum(dim=(-4, -2), dtype=torch.int32)
    return ((blocks + factor * factor // 2) // (factor * factor)).to(torch.uint8)


def noise_begins(rngs: Sequence[np.random.Generator], size: int, device: torch.device) -> Tensor:
    """Where in a record of noise each world's next pictures, of `size` bytes, get theirs; as the CPU draws it."""
    return torch.tensor([int(rng.integers(size)) for rng in rngs], device=device)


def add_noise(images: Tensor, deviation: float, begins: Tensor) -> None:
    """Add normal noise of a standard deviation [of 255] to images (B, ...) in place, the same that the CPU adds.

    Args:
        images: Bytes.
        deviation: Of the noise.
        begins: Of each world, from `noise_begins`.
    """
    size = images[0].numel()
    stretches = _record(deviation, size, images.device).unfold(0, size, 1)
    for first in range(0, len(images), _AT_ONCE):
        part = images[first : first + _AT_ONCE]
        noise = stretches[begins[first : first + _AT_ONCE]]
        part[:] = (part.reshape(noise.shape) + noise).clamp_(0, 255).to(torch.uint8).reshape(part.shape)


@functools.lru_cache(maxsize=4)
def _record(deviation: float, size: int, device: torch.device) -> Tensor:
    return torch.from_numpy(noise_record(deviation, 2 * size)).to(device)
