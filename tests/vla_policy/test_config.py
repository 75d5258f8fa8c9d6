"""The stored shape of a policy, and the presets."""

import dataclasses
import json

import pytest

from vla_policy.config import VlaConfig
from vla_policy.errors import VlaError
from vla_policy.presets import PRESETS


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_presets_survive_json(robot, name):
    config = PRESETS[name](robot)
    assert VlaConfig.from_json(config.to_json()) == config


def test_presets_have_the_documented_tokens(robot):
    tiny, small = PRESETS["tiny"](robot), PRESETS["small"](robot)
    assert (tiny.image_size, tiny.num_image_tokens) == (64, 16)
    assert (small.image_size, small.num_image_tokens) == (128, 32)
    assert tiny.num_action_tokens == 8 * robot.num_joints


def test_libero_and_robotwin_have_the_published_numbers_of_action_tokens(config):
    for chunk, dims, tokens in ((8, 7, 56), (25, 14, 350)):
        assert dataclasses.replace(config, chunk_length=chunk, action_dim=dims).num_action_tokens == tokens


def test_an_unknown_key_is_named(config):
    fields = json.loads(config.to_json()) | {"flash": True}
    with pytest.raises(VlaError, match="unknown keys flash"):
        VlaConfig.from_json(json.dumps(fields))


def test_a_missing_key_is_named(config):
    fields = json.loads(config.to_json())
    del fields["hidden_size"]
    with pytest.raises(VlaError, match="hidden_size"):
        VlaConfig.from_json(json.dumps(fields))


@pytest.mark.parametrize("text", ["", "[]", "null", '{"model_type": "openvla"}'])
def test_what_is_no_config_is_refused(text):
    with pytest.raises(VlaError, match=r"config.json"):
        VlaConfig.from_json(text)


@pytest.mark.parametrize(
    "change",
    [
        {"action_frame": "delta"},
        {"normalisation": "zscore"},
        {"placeholders": "none"},
        {"decoding": "beam"},
        {"prompt_template": "do it"},
        {"image_size": 9},
        {"hidden_size": 30, "num_heads": 4},
        {"prompt_end_id": 29871},
        {"camera_names": ()},
    ],
)
def test_a_config_no_network_can_be_built_from_is_refused(config, change):
    named = "image_size" if "camera_names" in change else next(iter(change))
    with pytest.raises(VlaError, match=f"config: .*{named}"):
        dataclasses.replace(config, **change)
