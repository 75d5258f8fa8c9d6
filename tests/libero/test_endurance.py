"""Many short episodes: what is run, and what counts as wrong."""

import itertools

import pytest

from vla_policy.errors import VlaError
from vla_rl_trainer.envs.libero_env import LiberoVectorEnv
from vla_rl_trainer.libero.endurance import EnduranceConfig, Look, endure, episodes_of, summarise
from vla_rl_trainer.libero.suites import NUM_STATES
from vla_rl_trainer.libero.worlds import LiberoConfig

TASKS = ("libero_object/0", "libero_spatial/2")


def look(megabytes, num_episodes=0, num_replaced=0):
    return Look(num_episodes=num_episodes, seconds=0.0, megabytes=megabytes, num_dropped=0, num_replaced=num_replaced)


def test_every_state_of_every_task_comes_before_any_comes_again():
    episodes = list(itertools.islice(episodes_of(TASKS), 2 * NUM_STATES * len(TASKS)))
    half = len(episodes) // 2
    assert len({(one.task, one.seed) for one in episodes[:half]}) == half
    assert episodes[half:] == episodes[:half]


def test_memory_that_grows_after_the_first_episodes_is_wrong_and_what_it_starts_with_is_not():
    config = EnduranceConfig(max_growth_mb=10.0)
    steady = summarise([look((100.0, 100.0)), look((150.0, 150.0)), look((154.0, 155.0))], config)
    leaking = summarise([look((100.0, 100.0)), look((150.0, 150.0)), look((156.0, 155.0))], config)
    assert steady["wrong"] == []
    assert leaking["wrong"] == ["memory grew by 11 MB, more than 10"]


def test_a_worker_that_died_is_wrong_however_little_memory_is_used():
    found = summarise([look((100.0,)), look((100.0,)), look((50.0,), num_replaced=1)], EnduranceConfig())
    assert found["wrong"] == ["1 workers died"]


@pytest.mark.parametrize("wrong", [{"suites": ()}, {"num_looks": 1}, {"num_episodes": 0}, {"max_growth_mb": 0.0}])
def test_a_run_that_shows_nothing_is_refused(wrong):
    with pytest.raises(VlaError):
        EnduranceConfig(**wrong)


@pytest.mark.libero
@pytest.mark.patience(600)
def test_a_short_run_counts_all_its_episodes_and_nothing_is_wrong(cache):
    config = EnduranceConfig(suites=TASKS, num_episodes=60, num_looks=3, image_size=32, cache=cache)
    with LiberoVectorEnv(8, LiberoConfig(states="official", image_size=32, cache=cache), num_workers=2) as env:
        looks = endure(env, config)
    assert looks[-1].num_episodes == 60
    assert summarise(looks, config)["wrong"] == []
    assert summarise(looks, config)["num_dropped"] == 0
