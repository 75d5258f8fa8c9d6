"""Faults through everything that runs beside real arms: CAN, piper_sdk, robot_node, cameras, policy_node."""

import sys

import pytest

from piper_bringup.fault_matrix.cases import cases
from piper_bringup.fault_matrix.play import play
from piper_bringup.fault_matrix.stage import Stage

pytestmark = pytest.mark.ros

CASES = {case.name: case for case in cases()}


@pytest.fixture
def stage(ros_domain, tmp_path, monkeypatch):
    from piper_bringup.ros.fault_operator import FaultOperator

    monkeypatch.setenv("PIPER_LOOPBACK_DIR", str(tmp_path / "bus"))
    made = Stage(tmp_path, sys.stdout, FaultOperator)
    yield made
    made.close()


@pytest.mark.parametrize("name", ["bus off", "limits corrupted"])
def test_a_fault_leaves_the_arms_held_is_named_and_recovered_from(stage, name):
    record = play(CASES[name], "left", stage)
    assert record.problems == (), record
    assert (record.disables, record.resets) == (0, 0)
