"""Training on the twin: ros2 launch vla_rl_trainer piper_rl.launch.py demos:=data/bell task:=click_bell."""

from launch import LaunchDescription

from vla_rl_trainer.ros.launching import describe


def generate_launch_description() -> LaunchDescription:
    """The training process, for ros2 launch."""
    return describe("piper_rl")
