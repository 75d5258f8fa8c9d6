"""The expert plays what the twin's demonstration shows."""

import itertools

import numpy as np
import pytest

from piper_bringup.teleop.expert import CHUNK_LENGTH, ExpertSource
from piper_twin.demonstrate import demonstrate
from piper_twin.episode import Episode
from piper_twin.robot import CONTROL_PERIOD, HOME
from piper_twin.worlds import TwinConfig, WorldBatch
from vla_policy.errors import VlaError

pytestmark = pytest.mark.sim

STATE = np.tile(HOME, 2).astype(np.float32)
EPISODE = ("click_bell", 3, "demonstration")
WORLD = dict(zip(("task", "seed", "split"), EPISODE, strict=True)) | {"randomization": "standard"}


@pytest.fixture(scope="module")
def expert():
    source = ExpertSource(print)
    yield source
    source.close()


def test_the_stream_makes_the_demonstration(expert):
    worlds, episode = WorldBatch(1, TwinConfig(randomization="standard", images=False)), Episode(*EPISODE)
    shown = demonstrate(worlds, episode, look_every=None)
    assert "click_bell, seed 3" in expert.start(STATE, 100.0, WORLD)
    chunks = []
    for step, state in enumerate(shown.state_TS):
        chunks.append(expert.targets(state, 102.0 + step * CONTROL_PERIOD))
    for earlier, later in itertools.pairwise(chunks):
        np.testing.assert_array_equal(earlier[1:], later[:-1])
    worlds.reset([0], [episode])  # the guard is the same door there and in the robot's process
    outcomes = [worlds.step_chunk([0], chunk[None, :1]) for chunk in chunks]
    np.testing.assert_allclose([outcome.sent_BKA[0, 0] for outcome in outcomes], shown.action_TA, atol=1e-6)
    assert [bool(outcome.success_B[0]) for outcome in outcomes] == [False] * (len(chunks) - 1) + [True]
    worlds.close()


def test_past_its_end_the_last_row_stays(expert):
    expert.start(STATE, 0.0, WORLD)
    state = expert.targets(STATE, 0.0)[-1]
    for step in range(100):
        state = expert.targets(state, step * CONTROL_PERIOD)[0]
    late = expert.targets(state, 60.0)
    assert late.shape == (CHUNK_LENGTH, 14)
    assert (late == late[0]).all()


def test_it_gives_up_on_arms_that_do_not_follow():
    told = []
    expert = ExpertSource(told.append)
    expert.start(STATE, 0.0, WORLD)
    chunks = [expert.targets(STATE, step * CONTROL_PERIOD) for step in range(100)]
    assert chunks[0] is not None
    assert chunks[-1] is None
    assert len(told) == 1
    assert "gives up" in told[0]
    expert.close()


def test_another_seed_is_another_plan(expert):
    plans = []
    for seed in (3, 4):
        expert.start(STATE, 0.0, WORLD | {"seed": seed})
        plans.append(expert.targets(STATE, 0.0))
    assert np.abs(plans[0] - plans[1]).max() > 0.01


def test_nothing_is_played_before_a_start_nor_without_joint_states(expert):
    assert ExpertSource(print).targets(STATE, 0.0) is None
    expert.start(STATE, 0.0, WORLD)
    assert expert.targets(None, 0.0) is None


def test_arms_that_stand_elsewhere_are_not_moved(expert):
    elsewhere = STATE.copy()
    elsewhere[0] += 0.2
    with pytest.raises(VlaError, match="call /world/reset first"):
        expert.start(elsewhere, 0.0, WORLD)
    assert expert.targets(elsewhere, 0.0) is None


def test_without_a_world_there_is_nothing_to_know(expert):
    with pytest.raises(VlaError, match="in the twin only"):
        expert.start(STATE, 0.0, {})
