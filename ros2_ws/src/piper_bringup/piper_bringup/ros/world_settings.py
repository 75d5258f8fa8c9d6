"""What the twin's world was told to play, asked of the node that holds it."""

# pyright: basic
# ROS messages carry no types.

from __future__ import annotations

from typing import Any

from rcl_interfaces.srv import GetParameters
from rclpy.callback_groups import CallbackGroup
from rclpy.node import Node
from rclpy.parameter import parameter_value_to_python

from vla_policy import topics

NAMES = ("task", "seed", "split", "randomization")


class WorldSettings:
    """Parameters of the node `world`, if there is one."""

    def __init__(self, node: Node, group: CallbackGroup) -> None:
        """Ask through `node`; `group` must let answers in while one of its callbacks waits for them."""
        self._client = node.create_client(GetParameters, f"/{topics.WORLD}/get_parameters", callback_group=group)

    async def ask(self) -> dict[str, object]:
        """Those of `NAMES` that the world knows; empty without a world."""
        told: dict[str, object] = {}
        if not self._client.service_is_ready():
            return told
        for name in NAMES:  # one by one: asked together, an unknown one hides all
            answer: Any = await self._client.call_async(GetParameters.Request(names=[name]))
            if answer.values:
                told[name] = parameter_value_to_python(answer.values[0])
        return told
