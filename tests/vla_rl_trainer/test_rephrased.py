"""Instructions that training never uses: the same worlds, told otherwise."""

import pytest

from piper_twin.episode import Episode
from piper_twin.tasks import TASKS, find_task
from piper_twin.worlds import TwinConfig
from vla_policy.errors import VlaError
from vla_rl_trainer.envs.rephrased import Rephrased, unseen_words
from vla_rl_trainer.envs.twin_env import TwinVectorEnv
from vla_rl_trainer.evaluate import EvaluateConfig


def test_every_task_has_words_that_no_episode_of_any_task_draws():
    drawn = {text for task in TASKS.values() for text in task.instructions}
    for task in TASKS.values():
        assert len(task.unseen_instructions) >= 2, task.name
        assert not drawn & set(task.unseen_instructions)
        assert unseen_words(Episode(task.name, 3)) in task.unseen_instructions


def test_an_episode_is_always_told_in_the_same_words_and_episodes_in_all_of_them():
    assert unseen_words(Episode("click_bell", 5)) == unseen_words(Episode("click_bell", 5))
    told = {unseen_words(Episode("click_bell", seed)) for seed in range(20)}
    assert told == set(find_task("click_bell").unseen_instructions)


def test_worlds_are_the_same_but_for_what_is_said(monkeypatch):
    episodes = [Episode("click_bell", seed, "evaluation") for seed in range(2)]
    with TwinVectorEnv(2, TwinConfig(images=False), num_workers=1) as env:
        own = env.reset([0, 1], episodes)
        told = Rephrased(env).reset([0, 1], episodes)
        assert (told.state_BS == own.state_BS).all()
        assert told.instructions == tuple(unseen_words(one) for one in episodes)
        other = Rephrased(env)
        other.reset([0, 1], episodes)
        seen, _ = other.step_chunk([1], own.state_BS[1:, None])
        assert seen.instructions == (unseen_words(episodes[1]),)
    monkeypatch.setattr(find_task("click_bell"), "unseen_instructions", ())
    with pytest.raises(VlaError, match="click_bell has no words beside those of training; leave --unseen-words out"):
        unseen_words(episodes[0])


def test_other_words_are_the_twins_alone(tmp_path):
    with pytest.raises(VlaError, match="LIBERO's tasks have no other words; leave --unseen-words out"):
        EvaluateConfig(checkpoint=tmp_path, tasks=("libero_object/0",), unseen_words=True)
