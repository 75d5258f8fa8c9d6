"""Which worlds the experts are let into, and what becomes of their tries."""

import numpy as np
import pytest

from piper_twin.demonstrate import Demonstration
from piper_twin.robot import DUAL_PIPER
from piper_twin.worlds import TwinConfig
from vla_policy.errors import VlaError
from vla_rl_trainer.dataset import FrameTable
from vla_rl_trainer.demonstrations import MAX_TRIES, expert_demonstrations, to_episode_data
from vla_rl_trainer.envs.twin_env import TwinVectorEnv


def demonstration(success=True, length=5, looked=None):
    looked = np.arange(length) if looked is None else np.array(looked)
    shade = np.arange(3, dtype=np.uint8)[None, :, None, None, None] + np.zeros((len(looked), 1, 2, 2, 3), np.uint8)
    return Demonstration(
        images_LCHW3=shade,
        looked_L=looked,
        state_TS=np.zeros((length, 14), np.float32),
        action_TA=np.ones((length, 14), np.float32),
        instruction="ring the bell",
        success=success,
    )


class Experts:
    """An environment whose experts succeed where `succeeds` says."""

    def __init__(self, succeeds, num_workers=1):
        self._succeeds = succeeds
        self.num_workers = num_workers
        self.tried = []
        self.largest_batch = 0

    def demonstrate(self, episodes, *, look_every):
        assert len(set(episodes)) == len(episodes)
        self.tried += episodes
        self.largest_batch = max(self.largest_batch, len(episodes))
        return [demonstration(self._succeeds(episode)) for episode in episodes]


def seeds_of(env, tasks=("bell", "cup"), count=4, **arguments):
    found = list(expert_demonstrations(env, tasks, count, **arguments))
    assert all(one.success for _, one in found)
    return {task: [episode.seed for episode, _ in found if episode.task == task] for task in tasks}


def test_as_many_as_wanted_are_found_of_every_task():
    assert seeds_of(Experts(lambda episode: True)) == {"bell": [0, 1, 2, 3], "cup": [0, 1, 2, 3]}


def test_worlds_the_expert_fails_in_are_skipped_and_none_is_tried_twice():
    env = Experts(lambda episode: episode.task == "cup" or episode.seed % 3 == 0)
    assert seeds_of(env) == {"bell": [0, 3, 6, 9], "cup": [0, 1, 2, 3]}
    assert len(set(env.tried)) == len(env.tried)


def test_split_and_first_seed_name_the_worlds():
    env = Experts(lambda episode: True)
    assert seeds_of(env, ("bell",), 2, split="pretraining", first_seed=1000) == {"bell": [1000, 1001]}
    assert {episode.split for episode in env.tried} == {"pretraining"}
    assert seeds_of(Experts(lambda episode: episode.split == "demonstration"), ("bell",), 1) == {"bell": [0]}


@pytest.mark.parametrize("num_workers", [2, 16])
def test_what_is_found_does_not_depend_on_the_number_of_workers(num_workers):
    def succeeds(episode):
        return (episode.seed * 7 + len(episode.task)) % 3 != 0

    one, many = Experts(succeeds), Experts(succeeds, num_workers)
    found = [[episode for episode, _ in expert_demonstrations(env, ("bell", "stack"), 20)] for env in (one, many)]
    assert found[0] == found[1]
    assert one.largest_batch <= 32


def test_an_expert_that_never_succeeds_may_be_left_out(capsys):
    env = Experts(lambda episode: episode.task == "cup" or episode.seed == 1)
    given = dict(first_seed=0, max_tries=3, leave_out=True)
    found = [episode.task for episode, _ in expert_demonstrations(env, ("bell", "cup"), 2, **given)]
    assert sorted(found) == ["bell", "cup", "cup"]
    assert sum(episode.task == "bell" for episode in env.tried) <= 2 * 3
    assert "bell: only 1 of 2 succeeded" in capsys.readouterr().err


def test_an_expert_that_never_succeeds_is_given_up_by_name():
    env = Experts(lambda episode: episode.task == "cup")
    with pytest.raises(VlaError, match="the expert of bell fails too often; run it alone: "):
        seeds_of(env, count=2)
    assert sum(episode.task == "bell" for episode in env.tried) == 2 * MAX_TRIES
    assert sum(episode.task == "cup" for episode in env.tried) == 2


def test_a_task_that_is_done_stops_no_other():
    """The bell takes all its chances, two a round; the cup needs one more a round, and more rounds."""
    last = 2 * MAX_TRIES - 1
    wanted = {"bell": [last - 1, last], "cup": [0, last - 5]}
    env = Experts(lambda episode: episode.seed in wanted[episode.task])
    assert seeds_of(env, count=2) == wanted


@pytest.mark.parametrize("count", [0, -3])
def test_fewer_than_one_is_refused(count):
    with pytest.raises(VlaError, match="at least one a task is needed"):
        seeds_of(Experts(lambda episode: True), count=count)


def test_a_demonstration_becomes_an_episode_with_named_cameras():
    from piper_twin.episode import Episode

    data = to_episode_data(Episode("click_bell", 4, "demonstration"), demonstration())
    data.validate()
    assert tuple(data.images) == DUAL_PIPER.camera_names
    assert [int(images.max()) for images in data.images.values()] == [0, 1, 2]
    assert (data.task, data.seed, data.success, data.instruction) == ("click_bell", 4, True, "ring the bell")


def test_a_demonstration_with_frames_left_out_is_no_episode():
    from piper_twin.episode import Episode

    with pytest.raises(VlaError, match="look_every=1"):
        to_episode_data(Episode("click_bell", 4), demonstration(looked=[0, 2, 4]))


@pytest.mark.sim
def test_the_bells_expert_fills_a_table():
    with TwinVectorEnv(2, TwinConfig(image_size=16), num_workers=2) as env:
        found = list(expert_demonstrations(env, ["click_bell"], 2, look_every=8))
    table = FrameTable.from_demonstrations([one for _, one in found], DUAL_PIPER)
    assert table.episode_N.max() == 1
    assert len(table) < len(table.action_MA)
    chunks = table.chunks(np.arange(len(table)), 8)
    assert np.abs(chunks[:, 0] - table.state_NS).max() < 0.3
    assert table.images_NCHW3.std() > 10
