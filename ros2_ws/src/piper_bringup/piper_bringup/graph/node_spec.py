"""One process of a graph, described once and started either by `ros2 launch` or by `start`."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Mapping
from pathlib import Path

import yaml

Value = bool | int | float | str | list[str]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class NodeSpec:
    """A Python module that is a ROS node."""

    module: str
    """Run as `python -m module`, with the interpreter of the starter: a virtual environment is kept."""
    name: str
    """What its output is marked with."""
    parameters: Mapping[str, Value] = dataclasses.field(default_factory=dict[str, Value])
    is_essential: bool = True
    """Whether the graph ends when this process does."""
    uses_terminal: bool = False
    """Whether it reads keys."""

    def command(self, parameter_file: Path) -> list[str]:
        """The command line that starts it, with its parameters in `parameter_file`."""
        return [sys.executable, "-m", self.module, "--ros-args", "--params-file", str(parameter_file)]

    def parameter_text(self) -> str:
        """Contents of its parameter file; the wildcard serves every node in the process."""
        return yaml.safe_dump({"/**": {"ros__parameters": dict(self.parameters)}})
