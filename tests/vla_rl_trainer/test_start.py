"""Launching a training run: `start` and `ros2 launch` take the same arguments and start the same process."""

import importlib.util
import os
import runpy
import subprocess
import sys
import types
from pathlib import Path

import pytest

from vla_policy.errors import VlaError
from vla_policy.launch_arguments import arguments_of, fill, parse
from vla_rl_trainer import start, train
from vla_rl_trainer.start import LAUNCHES, LiberoRlArguments, PiperRlArguments

LAUNCH = Path(__file__).parents[2] / "ros2_ws" / "src" / "vla_rl_trainer" / "launch"

TOLD = {
    "piper_rl": ["demos:=data/bell", "task:=pick_bottle", "resume:=false", "preset:=paper"],
    "libero_rl": ["suite:=libero_goal", "tasks:=0,3", "model:=tiny", "num_demos:=2", "wandb:=offline"],
}


def test_every_launch_file_is_one_that_start_knows():
    assert {path.name.removesuffix(".launch.py") for path in LAUNCH.glob("*.launch.py")} == set(LAUNCHES)


@pytest.mark.parametrize("kind", LAUNCHES.values())
def test_every_argument_is_described(kind):
    assert [argument.name for argument in arguments_of(kind) if not argument.description] == []


def test_the_twin_is_trained_on_as_told():
    config = fill(PiperRlArguments, parse(TOLD["piper_rl"])).config()
    assert (config.tasks, config.demos, config.model) == (("pick_bottle",), (Path("data/bell"),), None)
    assert (config.resume, config.preset, config.out) == (False, "paper", Path("runs/train"))


def test_libero_is_trained_on_as_told(monkeypatch):
    monkeypatch.delenv("WANDB_MODE", raising=False)
    config = fill(LiberoRlArguments, parse([*TOLD["libero_rl"], "sft_steps:=7", "split:=official"])).config()
    assert os.environ.pop("WANDB_MODE") == "offline"
    assert (config.tasks, config.size, config.num_demos) == (("libero_goal/0", "libero_goal/3"), "tiny", 2)
    assert (config.sft.num_steps, config.sft.batch_size, config.libero.states) == (7, 128, "official")


@pytest.mark.parametrize(
    ("words", "episodes"),
    [
        ([], 2000),
        (["play_episodes:=9"], 9),
        (["play_episodes:=0"], 0),
        (["model:=runs/x/checkpoints/step_000100"], 0),
        (["suite:=libero_object,libero_spatial,libero_goal,libero_10"], 0),
    ],
)
def test_a_fresh_network_plays_first_where_a_suite_is_left(words, episodes):
    assert fill(LiberoRlArguments, parse(words)).config().play_episodes == episodes


def test_a_network_of_seven_billion_is_trained_by_adapters():
    words = ["model:=models/openvla", "lora:=32", "learning_rate:=1e-4", "micro_batch:=8", "preset:=paper"]
    learner = fill(LiberoRlArguments, parse(words)).config().learner
    assert (learner.lora.rank, learner.learning_rate, learner.micro_batch, learner.shuffle) == (32, 1e-4, 8, False)


@pytest.mark.parametrize(
    ("words", "num_demos"),
    [
        ([], 10),
        (["num_demos:=1"], 1),
        (["model:=runs/x/checkpoints/step_000100"], 0),
        (["model:=models/openvla", "num_demos:=3"], 3),
        (["demos:=data/object"], 0),
    ],
)
def test_a_fresh_network_gets_demonstrations_and_a_checkpoint_goes_straight_to_rl(words, num_demos):
    assert fill(LiberoRlArguments, parse(words)).config().num_demos == num_demos


def test_several_suites_are_one_run():
    config = LiberoRlArguments(suite="libero_object, libero_spatial", perturbations="camera,pose").config()
    assert len(config.benchmark.tasks) == 20
    assert config.perturbations == ("camera", "pose")


