"""From what a camera sends to what a policy was made for: the middle of the image, averaged down.

The same for a running robot and for a data set made of its recordings, or the policy would see another picture than the
one it learned from.
"""

from __future__ import annotations

import numpy as np
from PIL import Image as PillowImage

from vla_policy.embodiment import Camera
from vla_policy.errors import VlaError
from vla_policy.types import Image


def fit_image(image: Image, camera: Camera) -> Image:
    """Cut a camera's shape from the middle of an image and average it down to the camera's size.

    The full height is kept, and so the vertical field of view.

    Args:
        image: RGB, shape (height, width, 3).
        camera: The camera as the policy knows it.

    Raises:
        VlaError: the image is smaller than the camera's, or too narrow; names the camera.
    """
    height, width, _ = image.shape
    if (height, width) == (camera.height, camera.width):
        return image
    wanted = round(height * camera.width / camera.height)
    if height < camera.height or width < wanted:
        raise VlaError(
            f"camera {camera.name} sends images of {width} x {height} px, the policy reads {camera.width} x "
            f"{camera.height}; set it to at least that size, and no narrower"
        )
    left = (width - wanted) // 2
    middle = PillowImage.fromarray(np.ascontiguousarray(image[:, left : left + wanted]))
    return np.asarray(middle.resize((camera.width, camera.height), PillowImage.Resampling.BOX))
