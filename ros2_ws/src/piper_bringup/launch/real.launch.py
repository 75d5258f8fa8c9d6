"""Two Pipers and a policy: ros2 launch piper_bringup real.launch.py --show-args tells its arguments."""

from launch import LaunchDescription

from piper_bringup.graph.graphs import GRAPHS
from piper_bringup.ros.launching import describe


def generate_launch_description() -> LaunchDescription:
    """The graph, for ros2 launch."""
    return describe(GRAPHS["real"])