@pytest.mark.parametrize(
    ("name", "words", "message"),
    [
        ("libero_rl", ["suite:=libero_objects"], "suite 'libero_objects' does not exist; choose one of"),
        ("libero_rl", ["tasks:=12"], "write SUITE/0 to SUITE/9"),
        ("libero_rl", ["suite:=libero_goal,libero_10", "tasks:=1"], "tasks are numbers of one suite"),
        ("libero_rl", ["suite:="], "no task was given"),
        ("libero_rl", ["split:=test"], "split is 'test'; choose one of held_out, official"),
        ("libero_rl", ["wandb:=on"], "wandb is 'on'; choose one of online, offline, disabled"),
        ("libero_rl", ["eval_only:=true"], "give the folder of a policy"),
        ("libero_rl", ["perturbations:=noise"], "perturbations are LIBERO's"),
        ("libero_rl", ["num_demos:=0"], "give --demos"),
        ("libero_rl", ["sft_steps:=0"], "num_steps is 0"),
        ("libero_rl", ["preset:=best"], "preset is 'best'; choose one of ours, paper"),
        ("libero_rl", ["lora:=-1"], "rank is -1"),
        ("piper_rl", ["preset:=best"], "preset is 'best'; choose one of ours, paper"),
        ("piper_rl", ["tsk:=x"], "there is no argument tsk"),
        ("piper", [], "there is no launch 'piper'; choose one of piper_rl, libero_rl"),
    ],
)
def test_what_cannot_be_launched_is_one_line(name, words, message, monkeypatch):
    monkeypatch.setattr(train, "main", lambda config: pytest.fail("it was started"))
    with pytest.raises(VlaError, match=message):
        start.main([name, *words])


def test_start_shows_the_arguments(capsys):
    assert start.main(["libero_rl", "--show-args"]) == 0
    shown = capsys.readouterr().out
    assert "suite (default: 'libero_object')" in shown
    assert "eval_only (default: 'false')" in shown


def test_a_mistake_ends_the_process_with_one_line():
    child = subprocess.run(
        [sys.executable, "-m", "vla_rl_trainer.start", "libero_rl", "split:=test"],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (child.returncode, child.stderr) == (2, "error: split is 'test'; choose one of held_out, official\n")


class StandIn:
    """Stands for a class of `launch`: keeps what it was made with, as far as a launch file uses it."""

    def __init__(self, *args, **fields):
        self.args, self.fields = args, fields
        self.entities = args[0] if args else []
        self.name = args[0] if args else None

    def execute(self, context):
        return self.fields["function"](context)


@pytest.fixture
def launch(monkeypatch):
    """The commands of processes made; stand-ins for `launch` where it is not installed."""
    monkeypatch.delitem(sys.modules, "vla_rl_trainer.ros.launching", raising=False)
    if importlib.util.find_spec("launch_ros") is None:  # folders named launch are no package
        modules = {
            "launch": ("LaunchContext", "LaunchDescription"),
            "launch.actions": ("DeclareLaunchArgument", "EmitEvent", "ExecuteProcess", "OpaqueFunction"),
            "launch.events": ("Shutdown",),
        }
        for module, names in modules.items():
            made = types.ModuleType(module)
            for name in names:
                setattr(made, name, type(name, (StandIn,), {}))
            monkeypatch.setitem(sys.modules, module, made)
    commands = []
    process = importlib.import_module("launch.actions").ExecuteProcess
    usual = process.__init__
    monkeypatch.setattr(
        process, "__init__", lambda self, **fields: commands.append(fields["cmd"]) or usual(self, **fields)
    )
    yield commands
    sys.modules.pop("vla_rl_trainer.ros.launching", None)


@pytest.mark.parametrize("name", LAUNCHES)
def test_ros2_launch_starts_the_same_process(launch, name):
    description = runpy.run_path(str(LAUNCH / f"{name}.launch.py"))["generate_launch_description"]()
    arguments = arguments_of(LAUNCHES[name])
    declared = [one.name for one in description.entities if type(one).__name__ == "DeclareLaunchArgument"]
    assert declared == [argument.name for argument in arguments]
    told = {argument.name: argument.default for argument in arguments} | parse(TOLD[name])
    (opaque,) = [one for one in description.entities if type(one).__name__ == "OpaqueFunction"]
    opaque.execute(types.SimpleNamespace(launch_configurations=told))
    ((*command, words),) = [(*one[:4], one[4:]) for one in launch]
    assert command == [sys.executable, "-m", "vla_rl_trainer.start", name]
    assert fill(LAUNCHES[name], parse(words)) == fill(LAUNCHES[name], parse(TOLD[name]))
