"""AdamW on weights in bfloat16: small steps and small gradients add up, and nothing is lost in a file."""

import copy

import pytest
import torch
from torch import nn

from vla_rl_trainer.optimizer import MasterAdamW, adamw, clip_gradient, parameters

SETTINGS = {"lr": 1e-4, "weight_decay": 0.0}


def rough(value=1.0):
    return nn.Parameter(torch.full((3,), value, dtype=torch.bfloat16))


def step(optimizer, weight, gradient=1.0, times=1):
    for _ in range(times):
        optimizer.zero_grad(set_to_none=True)
        (weight * gradient).sum().backward()
        optimizer.step()


def test_steps_too_small_for_bfloat16_add_up():
    weight, plain = rough(), rough()
    optimizer = MasterAdamW([weight], **SETTINGS)
    step(optimizer, weight)
    assert weight.tolist() == [1.0] * 3
    step(optimizer, weight, times=99)
    assert weight.tolist() == pytest.approx([0.99] * 3, abs=0.002)
    step(torch.optim.AdamW([plain], **SETTINGS), plain, times=100)
    assert plain.tolist() == [1.0] * 3


def test_gradients_are_added_up_in_float32_and_no_copy_is_kept():
    weight = rough()
    optimizer = MasterAdamW([weight], **SETTINGS)
    weight.sum().backward()
    for _ in range(100):
        (weight * 2.0**-10).sum().backward()  # lost beside 1 in bfloat16
    (master,) = parameters(optimizer)
    assert master.grad.tolist() == [1.0 + 100 * 2.0**-10] * 3
    assert weight.grad is None
    assert clip_gradient(optimizer, 1.0) == pytest.approx(3**0.5 * (1.0 + 100 * 2.0**-10))
    assert float(master.grad.norm()) == pytest.approx(1.0)


def test_what_is_not_rounded_is_part_of_the_state():
    weight = rough()
    optimizer = MasterAdamW([weight], **SETTINGS)
    step(optimizer, weight, times=7)
    other = rough(5.0)
    resumed = MasterAdamW([other], **SETTINGS)
    resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    assert torch.equal(other, weight)
    for one, own in ((optimizer, weight), (resumed, other)):
        step(one, own, gradient=-0.5, times=60)
    assert torch.equal(parameters(resumed)[0], parameters(optimizer)[0])
    assert parameters(resumed)[0].dtype == torch.float32
    assert optimizer.state_dict()["state"][0].keys() == {"step", "exp_avg", "exp_avg_sq", "master"}


def test_a_fresh_optimizer_can_be_stored():
    optimizer = MasterAdamW([rough()], **SETTINGS)
    resumed = MasterAdamW([rough(2.0)], **SETTINGS)
    resumed.load_state_dict(optimizer.state_dict())
    assert parameters(resumed)[0].tolist() == [1.0] * 3


def test_weights_in_float32_need_no_copies_and_frozen_ones_no_optimizer():
    network = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    network[0].requires_grad_(False)
    optimizer = adamw(network, **SETTINGS)
    assert type(optimizer) is torch.optim.AdamW
    assert parameters(optimizer) == list(network[1].parameters())
    assert type(adamw(network.bfloat16(), **SETTINGS)) is MasterAdamW
