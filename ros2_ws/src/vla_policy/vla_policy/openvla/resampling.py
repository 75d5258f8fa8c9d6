"""Scaling images as TensorFlow and Pillow do: one matrix a side, in double precision.

Every scaling here is separable and linear, so it is two matrix products, whatever the batch and the device. Doubles
keep what is truncated afterwards from depending on the device: a GPU may multiply floats with ten bits.

N images, H and W pixels.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import torch
from torch import Tensor


def lanczos3(planes_N3HW: Tensor, size: int) -> Tensor:
    """Scale by Lanczos3 with antialiasing, as `tf.image.resize` does; values are not rounded."""
    return _apply(planes_N3HW, size, _lanczos_matrix)


def bicubic(planes_N3HW: Tensor, size: int) -> Tensor:
    """Scale as Pillow does with bytes: columns, rounded, then rows, rounded."""
    height, width = planes_N3HW.shape[-2:]
    if width != size:
        planes_N3HW = to_bytes(planes_N3HW @ _cubic_matrix(width, size, str(planes_N3HW.device)).T)
    if height != size:
        planes_N3HW = to_bytes(_cubic_matrix(height, size, str(planes_N3HW.device)) @ planes_N3HW)
    return planes_N3HW


def crop_middle(planes_N3HW: Tensor, area: float, size: int) -> Tensor:
    """Cut out the middle that has `area` of the image and scale it bilinearly, as TensorFlow's `crop_and_resize`."""
    return _apply(planes_N3HW, size, functools.partial(_crop_matrix, area))


def to_bytes(planes: Tensor) -> Tensor:
    """Round half to even and clip to 0..255; stays floating."""
    return planes.round().clamp(0, 255)


def _apply(planes_N3HW: Tensor, size: int, matrix: Callable[[int, int, str], Tensor]) -> Tensor:
    device = str(planes_N3HW.device)
    height, width = planes_N3HW.shape[-2:]
    return matrix(height, size, device) @ planes_N3HW @ matrix(width, size, device).T


@functools.lru_cache(maxsize=32)
def _lanczos_matrix(old: int, new: int, device: str) -> Tensor:
    def kernel(x: Tensor) -> Tensor:
        return torch.sinc(x) * torch.sinc(x / 3)

    return _filter(old, new, 3.0, kernel).to(device)


@functools.lru_cache(maxsize=32)
def _cubic_matrix(old: int, new: int, device: str) -> Tensor:
    def kernel(x: Tensor) -> Tensor:
        near = (1.5 * x - 2.5) * x * x + 1  # Keys' with a = -0.5
        far = -0.5 * (((x - 5) * x + 8) * x - 4)
        return torch.where(x < 1, near, far)

    return _filter(old, new, 2.0, kernel).to(device)


def _filter(old: int, new: int, radius: float, kernel: Callable[[Tensor], Tensor]) -> Tensor:
    """Rows of weights that sum to one, shape (new, old); the kernel widens where the image shrinks."""
    scale = old / new
    width = max(scale, 1.0)
    centres = (torch.arange(new, dtype=torch.float64) + 0.5) * scale
    distances = ((torch.arange(old, dtype=torch.float64) + 0.5)[None] - centres[:, None]).abs() / width
    weights = torch.where(distances < radius, kernel(distances), 0.0)
    return weights / weights.sum(1, keepdim=True)


@functools.lru_cache(maxsize=32)
def _crop_matrix(area: float, old: int, new: int, device: str) -> Tensor:
    side = math.sqrt(area)
    first, last = (1 - side) / 2 * (old - 1), (1 + side) / 2 * (old - 1)
    positions = torch.linspace(first, last, new, dtype=torch.float64)
    distances = (torch.arange(old, dtype=torch.float64)[None] - positions[:, None]).abs()
    return (1 - distances).clamp(min=0).to(device)
