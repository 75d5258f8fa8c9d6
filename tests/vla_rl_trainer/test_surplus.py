"""Surplus groups survive on disk bit for bit."""

import json

import numpy as np
import pytest
import torch

from vla_policy.errors import VlaError
from vla_rl_trainer.learner import LearnerConfig, make_optimizer, update
from vla_rl_trainer.surplus import load_groups, save_groups


@pytest.fixture
def groups(toys, policy):
    script = toys.pattern("10x0", "0110", "1001")
    return toys.sample_groups(policy, 1, version=4) + toys.sample_groups(policy, 2, script, version=5)


def test_groups_come_back_bit_for_bit(tmp_path, groups):
    save_groups(tmp_path / "surplus.safetensors", groups)
    back = load_groups(tmp_path / "surplus.safetensors")
    assert [group.policy_version for group in back] == [4, 5, 5]
    for group, copy in zip(groups, back, strict=True):
        assert copy.episode == group.episode
        assert copy.rewards == group.rewards
        for one, other in zip(group.trajectories, copy.trajectories, strict=True):
            for name in ("episode", "steps", "success", "dropped", "signals", "refused"):
                assert getattr(one, name) == getattr(other, name)
            for mine, theirs in zip(one.inputs, other.inputs, strict=True):
                for name in ("images_BCHW3", "prompt_BL", "prompt_mask_BL", "state_BS"):
                    before, after = getattr(mine, name), getattr(theirs, name)
                    assert before.dtype == after.dtype
                    assert torch.equal(before, after)
            for name in ("indices", "log_probs"):
                pairs = list(zip(getattr(one, name), getattr(other, name), strict=True))
                assert all(torch.equal(a, b) and a.dtype == b.dtype for a, b in pairs)


def test_the_learner_cannot_tell_them_apart(tmp_path, toys, groups):
    save_groups(tmp_path / "surplus.safetensors", groups)
    results = []
    for used in (groups, load_groups(tmp_path / "surplus.safetensors")):
        policy, config = toys.make_policy(), LearnerConfig()
        metrics = update(policy, make_optimizer(policy, config), used, 1.6, config, np.random.default_rng(0), 5)
        results.append((metrics, policy.network.state_dict()))
    assert results[0][0] == results[1][0]
    assert all(torch.equal(tensor, results[1][1][name]) for name, tensor in results[0][1].items())


def test_no_surplus_is_stored_too(tmp_path):
    save_groups(tmp_path / "surplus.safetensors", [])
    assert load_groups(tmp_path / "surplus.safetensors") == []


def test_loaded_groups_do_not_hold_the_file(tmp_path, groups):
    path = tmp_path / "surplus.safetensors"
    save_groups(path, groups)
    image = load_groups(path)[0].trajectories[0].inputs[0].images_BCHW3
    assert image.untyped_storage().nbytes() == image.nbytes


def test_the_file_is_data_and_what_is_no_tensor_is_json(tmp_path, groups):
    path = tmp_path / "surplus.safetensors"
    save_groups(path, groups)
    header = json.loads(path.read_bytes()[8 : 8 + int.from_bytes(path.read_bytes()[:8], "little")])
    assert json.loads(header["__metadata__"]["groups"])[0]["policy_version"] == 4
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("damage", ["missing", "empty", "cut", "garbage", "foreign"])
def test_a_damaged_file_is_refused_with_the_remedy(tmp_path, groups, damage):
    path = tmp_path / "surplus.safetensors"
    save_groups(path, groups)
    if damage == "missing":
        path.unlink()
    elif damage == "foreign":
        from safetensors.torch import save_file

        save_file({"weight": torch.zeros(2)}, path)
    else:
        content = path.read_bytes()
        path.write_bytes({"empty": b"", "cut": content[: len(content) // 2], "garbage": b"\x00" * 500}[damage])
    with pytest.raises(VlaError, match=r"surplus.safetensors cannot be resumed from .*; delete that checkpoint"):
        load_groups(path)
