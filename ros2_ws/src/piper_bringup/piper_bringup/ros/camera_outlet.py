"""The topics of one camera, whoever makes its images: a device or the twin."""

# pyright: basic
# ROS messages carry no types.

from __future__ import annotations

import dataclasses

from rclpy.node import Node
from sensor_msgs.msg import CameraInfo, CompressedImage
from sensor_msgs.msg import Image as ImageMessage

from piper_bringup.cameras.calibration import Calibration
from vla_policy import topics
from vla_policy.camera_image import fit_image
from vla_policy.embodiment import Camera
from vla_policy.ros import convert, qos
from vla_policy.types import Image


class CameraOutlet:
    """Publishes images with their calibration; any one thread may use it."""

    def __init__(self, node: Node, camera: Camera, calibration: Calibration | None = None) -> None:
        """Offer the camera's topics.

        Args:
            node: Owner of the publishers.
            camera: Name and field of view, for images that were not calibrated.
            calibration: Of the lens, at the size of the images.
        """
        self._camera = camera
        self._calibration = calibration
        self._fitted = node.create_publisher(ImageMessage, topics.fitted_image(camera.name), qos.STREAM)
        self._raw = node.create_publisher(ImageMessage, topics.image(camera.name), qos.STREAM)
        self._jpeg = node.create_publisher(CompressedImage, topics.compressed(camera.name), qos.STREAM)
        self._info = node.create_publisher(CameraInfo, topics.camera_info(camera.name), qos.STREAM)

    def publish(self, image: Image, stamp: float) -> None:
        """Send an RGB image taken at `stamp` [s]; work that nobody subscribes to is left out.

        Raises:
            VlaError: a policy listens, and the image is smaller than what it reads, or too narrow.
        """
        name = self._camera.name
        if self._fitted.get_subscription_count():  # first: the robot waits for it
            self._fitted.publish(convert.image_message(fit_image(image, self._camera), name, stamp))
        if self._raw.get_subscription_count():
            self._raw.publish(convert.image_message(image, name, stamp))
        if self._jpeg.get_subscription_count():
            self._jpeg.publish(convert.jpeg_message(image, name, stamp))
        if self._info.get_subscription_count():
            self._info.publish(self._info_message(image, stamp))

    def _info_message(self, image: Image, stamp: float) -> CameraInfo:
        height, width, _ = image.shape
        pinhole = convert.camera_info_message(dataclasses.replace(self._camera, height=height, width=width), stamp)
        lens = self._calibration
        if lens is None:
            return pinhole
        return CameraInfo(
            header=pinhole.header,
            height=lens.height,
            width=lens.width,
            distortion_model=lens.model,
            d=lens.distortion,
            k=lens.camera_matrix,
            r=lens.rectification,
            p=lens.projection,
        )
