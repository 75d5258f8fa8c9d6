"""Joints, objects and images for somebody who only looks: received while somebody does, the newest of each."""

# pyright: basic
# ROS messages carry no types.

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
from rclpy.node import Node
from sensor_msgs.msg import Image as ImageMessage
from sensor_msgs.msg import JointState, MultiDOFJointState

from vla_policy import topics
from vla_policy.embodiment import Embodiment
from vla_policy.ros import convert, qos
from vla_policy.types import Image, Vector

Array = npt.NDArray[np.float64]


class WatchedStreams:
    """A mailbox of one letter a topic."""

    def __init__(self, node: Node, embodiment: Embodiment) -> None:
        """Receive nothing yet."""
        self._node, self._embodiment = node, embodiment
        self._kinds: dict[str, Any] = {topics.JOINT_STATES: JointState, topics.WORLD_OBJECTS: MultiDOFJointState}
        self._kinds |= {topics.image(name): ImageMessage for name in embodiment.camera_names}
        self._newest: dict[str, Any] = {}
        self._inlets: list[Any] = []

    def listen(self, is_watched: bool) -> None:
        """Receive if somebody watches, or no longer."""
        if is_watched and not self._inlets:
            for topic, kind in self._kinds.items():
                keep = functools.partial(self._newest.__setitem__, topic)
                self._inlets.append(self._node.create_subscription(kind, topic, keep, qos.NEWEST))
        elif self._inlets and not is_watched:
            for inlet in self._inlets:
                self._node.destroy_subscription(inlet)
            self._inlets.clear()
            self._newest.clear()

    def joints(self) -> Vector | None:
        """What was measured since the last call, shape (num_joints,).

        Raises:
            VlaError: joints are missing.
        """
        message = self._newest.pop(topics.JOINT_STATES, None)
        return None if message is None else convert.to_state(message, self._embodiment)

    def objects(self) -> dict[str, Array]:
        """Pose of each object of the twin: position [m] and orientation (w, x, y, z), shape (7,); empty without one."""
        message = self._newest.get(topics.WORLD_OBJECTS)
        poses: dict[str, Array] = {}
        for name, transform in zip(message.joint_names, message.transforms, strict=True) if message else ():
            place, turn = transform.translation, transform.rotation
            poses[name] = np.array([place.x, place.y, place.z, turn.w, turn.x, turn.y, turn.z])
        return poses

    def images(self) -> Iterator[tuple[str, Image]]:
        """What each camera saw since the last call.

        Raises:
            VlaError: an image cannot be read.
        """
        for name in self._embodiment.camera_names:
            message = self._newest.pop(topics.image(name), None)
            if message is not None:
                yield name, convert.to_image(message)
