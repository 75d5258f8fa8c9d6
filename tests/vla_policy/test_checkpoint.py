"""One folder a policy: exact, whole, and refused when it does not fit."""

import dataclasses
import hashlib
import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from vla_policy import checkpoint
from vla_policy.embodiment import EmbodimentMismatch
from vla_policy.errors import VlaError
from vla_policy.normalization import Statistics
from vla_policy.policy import VlaPolicy


@pytest.fixture
def folder(policy, tmp_path):
    policy.save(tmp_path / "policy")
    return tmp_path / "policy"


def edit(path, **changes):
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_a_saved_policy_answers_bit_for_bit_alike(policy, folder, observe, robot):
    loaded = VlaPolicy.load(folder, robot=robot)
    inputs = policy.inputs(observe(3))
    with torch.no_grad():
        assert torch.equal(policy.network(inputs), loaded.network(loaded.inputs(observe(3))))
    for mine, theirs in zip(policy.infer(observe(2)), loaded.infer(observe(2)), strict=True):
        assert np.array_equal(mine.actions, theirs.actions)
    assert loaded.config == policy.config


def test_the_folder_holds_the_documented_files_and_nothing_else(folder):
    assert sorted(path.name for path in folder.iterdir()) == [
        "config.json",
        "dataset_statistics.json",
        "embodiment.json",
        "model.safetensors",
        "tokenizer.json",
    ]
    assert [path.name for path in folder.parent.iterdir()] == ["policy"]


def test_extra_json_travels_with_the_policy(policy, folder):
    policy.save(folder, extra={"training": {"stage": "sft", "steps": 3}})
    again = VlaPolicy.load(folder)
    assert again.extra == {"training": {"stage": "sft", "steps": 3}}
    with pytest.raises(VlaError, match="config"):
        policy.save(folder, extra={"config": {}})


def test_bfloat16_halves_the_weights_and_stays_near(policy, folder, observe, tmp_path):
    policy.save(tmp_path / "half", dtype=torch.bfloat16)
    sizes = [(path / "model.safetensors").stat().st_size for path in (folder, tmp_path / "half")]
    assert sizes[1] < 0.6 * sizes[0]
    loaded = VlaPolicy.load(tmp_path / "half")
    assert loaded.network.head.weight.dtype == torch.float32
    assert loaded.infer(observe(1))[0].actions == pytest.approx(policy.infer(observe(1))[0].actions, abs=0.02)


def test_saving_again_replaces_the_checkpoint(policy, folder):
    with torch.no_grad():
        policy.network.head.weight.fill_(0.5)
    policy.save(folder)
    assert VlaPolicy.load(folder).network.head.weight.unique().tolist() == [0.5]
    assert [path.name for path in folder.parent.iterdir()] == ["policy"]


def test_weights_have_one_digest_wherever_they_lie_and_another_once_they_change(policy, folder):
    digest = checkpoint.weights_sha256(folder)
    assert digest == hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    moved = folder.rename(folder.with_name("moved"))
    assert checkpoint.weights_sha256(moved) == digest
    with torch.no_grad():
        next(policy.network.parameters()).add_(1.0)
    policy.save(moved)
    assert checkpoint.weights_sha256(moved) != digest


