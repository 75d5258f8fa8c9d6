"""A published folder learns once how it is to be read."""

import dataclasses
import json

import pytest
import tyro

from vla_policy.openvla.adopt import AdoptConfig, main
from vla_policy.openvla.config import ROBOTWIN_IMAGES
from vla_policy.openvla.reading import usual
from vla_policy.policy import VlaPolicy


@pytest.fixture
def robot_file(libero, tmp_path):
    path = tmp_path / "robot.json"
    path.write_text(libero(2).to_json())
    return path


def command(folder, robot_file, *more):
    return main(tyro.cli(AdoptConfig, args=[str(folder), "--embodiment", str(robot_file), *more]))


def test_an_adopted_folder_loads_by_its_name_alone(make_folder, robot_file, observe, libero, capsys):
    folder = make_folder()
    arguments = ["--statistics", "libero_spatial", "--action-frame", "libero", "--rotate-180"]
    assert command(folder, robot_file, *arguments) == 0
    assert "reads agentview, 8 steps a chunk, un-normalised by 'libero_spatial_no_noops'" in capsys.readouterr().out
    policy = VlaPolicy.load(folder)
    assert policy.embodiment == libero(2)
    assert policy.config.images.rotate_180 and policy.config.images.jpeg_quality == 95
    actions = policy.infer(observe(2))[0].actions
    assert set(actions[:, -1].tolist()) <= {-1.0, 0.0, 1.0}


def test_everything_can_be_said(make_folder, robot_file):
    arguments = ["--chunk-length", "4", "--normalisation", "bounds", "--images", "scaled", "--cameras", "wrist"]
    folder = make_folder()
    assert command(folder, robot_file, *arguments) == 0
    config = VlaPolicy.load(folder).config
    assert (config.chunk_length, config.normalisation, config.camera_names) == (4, "bounds", ("wrist",))
    assert config.images.crop_area is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--cameras", "head"], "the robot has no camera head; it has agentview, wrist"),
        (
            ["--statistics", "libero_object"],
            "no statistics for 'libero_object'; un-normalise keys there are: libero_sp",
        ),
        (["--cameras", "wrist", "agentview"], "reads cameras"),
    ],
)
def test_what_does_not_fit_is_refused_and_nothing_written(make_folder, robot_file, arguments, message, capsys):
    folder = make_folder()
    assert command(folder, robot_file, *arguments) == 2
    assert message in capsys.readouterr().err
    assert not (folder / "reading.json").exists() and not (folder / "embodiment.json").exists()


def test_a_robot_with_other_joints_is_refused(make_folder, libero, tmp_path, capsys):
    other = dataclasses.replace(libero(1), joints=libero(1).joints[:6])
    (tmp_path / "other.json").write_text(other.to_json())
    folder = make_folder()
    arguments = ["--chunk-length", "8", "--normalisation", "bounds", "--images", "scaled"]
    assert command(folder, tmp_path / "other.json", *arguments) == 2
    assert "not the 6 joints" in capsys.readouterr().err
    assert command(folder, tmp_path / "other.json") == 2
    assert "nothing is usual" in capsys.readouterr().err


def test_two_arms_are_read_as_robotwins(libero):
    joints = tuple(dataclasses.replace(libero(1).joints[0], name=str(number)) for number in range(14))
    dual = dataclasses.replace(libero(2), joints=joints)
    how = usual(dual, "tokens")
    assert (how.chunk_length, how.normalisation, how.camera_names) == (25, "bounds", ("agentview",))
    assert how.images == ROBOTWIN_IMAGES and usual(dual, "l1").camera_names == ("agentview", "wrist")


def test_a_folder_of_another_kind_is_refused(tmp_path, robot_file, capsys):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama"}))
    assert command(tmp_path, robot_file) == 2
    assert "no folder of OpenVLA's" in capsys.readouterr().err
