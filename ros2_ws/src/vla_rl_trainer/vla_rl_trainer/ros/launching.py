"""Training as a launch description: the process that `start` runs, for `ros2 launch`."""

# pyright: basic, reportMissingImports=false, reportAttributeAccessIssue=false
# launch is part of a ROS installation; pip has none.

from __future__ import annotations

import sys

from launch import LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, EmitEvent, ExecuteProcess, OpaqueFunction
from launch.events import Shutdown

from vla_policy.launch_arguments import arguments_of
from vla_rl_trainer.start import LAUNCHES


def describe(name: str) -> LaunchDescription:
    """The launch description of one of `LAUNCHES`; `--show-args` shows its arguments."""
    arguments = arguments_of(LAUNCHES[name])

    def train(context: LaunchContext) -> list[ExecuteProcess]:
        told = [f"{argument.name}:={context.launch_configurations[argument.name]}" for argument in arguments]
        command = [sys.executable, "-m", "vla_rl_trainer.start", name, *told]
        return [ExecuteProcess(cmd=command, name=name, output="screen", on_exit=[EmitEvent(event=Shutdown())])]

    declared = [
        DeclareLaunchArgument(argument.name, default_value=argument.default, description=argument.description)
        for argument in arguments
    ]
    return LaunchDescription([*declared, OpaqueFunction(function=train)])
