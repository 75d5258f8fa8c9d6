"""Publishes what the control loop measured and sent, from a thread of its own: DDS never delays a tick."""

# pyright: basic
# ROS messages carry no types.

from __future__ import annotations

import collections

import numpy as np
from rclpy.node import Node
from sensor_msgs.msg import JointState

from piper_bringup.control.loop_thread import LoopThread
from piper_bringup.control.stamps import Stamps
from piper_bringup.control.states import Tick
from vla_policy import topics
from vla_policy.embodiment import Embodiment
from vla_policy.ros import convert, qos

PERIOD = 0.005
"""Between two looks at what there is to publish [s]."""
MAX_WAITING = 400
"""Ticks; when more wait, the oldest are lost."""


class TickOutlet:
    """The topics of measured and of sent joints."""

    def __init__(self, node: Node, embodiment: Embodiment, stamps: Stamps) -> None:
        """Publish what is put in, from now on."""
        self._names, self._stamps, self._context = embodiment.joint_names, stamps, node.context
        self._waiting: collections.deque[Tick] = collections.deque(maxlen=MAX_WAITING)
        self._measured = node.create_publisher(JointState, topics.JOINT_STATES, qos.FAST_STREAM)
        self._sent = node.create_publisher(JointState, topics.JOINT_COMMANDS, qos.FAST_STREAM)
        self._thread = LoopThread(self._publish, PERIOD)
        self._thread.start()

    def stop(self) -> None:
        """Publish no more."""
        self._thread.stop()

    def put(self, tick: Tick) -> None:
        """For the control thread: never waits."""
        self._waiting.append(tick)

    def _publish(self, now: float) -> None:
        del now
        try:
            for _ in range(len(self._waiting)):
                self._publish_tick(self._waiting.popleft())
        except Exception:
            if self._context.ok():  # otherwise ROS was shut down, and the node ends soon
                raise

    def _publish_tick(self, tick: Tick) -> None:
        stamp = self._stamps.to_message(tick.now)
        if np.isfinite(tick.measured).all():
            self._measured.publish(convert.joint_state_message(self._names, tick.measured, stamp))
        if tick.command is not None:
            self._sent.publish(convert.joint_state_message(self._names, tick.command, stamp))
