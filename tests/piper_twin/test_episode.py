"""An episode names one world, and no world of one split occurs in another."""

import numpy as np
import pytest

from piper_twin.episode import SPLITS, Episode
from piper_twin.tasks import find_task
from vla_policy.errors import VlaError


def start(seed: int, split: str) -> tuple[float, ...]:
    """What a world of click_bell starts as."""
    scene = find_task("click_bell").scene(Episode("click_bell", seed, split).generator("scene"))
    return tuple(value for place in scene.placements.values() for value in (place.x, place.y, place.yaw))


def test_evaluation_worlds_never_occur_in_training():
    worlds = {split: {start(seed, split) for seed in range(500)} for split in SPLITS}
    for split, own in worlds.items():
        assert len(own) == 500, "seeds of one split name different worlds"
        for other in set(SPLITS) - {split}:
            assert not own & worlds[other]


def test_the_same_seed_names_different_worlds_in_different_splits():
    assert len({start(7, split) for split in SPLITS}) == len(SPLITS)


def test_the_same_episode_always_draws_the_same_world():
    assert start(7, "train") == start(7, "train")
    assert Episode("click_bell", 7) == Episode("click_bell", 7, "train")


def test_purposes_have_streams_of_their_own():
    episode = Episode("click_bell", 0)
    draws = {purpose: episode.generator(purpose).random() for purpose in ("scene", "randomization", "image_noise")}
    assert len(set(draws.values())) == 3


def test_tasks_have_streams_of_their_own():
    assert Episode("click_bell", 0).generator("scene").random() != Episode("other", 0).generator("scene").random()


def test_streams_of_neighbouring_seeds_are_not_correlated():
    draws = np.array([Episode("click_bell", seed).generator("scene").random(2) for seed in range(1000)])
    assert abs(np.corrcoef(draws[:-1, 0], draws[1:, 0])[0, 1]) < 0.1
    assert abs(draws[:, 0].mean() - 0.5) < 0.05


def test_a_negative_seed_is_refused():
    with pytest.raises(VlaError, match=r"-1 is negative"):
        Episode("click_bell", -1)


def test_an_unknown_split_is_refused_with_the_list():
    with pytest.raises(VlaError, match=r"'test' does not exist.*train, evaluation, demonstration, pretraining"):
        Episode("click_bell", 0, "test")
