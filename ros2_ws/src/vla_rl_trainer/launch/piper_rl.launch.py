"""Training as a launched process: ros2 launch vla_rl_trainer piper_rl.launch.py demos:=data/bell task:=click_bell."""

import sys

from launch import LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, EmitEvent, ExecuteProcess, OpaqueFunction
from launch.events import Shutdown

ARGUMENTS = {
    "task": ("click_bell", "Task of the twin to train on."),
    "demos": ("", "Demonstrations to fine-tune on first: a LeRobotDataset v3.0 folder, as import_bags writes it."),
    "model": ("", "Policy to start from; empty: the base that ships. Without demos it must be fine-tuned already."),
    "preset": ("ours", "Of GRPO: ours or paper."),
    "output": ("runs/train", "Folder for everything the run leaves behind."),
    "resume": ("true", "Go on with what is in output; false refuses a folder that exists."),
    "seed": ("0", "Of everything but the evaluation worlds."),
}


def _train(context: LaunchContext) -> list[ExecuteProcess]:
    told = {name: context.launch_configurations[name] for name in ARGUMENTS}
    words = ["--tasks", told["task"], "--preset", told["preset"], "--out", told["output"], "--seed", told["seed"]]
    words += ["--resume" if told["resume"].lower() == "true" else "--no-resume"]
    for name in ("demos", "model"):
        words += [f"--{name}", told[name]] if told[name] else []
    command = [sys.executable, "-m", "vla_rl_trainer.train", *words]
    return [ExecuteProcess(cmd=command, name="train", output="screen", on_exit=[EmitEvent(event=Shutdown())])]


def generate_launch_description() -> LaunchDescription:
    """The training process, for ros2 launch."""
    declared = [DeclareLaunchArgument(name, default_value=value, description=text)
                for name, (value, text) in ARGUMENTS.items()]  # fmt: skip
    return LaunchDescription([*declared, OpaqueFunction(function=_train)])
