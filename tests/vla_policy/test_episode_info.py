"""What a bag says of its episode comes back from both of its places."""

import dataclasses
import json

import pytest

from vla_policy.episode_info import SUCCESS, UNKNOWN, EpisodeInfo
from vla_policy.errors import VlaError

INFO = EpisodeInfo(instruction='press the "bell"', task="click_bell", embodiment="{}", software="3cb6913")


def test_an_episode_is_unknown_until_somebody_tells_its_outcome():
    assert INFO.outcome == UNKNOWN


def test_both_texts_give_the_same_back_and_what_others_add_is_left_aside():
    info = dataclasses.replace(INFO, outcome=SUCCESS, reason="done")
    assert EpisodeInfo.of(json.loads(info.to_json()), "bag x") == info
    assert EpisodeInfo.of(info.custom_data() | {"ros2 bag": "others"}, "bag x") == info


def test_the_bag_of_another_recorder_is_refused_by_name():
    with pytest.raises(VlaError, match="bag x does not tell its episode's instruction; another recorder made it"):
        EpisodeInfo.of({"outcome": "success"}, "bag x")
