"""Training on LIBERO: ros2 launch vla_rl_trainer libero_rl.launch.py --show-args tells its arguments."""

from launch import LaunchDescription

from vla_rl_trainer.ros.launching import describe


def generate_launch_description() -> LaunchDescription:
    """The training process, for ros2 launch."""
    return describe("libero_rl")
