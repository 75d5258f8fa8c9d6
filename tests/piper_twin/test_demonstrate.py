"""A demonstration is what a recorder would have seen of a teleoperator."""

import numpy as np
import pytest

from piper_twin.demonstrate import demonstrate
from piper_twin.episode import Episode
from piper_twin.robot import DUAL_PIPER
from piper_twin.worlds import TwinConfig, WorldBatch

EPISODE = Episode("click_bell", 3, "demonstration")


@pytest.fixture(scope="module")
def worlds():
    return WorldBatch(1, TwinConfig(image_size=32))


def test_the_expert_presses_the_bell_within_the_robots_limits(worlds):
    shown = demonstrate(worlds, EPISODE, look_every=None)
    assert shown.success
    assert shown.images_LCHW3.shape == (0, 3, 32, 32, 3)
    assert shown.instruction in worlds.world(0).compiled.task.instructions
    assert len(shown.state_TS) == len(shown.action_TA)
    velocity = np.abs(np.diff(shown.action_TA, axis=0)) / DUAL_PIPER.control_period
    assert (velocity <= [joint.max_velocity + 1e-3 for joint in DUAL_PIPER.joints]).all()


@pytest.mark.sim
def test_images_are_those_of_the_steps_they_name(worlds):
    every, some = (demonstrate(worlds, EPISODE, look_every=look_every) for look_every in (1, 4))
    np.testing.assert_array_equal(every.looked_L, np.arange(len(every.state_TS)))
    assert some.looked_L[0] == EPISODE.seed % 4
    assert (np.diff(some.looked_L) == 4).all()
    np.testing.assert_array_equal(some.images_LCHW3, every.images_LCHW3[some.looked_L])
    np.testing.assert_array_equal(some.action_TA, every.action_TA)
