"""A policy by name, and the refusal of one that does not fit the robot."""

import dataclasses

import numpy as np
import pytest

from vla_policy.baselines import HoldPolicy, RandomPolicy, ReplayPolicy
from vla_policy.errors import VlaError
from vla_policy.policy import VlaPolicy
from vla_policy.policy_source import PolicySource, load_policy


@pytest.fixture
def robot_file(robot, tmp_path):
    path = tmp_path / "embodiment.json"
    path.write_text(robot.to_json())
    return path


@pytest.fixture
def checkpoint(policy, tmp_path):
    policy.save(tmp_path / "checkpoint")
    return str(tmp_path / "checkpoint")


@pytest.fixture(autouse=True)
def keep_the_number_of_threads():
    import torch

    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_a_checkpoint_is_loaded_with_its_own_robot(checkpoint, robot):
    loaded = load_policy(PolicySource(checkpoint=checkpoint, decoding="argmax"))
    assert isinstance(loaded.policy, VlaPolicy) and loaded.policy.decoding == "argmax"
    assert loaded.embodiment == robot
    loaded.warm_up()


def test_the_checkpoint_decides_on_the_decoding_unless_told(checkpoint, policy):
    loaded = load_policy(PolicySource(checkpoint=checkpoint))
    assert isinstance(loaded.policy, VlaPolicy) and loaded.policy.decoding == policy.config.decoding


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda robot: {"cameras": robot.cameras[:1]}, "cameras .*'wrist'"),
        (lambda robot: {"joints": (dataclasses.replace(robot.joints[0], name="neck"), *robot.joints[1:])}, "'neck'"),
        (lambda robot: {"joints": (dataclasses.replace(robot.joints[0], upper=1.0), *robot.joints[1:])}, "shoulder"),
        (lambda robot: {"control_period": 0.05}, "control period of 0.04 s"),
    ],
)
def test_a_checkpoint_of_another_robot_is_refused_saying_what_differs(checkpoint, robot, tmp_path, change, named):
    other = tmp_path / "other.json"
    other.write_text(dataclasses.replace(robot, **change(robot)).to_json())
    with pytest.raises(VlaError, match=named):
        load_policy(PolicySource(checkpoint=checkpoint, embodiment=other))


def test_a_missing_checkpoint_is_refused(tmp_path):
    with pytest.raises(VlaError, match="there is no checkpoint folder"):
        load_policy(PolicySource(checkpoint=str(tmp_path / "nothing")))


def test_a_device_that_is_not_there_is_refused(checkpoint):
    with pytest.raises(VlaError, match="device 'nonsense' cannot be used"):
        load_policy(PolicySource(checkpoint=checkpoint, device="nonsense"))


@pytest.mark.parametrize(("name", "kind"), [("hold", HoldPolicy), ("random", RandomPolicy)])
def test_baselines_go_by_name(robot_file, robot, name, kind):
    loaded = load_policy(PolicySource(checkpoint=name, embodiment=robot_file))
    assert isinstance(loaded.policy, kind) and loaded.embodiment == robot
    loaded.warm_up()


def test_a_baseline_needs_to_be_told_of_the_robot(tmp_path):
    with pytest.raises(VlaError, match=r"policy 'hold' knows no robot; give its embodiment\.json"):
        load_policy(PolicySource(checkpoint="hold"))
    with pytest.raises(VlaError, match=r"embodiment\.json of the robot"):
        load_policy(PolicySource(checkpoint="hold", embodiment=tmp_path / "nothing.json"))


def test_a_recording_is_replayed(robot_file, tmp_path):
    recording = tmp_path / "joints.npy"
    np.save(recording, np.zeros((10, 3), np.float32))
    loaded = load_policy(PolicySource(checkpoint=f"replay:{recording}", embodiment=robot_file))
    assert isinstance(loaded.policy, ReplayPolicy)
    with pytest.raises(VlaError, match="cannot be replayed"):
        load_policy(PolicySource(checkpoint=f"replay:{tmp_path}/none.npy", embodiment=robot_file))
