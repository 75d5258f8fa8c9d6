"""Still images: PNG bytes, and the square the network sees."""

from __future__ import annotations

import io

import numpy as np
import numpy.typing as npt
from PIL import Image

from vla_policy.errors import VlaError

# T = frames, H = height, W = width
Frames = npt.NDArray[np.uint8]


def encode_png(image_HW3: Frames) -> bytes:
    """Lossless bytes of one RGB image."""
    buffer = io.BytesIO()
    Image.fromarray(image_HW3).save(buffer, format="PNG", compress_level=4)
    return buffer.getvalue()


def decode_image(data: bytes, owner: str) -> Frames:
    """RGB image (H, W, 3) of PNG or JPEG bytes.

    Args:
        data: The file's content.
        owner: What holds it, for the error.

    Raises:
        VlaError: the bytes are not such an image.
    """
    try:
        with Image.open(io.BytesIO(data), formats=("PNG", "JPEG")) as image:
            return np.asarray(image.convert("RGB"))
    except (OSError, ValueError, SyntaxError) as error:
        raise VlaError(f"{owner} holds an image that cannot be read; restore the file from its origin") from error


def square_images(images_THW3: Frames, size: int) -> Frames:
    """Cut the middle square out of every image and scale it.

    Args:
        images_THW3: RGB images.
        size: Side of the result [px]. Where it divides the square evenly each pixel is the mean of its block,
            otherwise the scaling is bilinear with antialiasing.

    Returns:
        Images (T, size, size, 3).

    Raises:
        VlaError: `size` is not positive.
    """
    if size < 1:
        raise VlaError(f"image size {size} px is not positive; 64 to 256 are usual")
    height, width = images_THW3.shape[1:3]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    images_THW3 = images_THW3[:, top : top + side, left : left + side]
    if side == size:
        return images_THW3
    pictures = (Image.fromarray(image) for image in images_THW3)
    if side % size == 0:
        scaled = (picture.reduce(side // size) for picture in pictures)
    else:
        scaled = (picture.resize((size, size), Image.Resampling.BILINEAR) for picture in pictures)
    return np.stack([np.asarray(picture) for picture in scaled])
