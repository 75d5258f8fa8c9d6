"""Batches of observations as tensors."""

import torch

from vla_policy.inputs import PolicyInputs


def batch(count, length, size=8):
    return PolicyInputs(
        images_BCHW3=torch.arange(count, dtype=torch.uint8)[:, None, None, None, None].expand(-1, 2, size, size, 3),
        prompt_BL=torch.ones(count, length, dtype=torch.int64),
        prompt_mask_BL=torch.ones(count, length, dtype=torch.bool),
        state_BS=torch.arange(count)[:, None].repeat(1, 3).float(),
    )


def test_rows_are_chosen_by_slice_numbers_or_mask():
    rows = batch(4, 3)
    for index in (slice(1, 3), torch.tensor([1, 2]), torch.tensor([False, True, True, False])):
        chosen = rows[index]
        assert len(chosen) == 2
        assert chosen.state_BS[:, 0].tolist() == [1.0, 2.0]
        assert chosen.images_BCHW3[:, 0, 0, 0, 0].tolist() == [1, 2]


def test_joining_pads_prompts_to_the_longest():
    joined = PolicyInputs.cat([batch(2, 3), batch(1, 5)])
    assert len(joined) == 3
    assert joined.prompt_mask_BL.sum(1).tolist() == [3, 3, 5]
    assert joined.prompt_BL[0].tolist() == [1, 1, 1, 0, 0]


def test_moving_keeps_everything():
    moved = batch(2, 3).to("cpu")
    assert torch.equal(moved.prompt_BL, batch(2, 3).prompt_BL)
