"""The graphs without `ros2 launch`, for machines where ROS came from pip.

    python -m piper_bringup.start sim checkpoint:=runs/demo/grpo/checkpoints/step_000020
    python -m piper_bringup.start real --show-args

Graphs, arguments and processes are those of the launch files.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from piper_bringup.graph.graphs import GRAPHS, Graph
from piper_bringup.graph.processes import running
from vla_policy.errors import VlaError
from vla_policy.launch_arguments import arguments_of, fill, parse


def main(words: Sequence[str]) -> int:
    """Start a graph and wait for its end; the exit code is the worst of its processes, 2 for bad arguments."""
    try:
        graph, rest = _graph(words)
        if {"--show-args", "-s", "--help", "-h"} & set(rest):
            print(_help(graph))
            return 0
        specs = graph.nodes(fill(graph.arguments, parse(rest)))
    except VlaError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    with running(specs) as processes:
        try:
            return processes.wait()
        except KeyboardInterrupt:
            return 0


def _graph(words: Sequence[str]) -> tuple[Graph, Sequence[str]]:
    if not words or words[0] not in GRAPHS:
        given = f"there is no graph '{words[0]}'" if words else "no graph was given"
        known = "\n".join(f"  {name:<14} {graph.description}" for name, graph in GRAPHS.items())
        raise VlaError(f"{given}; choose one of\n{known}")
    return GRAPHS[words[0]], words[1:]


def _help(graph: Graph) -> str:
    lines = [
        f"  {argument.name} (default: '{argument.default}')\n      {argument.description}"
        for argument in arguments_of(graph.arguments)
    ]
    return "\n".join([graph.description, "", "Arguments (name:=value):", *lines])


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