def test_a_folder_that_is_no_checkpoint_is_never_overwritten(policy, tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(VlaError, match="is no checkpoint"):
        policy.save(tmp_path)
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


def test_a_save_that_fails_leaves_the_old_checkpoint(policy, folder, monkeypatch):
    before = (folder / "model.safetensors").read_bytes()
    monkeypatch.setattr(checkpoint, "write_statistics", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        policy.save(folder)
    assert (folder / "model.safetensors").read_bytes() == before
    assert [path.name for path in folder.parent.iterdir()] == ["policy"]


@pytest.mark.parametrize(
    "name", ["config.json", "model.safetensors", "dataset_statistics.json", "tokenizer.json", "embodiment.json"]
)
def test_missing_and_damaged_files_are_named(folder, name):
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content[: len(content) // 2])
    with pytest.raises(VlaError, match=name):
        VlaPolicy.load(folder)
    (folder / name).write_bytes(b"")
    with pytest.raises(VlaError, match=name):
        VlaPolicy.load(folder)
    (folder / name).unlink()
    with pytest.raises(VlaError, match=rf"lacks {name}"):
        VlaPolicy.load(folder)


def test_weights_of_another_shape_or_name_are_refused(folder):
    edit(folder / "config.json", chunk_length=3)
    with pytest.raises(VlaError, match=r"step_embedding.*\(2, 1, 32\).*\(3, 1, 32\)"):
        VlaPolicy.load(folder)
    edit(folder / "config.json", chunk_length=2, num_layers=1)
    with pytest.raises(VlaError, match=r"unknown llama.layers.1"):
        VlaPolicy.load(folder)
    edit(folder / "config.json", num_layers=3)
    with pytest.raises(VlaError, match=r"lacks llama.layers.2"):
        VlaPolicy.load(folder)


def test_a_checkpoint_for_another_robot_is_refused_by_the_culprits_name(folder, robot):
    narrow = dataclasses.replace(robot.joints[1], upper=0.1)
    for other, culprit in (
        (dataclasses.replace(robot, joints=(robot.joints[0], narrow, robot.joints[2])), "elbow"),
        (dataclasses.replace(robot, cameras=robot.cameras[::-1]), "wrist"),
        (dataclasses.replace(robot, control_period=0.1), "control period"),
    ):
        with pytest.raises(EmbodimentMismatch, match=culprit):
            VlaPolicy.load(folder, robot=other)


def test_parts_of_different_robots_are_refused_by_name(folder):
    edit(folder / "config.json", camera_names=["head", "belly"])
    with pytest.raises(VlaError, match="'belly'"):
        VlaPolicy.load(folder)
    edit(folder / "config.json", camera_names=["head", "wrist"], action_dim=4)
    with pytest.raises(VlaError, match=r"action_dim .* length 4"):
        VlaPolicy.load(folder)
    edit(folder / "config.json", action_dim=3, text_vocab_size=10)
    with pytest.raises(VlaError, match=r"tokenizer.json has \d+ ids, the network 10"):
        VlaPolicy.load(folder)


def test_statistics_of_another_length_or_key_are_refused(folder):
    path = folder / "dataset_statistics.json"
    fields = json.loads(path.read_text())
    longer = Statistics.of(np.eye(4)).to_dict()
    path.write_text(json.dumps({"demonstrations": fields["demonstrations"] | {"proprio": longer}}))
    with pytest.raises(VlaError, match=r"proprio in dataset_statistics.json has length 4"):
        VlaPolicy.load(folder)
    path.write_text(json.dumps({"libero": fields["demonstrations"]}))
    with pytest.raises(VlaError, match=r"'demonstrations'.*libero"):
        VlaPolicy.load(folder)


def test_a_folder_with_code_is_refused(folder):
    (folder / "modeling_prismatic.py").write_text("raise SystemExit")
    with pytest.raises(VlaError, match=r"carries code.*modeling_prismatic.py"):
        VlaPolicy.load(folder)


def test_a_folder_that_asks_for_remote_code_is_refused(folder):
    edit(folder / "config.json", auto_map={"AutoConfig": "evil--config.Evil"})
    with pytest.raises(VlaError, match="remote code"):
        VlaPolicy.load(folder)


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(VlaError, match=r"no checkpoint folder .*nowhere"):
        VlaPolicy.load(tmp_path / "nowhere")


def test_parts_that_do_not_fit_make_no_policy(policy):
    with pytest.raises(VlaError, match="cameras"):
        VlaPolicy(
            policy.network,
            dataclasses.replace(policy.config, camera_names=("head", "belly")),
            policy.statistics,
            policy.embodiment,
            policy.tokenizer,
        )


def test_the_weights_file_is_plain_safetensors(policy, folder):
    assert load_file(folder / "model.safetensors").keys() == policy.network.state_dict().keys()
