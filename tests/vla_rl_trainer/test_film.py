"""A film is what an evaluation would see, at every control step, as a video that plays."""

import io
from types import SimpleNamespace

import av
import numpy as np
import pytest

from piper_twin.demonstrate import demonstrate
from piper_twin.episode import Episode
from piper_twin.robot import DUAL_PIPER, HOME
from piper_twin.tasks import TASKS
from piper_twin.worlds import TwinConfig, WorldBatch
from vla_rl_trainer.benchmarks.twin import TwinBenchmark
from vla_rl_trainer.film import HOLD_FRAMES

pytestmark = pytest.mark.sim

EPISODE = Episode("click_bell", 3, "evaluation")
CHUNK = 8


class Replay:
    """Acts as it is told, then holds; keeps what it is shown."""

    config = SimpleNamespace(image_size=32, state_dim=14)

    def __init__(self, actions_TA):
        self._actions = list(actions_TA)
        self.seen = []

    def inputs_from_arrays(self, images_BCHW3, state_BS, instructions):
        self.seen.append((images_BCHW3.copy(), state_BS.copy(), list(instructions)))

    def act(self, inputs, state_BS):
        chunk, self._actions = self._actions[:CHUNK], self._actions[CHUNK:] or self._actions[-1:]
        chunk += [chunk[-1]] * (CHUNK - len(chunk))
        return np.stack(chunk)[None]


@pytest.fixture(scope="module")
def filmed():
    """Control steps until success when the expert is replayed in chunks, the policy that did, and the film of that."""
    worlds = WorldBatch(1, TwinConfig())
    actions = demonstrate(worlds, EPISODE, look_every=None).action_TA
    worlds.reset([0], [EPISODE])
    replay, outcomes = Replay(actions), []
    while not outcomes or not outcomes[-1].done_B[0]:
        outcomes.append(worlds.step_chunk([0], replay.act(None, None)))
    assert outcomes[-1].success_B[0]
    worlds.close()
    policy = Replay(actions)
    studio = TwinBenchmark().film_studio(policy.config)
    film, success = studio.film(policy, EPISODE)
    studio.close()
    assert success
    return sum(int(outcome.steps_B[0]) for outcome in outcomes), policy, film


def test_a_film_plays_with_every_control_step_and_all_cameras(filmed):
    num_steps, _, film = filmed
    with av.open(io.BytesIO(film)) as container:
        stream = container.streams.video[0]
        assert float(stream.average_rate) == 25.0
        frames = np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(stream)])
    assert len(frames) == 1 + num_steps + HOLD_FRAMES
    assert frames.shape[1:] == (256, 3 * 256 + 2 * 8, 3)  # doubled, with two gaps
    for start in (0, 264, 528):
        assert frames[0, :, start : start + 256].std() > 5
    assert np.abs(frames[-HOLD_FRAMES - 1].astype(int) - frames[0]).mean() > 1, "something must have moved"


def test_the_policy_is_shown_what_an_evaluation_shows_it(filmed):
    _, policy, _ = filmed
    worlds = WorldBatch(1, TwinConfig(image_size=32))
    worlds.reset([0], [EPISODE])
    images, state = np.empty((1, 3, 32, 32, 3), np.uint8), np.empty((1, DUAL_PIPER.num_joints), np.float32)
    worlds.images([0], images)
    worlds.joint_states([0], state)
    worlds.close()
    seen = policy.seen[0]
    np.testing.assert_array_equal(seen[0], images)
    np.testing.assert_array_equal(seen[1], state)
    assert seen[2] == [worlds.world(0).instruction]


def test_the_policy_decides_once_a_chunk(filmed):
    num_steps, policy, _ = filmed
    assert len(policy.seen) == -(-num_steps // CHUNK)


def test_an_episode_without_success_lasts_to_its_horizon():
    policy = Replay([np.tile(HOME, 2)])
    studio = TwinBenchmark().film_studio(policy.config)
    film, success = studio.film(policy, EPISODE)
    studio.close()
    assert not success
    with av.open(io.BytesIO(film)) as container:
        assert sum(1 for _ in container.decode(video=0)) == 1 + TASKS["click_bell"].horizon + HOLD_FRAMES
