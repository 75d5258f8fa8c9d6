"""A dataclass is the schema of a node's parameters."""

import dataclasses
from pathlib import Path
from typing import Literal

import pytest
import rclpy
from rclpy.node import Node
from rclpy.parameter import Parameter

from vla_policy.errors import VlaError
from vla_policy.ros.parameters import declare

pytestmark = pytest.mark.ros


@dataclasses.dataclass(frozen=True, kw_only=True)
class CameraConfig:
    """What the tests declare."""

    device: str
    """Which camera,
    by serial."""
    rate: float = 30.0
    """[Hz]."""
    count: int = 2
    mode: Literal["run", "shadow"] = "run"
    folder: Path | None = None
    names: tuple[str, ...] = ("head",)
    is_on: bool = True

    def __post_init__(self):
        """Refuse what cannot be."""
        if self.rate <= 0:
            raise VlaError(f"rate is {self.rate}; give more than 0")


@pytest.fixture
def node_with(ros_domain):
    rclpy.init()
    made = []

    def make(**values):
        overrides = [Parameter(name, value=value) for name, value in values.items()]
        made.append(Node(f"node{len(made)}", parameter_overrides=overrides))
        return made[-1]

    yield make
    for node in made:
        node.destroy_node()
    rclpy.shutdown()


def test_defaults_and_given_values_fill_the_dataclass(node_with):
    given = node_with(device="a1", rate=15, folder="/tmp/x", names=["left", "right"], mode="shadow")
    config = declare(given, CameraConfig)
    assert config == CameraConfig(device="a1", rate=15.0, folder=Path("/tmp/x"), names=("left", "right"), mode="shadow")
    assert isinstance(config.rate, float)


def test_parameters_are_described_by_the_docstrings_and_read_only(node_with):
    node = node_with(device="a1")
    declare(node, CameraConfig)
    assert node.describe_parameter("device").description == "Which camera, by serial."
    assert node.describe_parameter("rate").description == "[Hz]."
    assert not node.set_parameters([Parameter("rate", value=5.0)])[0].successful


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "device is missing; give it with -p device:=VALUE"),
        ({"device": "a", "rate": "fast"}, "rate is 'fast'; it must be a number"),
        ({"device": "a", "count": 1.5}, "count is 1.5; it must be a whole number"),
        ({"device": "a", "is_on": 1}, "is_on is 1; it must be true or false"),
        ({"device": "a", "mode": "walk"}, "mode is 'walk'; it must be one of run, shadow"),
        ({"device": "a", "names": "head"}, "names is 'head'; it must be a list"),
        ({"device": "a", "rate": -1.0}, "rate is -1.0; give more than 0"),
    ],
)
def test_wrong_values_are_refused_with_the_remedy(node_with, given, message):
    with pytest.raises(VlaError, match=message):
        declare(node_with(**given), CameraConfig)


def test_an_empty_list_is_no_list_of_one_empty_name(node_with):
    assert declare(node_with(device="a", names=[""]), CameraConfig).names == ()
