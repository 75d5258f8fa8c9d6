"""The batched guard decides what the CPU's guard decides."""

import numpy as np
import pytest
import torch

pytest.importorskip("mujoco_warp", reason='install it with pip install -c constraints.txt -e ".[warp]"')

from piper_twin.guard import Guard, limits_of
from piper_twin.mjwarp.guard import BatchGuard
from piper_twin.robot import ARMS, CONTROL_PERIOD, DUAL_PIPER, HOME

BOTH_HOME = np.tile(HOME, len(ARMS))
LOWER, UPPER, _, _ = limits_of(DUAL_PIPER)


class Both:
    """The same robots in front of both guards."""

    def __init__(self, lane, count):
        self.device = lane.device
        self.batch, self.single = BatchGuard(count, lane), Guard(DUAL_PIPER)
        self.previous = np.tile(BOTH_HOME, (count, 1))
        self.velocity = np.zeros_like(self.previous)

    def chunk(self, target_BKA):
        """Commands, velocities and refusals of either; the CPU's are where the next chunk starts."""
        args = [torch.from_numpy(one).to(self.device) for one in (target_BKA, self.previous, self.velocity)]
        active = torch.ones(len(target_BKA), dtype=torch.bool, device=self.device)
        found = [one.cpu().numpy() for one in self.batch.filter(*args, active)]
        sent, refused = np.empty_like(target_BKA), np.zeros(len(target_BKA), dtype=int)
        for k in range(target_BKA.shape[1]):
            command, velocity, reasons = self.single.filter(
                target_BKA[:, k], self.previous, self.velocity, CONTROL_PERIOD
            )
            self.previous, self.velocity, sent[:, k] = command, velocity, command
            refused += np.array([reason is not None for reason in reasons])
        return found, (sent, self.velocity, refused)


def test_wild_targets_are_refused_and_let_through_alike(lane):
    rng = np.random.default_rng(0)
    both, total = Both(lane, 24), 0
    for _ in range(12):
        target = rng.uniform(LOWER, UPPER, (24, 1, 14)) + rng.normal(0.0, 0.05, (24, 8, 14))
        found, expected = both.chunk(target)
        np.testing.assert_array_equal(found[2], expected[2])
        np.testing.assert_allclose(found[0], expected[0], atol=1e-9)
        np.testing.assert_allclose(found[1], expected[1], atol=1e-7)
        total += int(expected[2].sum())
    assert 100 < total < 24 * 8 * 12 - 100, "both ways happen often"


def test_arms_that_reach_across_each_other_are_stopped_alike(lane):
    rng = np.random.default_rng(1)
    both, total = Both(lane, 16), 0
    towards = BOTH_HOME.copy()
    towards[[0, 7]] = -1.2, 1.2  # each arm turns to the other
    for _ in range(8):
        found, expected = both.chunk(towards + rng.normal(0.0, 0.1, (16, 8, 14)))
        np.testing.assert_array_equal(found[2], expected[2])
        np.testing.assert_allclose(found[0], expected[0], atol=1e-9)
        total += int(expected[2].sum())
    assert total > 50


def test_what_is_not_a_number_is_refused_and_braked_for(lane):
    both = Both(lane, 3)
    target = np.tile(BOTH_HOME, (3, 8, 1))
    target[..., 0] = 0.5
    target[1, 4:, 3] = np.nan
    target[2, 2, 5] = np.inf
    found, expected = both.chunk(target)
    np.testing.assert_array_equal(found[2], [0, 4, 1])
    np.testing.assert_allclose(found[0], expected[0], atol=1e-9)


def test_robots_that_are_not_told_anything_stay_as_they_were(lane):
    guard = BatchGuard(2, lane)
    target = torch.from_numpy(np.tile(BOTH_HOME + 0.1, (2, 4, 1))).to(lane.device)
    previous = torch.from_numpy(np.tile(BOTH_HOME, (2, 1))).to(lane.device)
    velocity = torch.full_like(previous, 0.01)
    sent, after, refused = guard.filter(target, previous, velocity, torch.tensor([False, True], device=lane.device))
    assert (sent[0] == previous[0]).all()
    assert (after[0] == velocity[0]).all()
    assert (sent[1, -1, :6] != previous[1, :6]).all()
    assert refused.tolist() == [0, 0]
