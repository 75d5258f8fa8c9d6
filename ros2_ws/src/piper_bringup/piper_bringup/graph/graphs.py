"""What runs when: every graph as a list of processes, rendered by the launch files and by `start` alike.

Simulation and robot share `_brain`: policy, recorder and page are the same processes with the same parameters. They
differ in the driver of the robot_node and in where images come from, nothing else.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from piper_bringup.graph.node_spec import NodeSpec, Value
from piper_bringup.graph.package_files import config_file
from piper_twin.robot import ARMS
from vla_policy.errors import VlaError

_PATIENCE_WITH_THE_TWIN = 2.0
"""A control loop that did not run for so long is held [s]: the world stood still with it, and a browser that draws the
page without a GPU takes every core now and then."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class BrainArguments:
    """What simulation and robot have in common."""

    checkpoint: str = "hold"
    """Folder of the policy, or hold (stays where it is), or random."""
    instruction: str = ""
    """What the policy is told at the start; later ones come on /instruction. The twin's task tells its own."""
    autostart: bool = False
    """Let the policy begin at once, instead of when /policy/run is called."""
    mode: str = "run"
    """run; approve (every chunk waits for the operator); shadow (shown, not sent); dry_run (computed only)."""
    bag_dir: str = ""
    """Folder for recorded episodes; empty: no recorder."""
    view: bool = False
    """Show the robot, its cameras and its state on a page of this machine."""
    view_port: int = 8080
    """Of that page, on 127.0.0.1."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class WorldArguments:
    """Which world of the twin."""

    task: str = "click_bell"
    """Task whose objects are on the table."""
    seed: int = 0
    """World of the evaluation split."""
    randomization: str = "off"
    """off, standard or wide."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ArmArguments:
    """Which arms and cameras."""

    left_can: str = "can_left"
    """CAN interface of the left arm."""
    right_can: str = "can_right"
    """CAN interface of the right arm."""
    cameras: str = ""
    """YAML file with one source a camera; empty: config/cameras.yaml of this package."""
    emulate: bool = False
    """Emulated arms on an emulated bus, moving in the twin, whose cameras are the robot's."""
    speed_percent: int = 0
    """Of the joints' largest speed; 0: 30 for real arms, 100 for emulated ones."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class SimArguments(WorldArguments, BrainArguments):
    """The twin."""

    view: bool = True
    """Show the robot, its cameras and its state on a page of this machine."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class RealArguments(ArmArguments, WorldArguments, BrainArguments):
    """Two Pipers; task, seed and randomization matter to emulated ones only."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class TeleopRecordArguments(RealArguments):
    """Teleoperation into bags."""

    where: str = "sim"
    """sim, or real: two Pipers, or emulated ones with emulate:=true."""
    source: str = "keyboard"
    """leader (two leader arms), keyboard, gamepad, or expert (the task's own, in the twin only)."""
    leader_left_can: str = "can_leader_left"
    """CAN interface of the left leader."""
    leader_right_can: str = "can_leader_right"
    """CAN interface of the right leader."""
    leader_interface: str = "socketcan"
    """python-can interface of both leaders; piper_loopback for emulated ones (python -m piper_bringup.emulator)."""
    bag_dir: str = "bags"
    """Folder for recorded episodes."""
    num_episodes: int = 0
    """Episodes to record without a person, one a world from `seed` on; the twin and source:=expert only."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class EvaluateArguments(RealArguments):
    """Trials of a policy."""

    where: str = "sim"
    """sim, or real: two Pipers judged by the operator, or emulated ones with emulate:=true, judged by the twin."""
    policy: str = "policy"
    """What the policy is called in the table; each checkpoint needs a name of its own."""
    num_trials: int = 20
    """Worlds, from `seed` on; on the robot tries."""
    out: str = "runs/evaluate_graph"
    """Run folder; several policies and places may share it."""


@dataclasses.dataclass(frozen=True, slots=True)
class Graph:
    """Processes that are started together."""

    description: str
    arguments: type[Any]
    nodes: Callable[[Any], list[NodeSpec]]
    """Arguments to processes; the robot's own is the first: it ends last."""


def sim(arguments: SimArguments) -> list[NodeSpec]:
    """The twin in the robot_node's own process."""
    return [_twin(arguments), *_brain(arguments)]


def real(arguments: RealArguments) -> list[NodeSpec]:
    """Two Pipers on CAN."""
    return [*_arms(arguments), *_brain(arguments)]


def teleop_record(arguments: TeleopRecordArguments) -> list[NodeSpec]:
    """A person, or the task's expert, moves the arms; every episode becomes a bag."""
    parameters: dict[str, Value] = {"source": arguments.source}
    if arguments.source == "leader":
        parameters |= _channels(arguments, "leader_{}_can") | {"leader_interface": arguments.leader_interface}
    teleop = NodeSpec(
        module="piper_bringup.ros.teleop_node",
        name="teleop",
        parameters=parameters,
        uses_terminal=arguments.source == "keyboard",
    )
    specs = [*_body(arguments), teleop, *_brain(arguments, has_policy=False)]
    if arguments.num_episodes:
        if arguments.source != "expert":
            raise VlaError("num_episodes is for source:=expert; people start and end their episodes themselves")
        out = f"{arguments.bag_dir}/.trials"
        specs.append(_evaluator(arguments, "expert", arguments.num_episodes, out, record=True))
    return specs


def evaluate(arguments: EvaluateArguments) -> list[NodeSpec]:
    """The graph of `where`, and an evaluator that ends it when all trials are done."""
    evaluator = _evaluator(arguments, arguments.policy, arguments.num_trials, arguments.out)
    return [*_body(arguments), *_brain(arguments), evaluator]


def _evaluator(
    arguments: TeleopRecordArguments | EvaluateArguments, policy: str, count: int, out: str, record: bool = False
) -> NodeSpec:
    column = "emulated" if arguments.emulate else arguments.where
    parameters: dict[str, Value] = {
        "out": out,
        "policy": policy,
        "column": column,
        "tasks": [arguments.task],
        "num_trials": count,
        "first_seed": arguments.seed,
        "record": record,
    }
    return NodeSpec(
        module="vla_rl_trainer.ros.evaluator_node",
        name="evaluator",
        parameters=parameters,
        uses_terminal=column == "real",
    )


def _body(arguments: TeleopRecordArguments | EvaluateArguments) -> list[NodeSpec]:
    if arguments.where not in ("sim", "real"):
        raise VlaError(f"argument where is '{arguments.where}'; it must be sim or real")
    if arguments.where == "sim" and arguments.emulate:
        raise VlaError("emulated arms belong to where:=real; leave emulate:=true out, or say where:=real")
    return [_twin(arguments)] if arguments.where == "sim" else _arms(arguments)


def _twin(arguments: WorldArguments) -> NodeSpec:
    return _robot({"driver": "twin", "stall_timeout": _PATIENCE_WITH_THE_TWIN, **_world(arguments)})


def _arms(arguments: RealArguments) -> list[NodeSpec]:
    robot: dict[str, Value] = {"driver": "piper", **_channels(arguments, "{}_can")}
    if percent := arguments.speed_percent or (100 if arguments.emulate else 0):
        robot["speed_percent"] = percent
    if not arguments.emulate:
        cameras = NodeSpec(
            module="piper_bringup.ros.camera_node",
            name="cameras",
            parameters={"cameras": arguments.cameras or str(config_file("cameras.yaml"))},
        )
        return [_robot(robot), cameras]
    emulator = NodeSpec(
        module="piper_bringup.ros.emulator_node",
        name="emulator",
        parameters={**_channels(arguments, "{}_can"), **_world(arguments)},
    )
    return [_robot({**robot, "bustype": "piper_loopback"}), emulator]


def _robot(parameters: dict[str, Value]) -> NodeSpec:
    return NodeSpec(module="piper_bringup.ros.robot_node", name="robot", parameters=parameters)


def _world(arguments: WorldArguments) -> dict[str, Value]:
    return {"task": arguments.task, "seed": arguments.seed, "randomization": arguments.randomization}


def _channels(arguments: object, argument: str) -> dict[str, Value]:
    """One parameter an arm."""
    return {f"{arm}_channel": getattr(arguments, argument.format(arm)) for arm in ARMS}


def _brain(arguments: BrainArguments, *, has_policy: bool = True) -> list[NodeSpec]:
    specs: list[NodeSpec] = []
    if has_policy:
        parameters: dict[str, Value] = {
            "checkpoint": arguments.checkpoint,
            "embodiment": str(config_file("dual_piper.json")),
            "instruction": arguments.instruction,
            "mode": arguments.mode,
            "autostart": arguments.autostart,
            "fitted_images": True,
        }
        specs.append(NodeSpec(module="vla_policy.ros.policy_node", name="policy", parameters=parameters))
    if arguments.bag_dir:
        specs.append(
            NodeSpec(
                module="piper_bringup.ros.recorder_node",
                name="recorder",
                parameters={"folder": arguments.bag_dir, "instruction": arguments.instruction},
            )
        )
    if arguments.view:
        specs.append(
            NodeSpec(
                module="piper_bringup.ros.view_node",
                name="view",
                parameters={"port": arguments.view_port},
                is_essential=False,
            )
        )
    return specs


GRAPHS: dict[str, Graph] = {
    "sim": Graph("The twin, a policy and a page to watch them.", SimArguments, sim),
    "real": Graph("Two Pipers (emulated ones with emulate:=true), cameras and a policy.", RealArguments, real),
    "teleop_record": Graph("Teleoperation into bags.", TeleopRecordArguments, teleop_record),
    "evaluate": Graph("Trials of a policy on the twin, on emulated or on real arms.", EvaluateArguments, evaluate),
}
"""Every graph by name."""
