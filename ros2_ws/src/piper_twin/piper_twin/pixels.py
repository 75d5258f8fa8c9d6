"""What happens to an image between the renderer and the policy: sensor noise, and averaging down."""

from __future__ import annotations

import functools

import numpy as np
import numpy.typing as npt

from vla_policy.types import Image


def average_down(images: Image, size: int) -> Image:
    """Square images (..., H, H, 3) as (..., size, size, 3), each pixel the mean of a block of `H / size` squared."""
    factor = images.shape[-2] // size
    if factor == 1:
        return images
    zero = np.zeros((), dtype=np.uint16)
    rows = sum((images[..., offset::factor, :, :] for offset in range(factor)), start=zero)
    blocks = sum((rows[..., offset::factor, :] for offset in range(factor)), start=zero)
    return ((blocks + factor * factor // 2) // (factor * factor)).astype(np.uint8)


def add_noise(images: Image, deviation: float, rng: np.random.Generator) -> Image:
    """Images with normal noise of a standard deviation [of 255]; `rng` picks which stretch of a fixed noise record."""
    record = noise_record(deviation, 2 * images.size)
    start = int(rng.integers(images.size))
    noisy = images + record[start : start + images.size].reshape(images.shape)
    return np.clip(noisy, 0, 255).astype(np.uint8)


@functools.cache
def noise_record(deviation: float, length: int) -> npt.NDArray[np.int16]:
    """Drawing this anew for every image would take as long as rendering it."""
    return np.round(np.random.default_rng(0).normal(0.0, deviation, length)).astype(np.int16)
