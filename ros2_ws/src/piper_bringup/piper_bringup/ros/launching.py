"""Graphs as launch descriptions: the same node specifications that `start` runs, for `ros2 launch`."""

# pyright: basic, reportMissingImports=false, reportAttributeAccessIssue=false
# launch is part of a ROS installation; pip has none.

from __future__ import annotations

import sys

from launch import LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, OpaqueFunction, SetEnvironmentVariable, Shutdown
from launch_ros.actions import Node

from piper_bringup.graph.graphs import Graph
from piper_bringup.graph.node_spec import NodeSpec
from vla_policy.launch_arguments import arguments_of, fill


def describe(graph: Graph) -> LaunchDescription:
    """The launch description of a graph; `--show-args` shows its arguments."""
    arguments = arguments_of(graph.arguments)

    def nodes(context: LaunchContext) -> list[Node]:
        told = {argument.name: context.launch_configurations[argument.name] for argument in arguments}
        return [_node(spec) for spec in graph.nodes(fill(graph.arguments, told))]

    declared = [
        DeclareLaunchArgument(argument.name, default_value=argument.default, description=argument.description)
        for argument in arguments
    ]
    return LaunchDescription(
        [*declared, SetEnvironmentVariable("PYTHONUNBUFFERED", "1"), OpaqueFunction(function=nodes)]
    )


def _node(spec: NodeSpec) -> Node:
    # No package and our own interpreter: installed console scripts would miss a virtual environment.
    return Node(
        executable=sys.executable,
        arguments=["-m", spec.module],
        exec_name=spec.name,
        parameters=[dict(spec.parameters)],
        output="screen",
        emulate_tty=True,
        on_exit=Shutdown(reason=f"{spec.name} has ended") if spec.is_essential else None,
    )
