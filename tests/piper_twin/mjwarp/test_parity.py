"""Both backends show the same worlds: starts, motion, contacts, success and pictures."""

import numpy as np
import pytest

pytest.importorskip("mujoco_warp", reason='install it with pip install -c constraints.txt -e ".[warp]"')

from piper_twin.episode import Episode
from piper_twin.expert import commands
from piper_twin.mjwarp.worlds import WarpWorlds
from piper_twin.robot import ARMS, HOME
from piper_twin.task import Readings
from piper_twin.worlds import TwinConfig, WorldBatch

BOTH_HOME = np.tile(HOME, len(ARMS))
WIDE = TwinConfig(randomization="wide")


def bells(seeds) -> list[Episode]:
    return [Episode("click_bell", seed) for seed in seeds]


class Both:
    """The same episodes in both backends."""

    def __init__(self, episodes, config, anywhere):
        self.slots = range(len(episodes))
        self.worlds = WorldBatch(len(episodes), config), WarpWorlds(len(episodes), config, anywhere)
        for worlds in self.worlds:
            worlds.reset(self.slots, episodes)

    def __iter__(self):
        return iter(self.worlds)

    def positions(self):
        """Generalised positions of every world on either backend, (2, B, nq)."""
        mujoco, warp = self.worlds
        nq = mujoco.world(0).model.nq
        return np.array(
            [
                [mujoco.world(slot).state[1 : 1 + nq] for slot in self.slots],
                [warp.positions(slot) for slot in self.slots],
            ]
        )

    def joints(self):
        found = np.zeros((2, len(self.slots), 14), dtype=np.float32)
        for worlds, out in zip(self, found, strict=True):
            worlds.joint_states(self.slots, out)
        return found

    def step(self, actions):
        return [worlds.step_chunk(self.slots, actions) for worlds in self]


def wander(count: int, length: int, seed: int = 0) -> np.ndarray:
    return BOTH_HOME + np.random.default_rng(seed).normal(0.0, 0.02, (count, length, 14)).cumsum(axis=1)


def press(world) -> np.ndarray:
    """The expert's commands (length, 14)."""
    return commands(world.compiled.task.plan(Readings(world.compiled.layout, world.start)), world.command)


@pytest.fixture(scope="module")
def wandered(anywhere):
    """Both backends after a chunk without contact but that of the bell's feet, and what they told of it."""
    both = Both(bells(range(3)), WIDE, anywhere)
    begin = both.positions(), both.joints(), [[worlds.instruction(slot) for slot in both.slots] for worlds in both]
    return both, begin, both.step(wander(3, 8))


def test_the_same_episode_begins_the_same(wandered):
    _, (positions, joints, instructions), _ = wandered
    np.testing.assert_allclose(positions[1], positions[0], rtol=0, atol=1e-6)
    np.testing.assert_allclose(joints[1], joints[0], rtol=0, atol=1e-6)
    assert instructions[0] == instructions[1]


def test_motion_without_contact_agrees_within_a_ten_thousandth_of_a_radian(wandered):
    both, (begin, _, _), _ = wandered
    positions = both.positions()
    assert np.abs(positions[0] - begin[0])[:, :16].max() > 0.05, "the arms have moved"
    np.testing.assert_allclose(positions[1], positions[0], rtol=0, atol=1e-4)
    np.testing.assert_allclose(*both.joints(), rtol=0, atol=1e-4)


def test_both_backends_tell_the_same_of_a_chunk(wandered):
    _, _, (expected, found) = wandered
    for field in ("success_B", "done_B", "dropped_B", "steps_B", "refused_B"):
        np.testing.assert_array_equal(getattr(found, field), getattr(expected, field))
    np.testing.assert_allclose(found.sent_BKA, expected.sent_BKA, atol=1e-7)
    assert found.signals == expected.signals


@pytest.mark.sim
def test_pictures_differ_by_less_than_one_of_255_and_at_few_edges(wandered):
    both, _, _ = wandered
    expected, found = np.zeros((2, 3, 3, 128, 128, 3), dtype=np.uint8)
    for worlds, out in zip(both, (expected, found), strict=True):
        worlds.images(both.slots, out)
    apart = np.abs(expected.astype(int) - found)
    assert (expected.std(axis=(2, 3)) > 5).all(), "no picture is empty"
    assert apart.mean() < 1.0
    assert (apart.max(axis=-1) > 16).mean() < 0.005


def test_the_expert_rings_the_bell_at_the_same_step_on_both(anywhere):
    both = Both(bells(range(2)), TwinConfig(randomization="standard", images=False), anywhere)
    plans = []
    for worlds in both:
        seats = [worlds.world(slot) for slot in both.slots]
        plans.append(
            [commands(one.compiled.task.plan(Readings(one.compiled.layout, one.start)), one.command) for one in seats]
        )
    solved, steps = np.zeros((2, 2), dtype=bool), np.zeros((2, 2), dtype=int)
    for first in range(0, 40, 8):
        for number, worlds in enumerate(both):
            going = [slot for slot in both.slots if not solved[number, slot]]
            if going:
                rows = np.arange(first, first + 8)
                chunk = np.stack([plan[np.minimum(rows, len(plan) - 1)] for plan in plans[number]])[going]
                outcome = worlds.step_chunk(going, chunk)
                solved[number, going], steps[number, going] = outcome.success_B, steps[number, going] + outcome.steps_B
    assert solved.all()
    np.testing.assert_array_equal(steps[0], steps[1])
