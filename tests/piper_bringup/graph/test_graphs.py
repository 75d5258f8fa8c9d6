"""One list of processes a graph: twin and arms differ in driver and cameras only, both starters start the same."""

import importlib.util
import runpy
import sys
import types
from pathlib import Path

import pytest

from piper_bringup import start
from piper_bringup.graph.graphs import GRAPHS, EvaluateArguments, RealArguments, SimArguments, TeleopRecordArguments
from piper_twin.robot import DUAL_PIPER
from vla_policy.embodiment import Embodiment
from vla_policy.errors import VlaError
from vla_policy.launch_arguments import arguments_of, fill, parse

LAUNCH = Path(__file__).parents[3] / "ros2_ws" / "src" / "piper_bringup" / "launch"

TOLD = {
    "sim": ["checkpoint:=runs/x", "seed:=3", "bag_dir:=bags"],
    "real": ["checkpoint:=runs/x", "emulate:=true", "left_can:=can7", "view:=true"],
    "teleop_record": ["source:=keyboard", "task:=pick_bottle"],
    "evaluate": ["where:=real", "emulate:=true", "num_trials:=5", "policy:=rl"],
}


def by_name(specs):
    return {spec.name: spec for spec in specs}


def test_sim_and_real_share_everything_but_the_driver_and_the_cameras():
    common = dict(checkpoint="runs/x", instruction="ring", bag_dir="bags", view=True)
    twin = by_name(GRAPHS["sim"].nodes(SimArguments(**common)))
    arms = by_name(GRAPHS["real"].nodes(RealArguments(**common)))
    assert arms.keys() - twin.keys() == {"cameras"}
    assert {name for name in twin if twin[name] != arms[name]} == {"robot"}
    assert twin["robot"].module == arms["robot"].module


def test_emulated_arms_are_the_real_graph_with_another_bus_and_the_twins_cameras():
    real = by_name(GRAPHS["real"].nodes(RealArguments()))
    emulated = by_name(GRAPHS["real"].nodes(RealArguments(emulate=True)))
    differs = {"bustype": "piper_loopback", "speed_percent": 100}
    assert dict(emulated["robot"].parameters) == dict(real["robot"].parameters) | differs
    assert (emulated.keys() - real.keys(), real.keys() - emulated.keys()) == ({"emulator"}, {"cameras"})
    assert emulated["policy"] == real["policy"]


@pytest.mark.parametrize("name", GRAPHS)
def test_the_robot_is_the_first_process_so_that_it_ends_last(name):
    graph = GRAPHS[name]
    assert graph.nodes(fill(graph.arguments, parse(TOLD[name])))[0].name == "robot"


@pytest.mark.parametrize("name", GRAPHS)
def test_every_process_is_a_module_that_exists(name):
    graph = GRAPHS[name]
    for spec in graph.nodes(fill(graph.arguments, parse(TOLD[name]))):
        assert importlib.util.find_spec(spec.module), spec.module


@pytest.mark.parametrize("name", GRAPHS)
def test_every_argument_is_described(name):
    assert [argument.name for argument in arguments_of(GRAPHS[name].arguments) if not argument.description] == []


def test_teleoperation_has_no_policy_and_the_evaluator_starts_it_itself():
    teleop = by_name(GRAPHS["teleop_record"].nodes(TeleopRecordArguments()))
    assert "policy" not in teleop
    assert {"robot", "teleop", "recorder"} <= teleop.keys()
    evaluate = by_name(GRAPHS["evaluate"].nodes(EvaluateArguments()))
    assert evaluate["policy"].parameters["autostart"] is False
    assert evaluate["evaluator"].parameters["column"] == "sim"


def test_the_policy_is_held_against_the_robot_it_drives():
    spec = by_name(GRAPHS["real"].nodes(RealArguments()))["policy"]
    assert Embodiment.from_json(Path(str(spec.parameters["embodiment"])).read_text()) == DUAL_PIPER


def test_leaders_may_be_on_another_kind_of_bus_than_the_arms():
    arguments = TeleopRecordArguments(source="leader", leader_left_can="a", leader_interface="piper_loopback")
    parameters = by_name(GRAPHS["teleop_record"].nodes(arguments))["teleop"].parameters
    assert parameters["left_channel"] == "a"
    assert parameters["leader_interface"] == "piper_loopback"


def test_only_what_reads_keys_gets_the_terminal():
    for source, expected in (("keyboard", {"teleop"}), ("leader", set())):
        specs = GRAPHS["teleop_record"].nodes(TeleopRecordArguments(source=source))
        assert {spec.name for spec in specs if spec.uses_terminal} == expected


@pytest.mark.parametrize(
    ("name", "words", "message"),
    [
        ("evaluate", ["where:=moon"], "where is 'moon'; it must be sim or real"),
        ("evaluate", ["emulate:=true"], "emulated arms belong to where:=real"),
    ],
)
def test_graphs_that_cannot_be_are_refused(name, words, message):
    graph = GRAPHS[name]
    with pytest.raises(VlaError, match=message):
        graph.nodes(fill(graph.arguments, parse(words)))


def test_start_names_the_graphs_and_shows_their_arguments(capsys):
    assert start.main([]) == 2
    told = capsys.readouterr().err
    assert all(name in told for name in GRAPHS)
    assert start.main(["sim", "--show-args"]) == 0
    assert "checkpoint (default: 'hold')" in capsys.readouterr().out
    assert start.main(["sim", "sed:=1"]) == 2
    assert "there is no argument sed" in capsys.readouterr().err


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
    """launch and launch_ros where they are installed, else stand-ins for their few classes that are rendered to."""
    monkeypatch.delitem(sys.modules, "piper_bringup.ros.launching", raising=False)
    if importlib.util.find_spec("launch_ros") is None:
        modules = {
            "launch": ("LaunchContext", "LaunchDescription"),
            "launch.actions": ("DeclareLaunchArgument", "OpaqueFunction", "SetEnvironmentVariable", "Shutdown"),
            "launch_ros": (),
            "launch_ros.actions": ("Node",),
        }
        for module, names in modules.items():
            made = types.ModuleType(module)
            for name in names:
                setattr(made, name, type(name, (StandIn,), {}))
            monkeypatch.setitem(sys.modules, module, made)
    made_with = []
    node = importlib.import_module("launch_ros.actions").Node
    usual = node.__init__
    monkeypatch.setattr(node, "__init__", lambda self, **fields: made_with.append(fields) or usual(self, **fields))
    yield made_with
    sys.modules.pop("piper_bringup.ros.launching", None)


@pytest.mark.parametrize("name", GRAPHS)
def test_launch_and_start_start_the_same_processes(launch, name, tmp_path):
    description = runpy.run_path(str(LAUNCH / f"{name}.launch.py"))["generate_launch_description"]()
    graph = GRAPHS[name]
    declared = [one.name for one in description.entities if type(one).__name__ == "DeclareLaunchArgument"]
    assert declared == [argument.name for argument in arguments_of(graph.arguments)]
    told = {argument.name: argument.default for argument in arguments_of(graph.arguments)} | parse(TOLD[name])
    (opaque,) = [one for one in description.entities if type(one).__name__ == "OpaqueFunction"]
    opaque.execute(types.SimpleNamespace(launch_configurations=told))
    launched = [([node["executable"], *node["arguments"]], node["parameters"]) for node in launch]
    specs = graph.nodes(fill(graph.arguments, parse(TOLD[name])))
    assert launched == [(spec.command(tmp_path)[:3], [dict(spec.parameters)]) for spec in specs]
