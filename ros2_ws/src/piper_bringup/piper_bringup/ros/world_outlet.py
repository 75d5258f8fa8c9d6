"""What a live world tells the graph."""

# pyright: basic
# ROS messages carry no types.

from __future__ import annotations

import dataclasses
import json
import threading

from geometry_msgs.msg import Quaternion, Transform, Vector3
from rclpy.node import Node
from sensor_msgs.msg import MultiDOFJointState
from std_msgs.msg import Header, String

from piper_bringup.live_world import LiveWorld
from piper_bringup.ros.camera_outlet import CameraOutlet
from piper_twin.robot import DUAL_PIPER
from vla_policy import topics
from vla_policy.ros import convert, qos


class WorldOutlet:
    """Publishes a world's cameras, objects, episode and instruction; any thread may use it."""

    def __init__(self, node: Node, world: LiveWorld) -> None:
        """Offer the topics."""
        self._world = world
        self.lost: frozenset[str] = frozenset()
        """Cameras that send nothing."""
        self._one_at_a_time = threading.Lock()
        self._cameras = {camera.name: CameraOutlet(node, camera) for camera in DUAL_PIPER.cameras}
        self._objects = node.create_publisher(MultiDOFJointState, topics.WORLD_OBJECTS, qos.STREAM)
        self._episode = node.create_publisher(String, topics.WORLD_EPISODE, qos.LATCHED)
        self._instruction = node.create_publisher(String, topics.INSTRUCTION, qos.LATCHED)

    def announce(self) -> None:
        """Tell which episode this is, and what the robot shall do in it."""
        told = dataclasses.asdict(self._world.episode) | {"randomization": self._world.randomization}
        self._episode.publish(String(data=json.dumps(told)))
        self._instruction.publish(String(data=self._world.instruction))

    def look(self, stamp: float) -> None:
        """Send what the cameras see now, at `stamp` [s], and where the objects are."""
        with self._one_at_a_time:
            for name, image in self._world.images().items():
                if name not in self.lost:
                    self._cameras[name].publish(image, stamp)
            if self._objects.get_subscription_count():
                self._objects.publish(self._objects_message(stamp))

    def _objects_message(self, stamp: float) -> MultiDOFJointState:
        poses = {name: pose.tolist() for name, pose in self._world.moment.objects().items()}
        return MultiDOFJointState(
            header=Header(stamp=convert.to_time(stamp), frame_id="world"),
            joint_names=list(poses),
            transforms=[
                Transform(translation=Vector3(x=x, y=y, z=z), rotation=Quaternion(w=qw, x=qx, y=qy, z=qz))
                for x, y, z, qw, qx, qy, qz in poses.values()
            ],
        )
