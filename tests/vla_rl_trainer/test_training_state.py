"""What a checkpoint holds beside the policy."""

import pytest
import torch
from safetensors.torch import load_file, save_file

from vla_policy.errors import VlaError
from vla_rl_trainer.training_state import load_state, save_state


def trained(sizes=(3, 5), steps=3, frozen=()):
    """A small network and an optimiser that has seen `steps` gradients."""
    torch.manual_seed(0)
    layers = torch.nn.Sequential(*(torch.nn.Linear(4, size) for size in sizes))
    for index in frozen:
        layers[index].requires_grad_(False)
    optimizer = torch.optim.AdamW(layers.parameters(), lr=1e-2)
    for _ in range(steps):
        optimizer.zero_grad()
        sum(layer(torch.randn(2, 4)).square().sum() for layer in layers).backward()
        optimizer.step()
    return layers, optimizer


def test_moments_and_numbers_come_back_bit_for_bit(tmp_path):
    _, optimizer = trained(frozen=(0,))
    numbers = {"step": 3, "rate": 0.1 + 0.2, "state": {"tasks": ["a", "b"], "big": 2**127 + 1}, "none": None}
    save_state(tmp_path, optimizer, numbers)
    _, fresh = trained(steps=0, frozen=(0,))
    assert load_state(tmp_path, fresh) == numbers
    before, after = optimizer.state_dict()["state"], fresh.state_dict()["state"]
    assert before.keys() == after.keys() == {2, 3}
    for index, moments in before.items():
        for name, value in moments.items():
            assert torch.equal(value, after[index][name])
            assert value.dtype == after[index][name].dtype


def test_a_restored_optimizer_takes_the_same_next_step(tmp_path):
    layers, optimizer = trained()
    save_state(tmp_path, optimizer, {})
    copy, fresh = trained(steps=0)
    copy.load_state_dict(layers.state_dict())
    load_state(tmp_path, fresh)
    for network, stepper in ((layers, optimizer), (copy, fresh)):
        stepper.zero_grad()
        sum(layer(torch.ones(1, 4)).square().sum() for layer in network).backward()
        stepper.step()
    assert all(torch.equal(a, b) for a, b in zip(layers.parameters(), copy.parameters(), strict=True))


def test_an_optimizer_that_never_stepped_is_stored_too(tmp_path):
    save_state(tmp_path, trained(steps=0)[1], {"step": 0})
    assert load_state(tmp_path, trained(steps=0)[1]) == {"step": 0}


@pytest.mark.parametrize("damage", ["missing", "empty", "cut"])
def test_damaged_files_are_refused_with_the_remedy(tmp_path, damage):
    _, optimizer = trained()
    save_state(tmp_path, optimizer, {"step": 3})
    path = tmp_path / "optimizer.safetensors"
    content = path.read_bytes()
    path.unlink()
    if damage != "missing":
        path.write_bytes(b"" if damage == "empty" else content[: len(content) - 4])
    with pytest.raises(VlaError, match=r"cannot be resumed from .*; delete that checkpoint to resume from the one"):
        load_state(tmp_path, optimizer)


def test_numbers_that_are_no_table_are_refused(tmp_path):
    _, optimizer = trained()
    save_state(tmp_path, optimizer, {"step": 3})
    path = tmp_path / "optimizer.safetensors"
    save_file(load_file(path), path, metadata={"numbers": "3"})
    with pytest.raises(VlaError, match="cannot be resumed from"):
        load_state(tmp_path, optimizer)


@pytest.mark.parametrize("sizes", [(3, 6), (5, 3), (3,)])
def test_the_optimizer_of_another_network_is_refused_and_nothing_changes(tmp_path, sizes):
    save_state(tmp_path, trained()[1], {"step": 3})
    _, other = trained(sizes, steps=0)
    with pytest.raises(VlaError, match="holds the optimiser of another network; choose another --out"):
        load_state(tmp_path, other)
    assert not other.state_dict()["state"]


def test_nothing_is_pickled(tmp_path):
    save_state(tmp_path, trained()[1], {"step": 3})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["optimizer.safetensors"]
