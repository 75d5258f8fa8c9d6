"""Which world comes next, as parameters that anybody may set: task, seed and split."""

# pyright: basic
# ROS messages carry no types.

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rcl_interfaces.msg import ParameterDescriptor, SetParametersResult
from rclpy.node import Node
from rclpy.parameter import Parameter

from piper_twin.episode import SPLITS, Episode
from piper_twin.tasks import TASKS, find_task
from vla_policy.errors import VlaError

_DESCRIPTIONS = {
    "task": f"Of the next reset: {', '.join(TASKS)}.",
    "seed": "Of the next reset, from 0.",
    "split": f"Random streams of the next reset: {', '.join(SPLITS)}.",
}


class EpisodeParameters:
    """Values that name no world are refused when they are set, with the reason."""

    def __init__(self, node: Node, first: Episode) -> None:
        """Declare them; `first` are the defaults.

        Raises:
            VlaError: what was given at the start names no world.
        """
        self._node = node
        for name, description in _DESCRIPTIONS.items():
            node.declare_parameter(name, getattr(first, name), ParameterDescriptor(description=description))
        self.episode()
        node.add_on_set_parameters_callback(self._judge)

    def episode(self, changes: Sequence[Parameter] = ()) -> Episode:
        """The world they name, once `changes` are made.

        Raises:
            VlaError: they name none.
        """
        values: dict[str, Any] = {name: self._node.get_parameter(name).value for name in _DESCRIPTIONS}
        values |= {change.name: change.value for change in changes if change.name in values}
        find_task(values["task"])
        return Episode(**values)

    def _judge(self, changes: Sequence[Parameter]) -> SetParametersResult:
        try:
            self.episode(changes)
        except VlaError as error:
            return SetParametersResult(successful=False, reason=str(error))
        return SetParametersResult(successful=True)
