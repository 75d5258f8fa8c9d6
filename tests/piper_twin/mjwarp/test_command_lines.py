"""Commands arrive as late, as lagging and as far off as on the CPU."""

import numpy as np
import pytest
import torch

pytest.importorskip("mujoco_warp", reason='install it with pip install -c constraints.txt -e ".[warp]"')

from piper_twin.command_line import CommandLine, arrive
from piper_twin.mjwarp.command_line import CommandLines
from piper_twin.randomization import Variation
from piper_twin.robot import ARMS, HOME
from piper_twin.worlds import SUBSTEPS

BOTH_HOME = np.tile(HOME, len(ARMS))


def variation(latency: float, lag: float, seed: int) -> Variation:
    offset = np.random.default_rng(seed).normal(0.0, 0.01, 14)
    return Variation(model_fields={}, joint_offset=offset, latency=latency, gripper_lag=lag, image_noise=0.0)


@pytest.mark.parametrize("lengths", [(8, 8), (1, 3, 1)])
def test_controls_are_those_of_the_cpu_from_chunk_to_chunk(lane, lengths):
    variations = [variation(0.0, 0.0, 0), variation(0.1, 0.0, 1), variation(0.033, 0.12, 2), variation(9.0, 0.05, 3)]
    count, rng = len(variations), np.random.default_rng(4)
    singles = [CommandLine(BOTH_HOME, one) for one in variations]
    lines = CommandLines(count, lane)
    rows, home = torch.arange(count, device=lane.device), torch.from_numpy(np.tile(BOTH_HOME, (count, 1)))
    lines.start(rows, home.to(lane.device), variations)
    previous = np.tile(BOTH_HOME, (count, 1))
    for length in lengths:
        sent = previous[:, None] + rng.normal(0.0, 0.02, (count, length, 14)).cumsum(axis=1)
        before = np.concatenate([previous[:, None], sent[:, :-1]], axis=1)
        part = np.arange(1, SUBSTEPS + 1)[None, None, :, None] / SUBSTEPS
        ramps = (before[:, :, None] + (sent - before)[:, :, None] * part).reshape(count, length * SUBSTEPS, 14)
        active = torch.ones(count, dtype=torch.bool, device=lane.device)
        told = [torch.from_numpy(one).to(lane.device) for one in (sent, previous)]
        found = lines.controls(*told, active).cpu()
        np.testing.assert_allclose(found.numpy().transpose(1, 0, 2), arrive(singles, ramps), rtol=0, atol=1e-6)
        previous = sent[:, -1]


def test_a_row_that_is_told_nothing_does_not_move_on(lane):
    lines = CommandLines(2, lane)
    home = torch.from_numpy(np.tile(BOTH_HOME, (2, 1))).to(lane.device)
    lines.start(torch.arange(2, device=lane.device), home, [variation(0.05, 0.05, 0)] * 2)
    sent = home[:, None].repeat(1, 2, 1) + torch.tensor([0.1, 0.2], device=lane.device)[None, :, None]
    first = lines.controls(sent, home, torch.tensor([True, False], device=lane.device)).cpu()
    second = lines.controls(sent, home, torch.tensor([False, True], device=lane.device)).cpu()
    np.testing.assert_array_equal(second[:, 1].numpy(), first[:, 0].numpy())
