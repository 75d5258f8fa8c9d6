"""From a camera's image to what the network reads, as the published checkpoints' training data were made.

All in batched torch on the device of the images. Steps and rounding are TensorFlow's and Pillow's:

- rotation by 180 degrees, where the cameras of the embodiment hang upside down (LIBERO),
- JPEG (`jpeg`), decoded the fast way, which is TensorFlow's default,
- Lanczos3 with antialiasing, rounded to bytes,
- a crop of 0.9 of the area, scaled back bilinearly: 0.9 is the mean of what training cropped at random,
- bicubic scaling to the network's size, which changes nothing where that is the size already.

Bytes come out, so they can be kept for learning; the two normalisations are the network's first step. Tests hold the
steps against Pillow and against sums written out: JPEG is libjpeg's to the bit, Lanczos within 1e-3 of a level before
rounding, the crop equal, bicubic within 2 levels (0.02 on average), which is Pillow's fixed point.
"""

from __future__ import annotations

import torch
from torch import Tensor

from vla_policy.openvla import jpeg, resampling
from vla_policy.openvla.config import ImagePipeline


@torch.no_grad()
def prepare(images_NHW3: Tensor, pipeline: ImagePipeline, size: int) -> Tensor:
    """Bring uint8 images to `size`.

    Args:
        images_NHW3: RGB, of any one size, on any device.
        pipeline: Steps to take.
        size: Side of the square image wanted [px].

    Returns:
        Images, uint8, shape (N, size, size, 3).
    """
    planes = images_NHW3.permute(0, 3, 1, 2)
    has_size = planes.shape[-2:] == (size, size)
    if has_size and pipeline == ImagePipeline(lanczos=pipeline.lanczos):
        return images_NHW3  # scaling by one changes nothing
    if pipeline.rotate_180:
        planes = planes.flip(2, 3)
    if pipeline.jpeg_quality is not None:
        planes = jpeg.round_trip(planes, pipeline.jpeg_quality, fast=True)
    planes = planes.double()
    if pipeline.lanczos and not has_size:
        planes = resampling.to_bytes(resampling.lanczos3(planes, size))
    if pipeline.crop_area is not None:
        # TensorFlow's way from floats in [0, 1] to bytes: times 255.5, truncated.
        shares = resampling.crop_middle(planes, pipeline.crop_area, size) / 255
        planes = (shares.clamp(0, 1) * 255.5).floor().clamp(max=255)
    planes = resampling.bicubic(planes, size)
    return planes.to(torch.uint8).permute(0, 2, 3, 1).contiguous()
