"""Each perturbation changes what it says and nothing else, by ranges that are told, the same in every run."""

import math

import numpy as np
import pytest

from piper_twin.episode import Episode
from vla_policy.errors import VlaError
from vla_rl_trainer.benchmarks.libero import LiberoBenchmark, LiberoOptions
from vla_rl_trainer.libero import perturbation
from vla_rl_trainer.libero.perturbation import Looks
from vla_rl_trainer.libero.worlds import LiberoConfig, LiberoWorlds

SOUP, DRAWER = "libero_object/0", "libero_10/3"
SIDE = 64
ARM = slice(0, 7)

EYE = np.array([0.66, 0.0, 1.61])
LEVEL = np.array([math.cos(math.pi / 4), 0.0, math.sin(math.pi / 4), 0.0])
"""Looks along -x."""
USUAL = Looks(
    {
        "cam_pos": np.array([[9.0, 9.0, 9.0], EYE]),
        "cam_quat": np.array([[1.0, 0.0, 0.0, 0.0], LEVEL]),
        "light_pos": np.array([[1.0, 1.0, 4.0]]),
        "light_dir": np.array([[0.0, 0.0, -1.0]]),
        "light_diffuse": np.full((1, 3), 0.8),
        "light_specular": np.full((1, 3), 0.3),
    },
    {name: np.full(3, 0.4) for name in ("ambient", "diffuse", "specular")},
)


def drawn(level, seed):
    return USUAL.disturbed(Episode(SOUP, seed, "evaluation"), level, 1)


def changed(looks):
    fields = {name for name, value in looks.fields.items() if not np.array_equal(value, USUAL.fields[name])}
    lit = {f"headlight {name}" for name, value in looks.headlight.items() if (value != USUAL.headlight[name]).any()}
    return fields | lit


def turn_of(quaternion):
    """Between this rotation and the usual one [rad]."""
    return 2.0 * math.acos(min(1.0, abs(float(quaternion @ LEVEL))))


def test_the_camera_goes_away_or_round_what_it_looks_at_or_looks_past_it():
    centre = EYE - [perturbation.LOOKS_AT, 0.0, 0.0]
    ways = {"away": 0, "round": 0, "past": 0}
    for seed in range(300):
        looks = drawn("camera", seed)
        assert changed(looks) <= {"cam_pos", "cam_quat"}
        np.testing.assert_array_equal(looks.fields["cam_pos"][0], USUAL.fields["cam_pos"][0])  # the wrist's
        moved, rotation = looks.fields["cam_pos"][1], looks.fields["cam_quat"][1]
        distance = np.linalg.norm(moved - centre) / perturbation.LOOKS_AT
        if np.array_equal(rotation, LEVEL):
            ways["away"] += 1
            assert 1.15 <= distance <= 2.0
        elif np.array_equal(moved, EYE):
            ways["past"] += 1
            assert math.radians(2.0) <= turn_of(rotation) <= math.radians(15.0)
        else:
            ways["round"] += 1
            assert distance == pytest.approx(1.0)
            assert abs(math.atan2(moved[1], moved[0] - centre[0])) <= math.radians(75.0) + 1e-9
            lift = math.asin((moved[2] - centre[2]) / perturbation.LOOKS_AT)
            assert min(abs(lift), abs(lift - math.radians(15.0))) < 1e-6
    assert min(ways.values()) > 70, ways


def test_lights_change_brightness_colour_and_direction_alone():
    lit = {f"headlight {name}" for name in USUAL.headlight}
    factors = []
    for seed in range(200):
        looks = drawn("light", seed)
        assert changed(looks) == {"light_pos", "light_dir", "light_diffuse", "light_specular"} | lit
        factor = looks.fields["light_diffuse"][0] / 0.8
        np.testing.assert_allclose(looks.headlight["ambient"] / 0.4, factor)
        factors.append(factor)
        assert looks.fields["light_dir"][0, 2] <= -math.cos(math.radians(30.0)) + 1e-9
    assert 0.4 * 0.7 <= np.min(factors) < 0.5
    assert 1.5 < np.max(factors) <= 1.6 * 1.3


def test_all_is_each_of_them_together_and_episodes_draw_alike_every_time():
    both, camera, light = (drawn(level, 5) for level in ("all", "camera", "light"))
    for name, value in both.fields.items():
        np.testing.assert_array_equal(value, (camera if name.startswith("cam") else light).fields[name])
    assert not np.array_equal(drawn("camera", 6).fields["cam_pos"], camera.fields["cam_pos"])
    assert not changed(drawn("pose", 5))


def test_the_arm_is_displaced_by_a_vector_of_told_length():
    lengths = [np.linalg.norm(perturbation.displacement(np.random.default_rng(seed), 7)) for seed in range(50)]
    assert {round(length, 9) for length in lengths} == set(perturbation.DISPLACEMENTS)


def test_a_level_that_does_not_exist_is_refused():
    with pytest.raises(VlaError, match="perturbation is 'wild'; choose one of none, camera, light, pose, all"):
        LiberoConfig(perturbation="wild")


def test_where_episodes_draw_something_new_there_may_be_more_than_there_are_states():
    assert LiberoBenchmark((SOUP,), LiberoOptions(perturbation="all")).num_evaluation_episodes(60) == 60


# From here on with the benchmark's own scenes.


def seen(cache, level, task=SOUP, seed=3):
    """A world's images, state, joint positions and looks at its start, and its state after a chunk of holding."""
    worlds = LiberoWorlds(1, LiberoConfig(perturbation=level, image_size=SIDE, cache=cache))
    worlds.reset([0], [Episode(task, seed, "evaluation")])
    world, scene = worlds.world(0), worlds.scene(task)
    images, state = np.zeros((1, 2, SIDE, SIDE, 3), dtype=np.uint8), np.empty((1, 7), dtype=np.float32)
    worlds.images([0], images)
    worlds.joint_states([0], state)
    world.enter()
    joints, looks = scene.data.qpos.copy(), Looks.of(scene.model)
    worlds.step_chunk([0], np.tile([0, 0, 0, 0, 0, 0, -1.0], (1, 8, 1)))
    held = state.copy()
    worlds.joint_states([0], held)
    found = dict(images=images[0].astype(int), state=state[0], joints=joints, held=held[0])
    worlds.close()
    return found | {"looks": looks}


def same_looks(one, other):
    return all(np.array_equal(value, other.fields[name]) for name, value in one.fields.items())


@pytest.fixture(scope="module", params=[SOUP, DRAWER])
def usual(request, cache):
    return request.param, seen(cache, "none", request.param)


@pytest.mark.libero
@pytest.mark.patience(600)
@pytest.mark.parametrize("level", ["camera", "light"])
def test_camera_and_light_change_images_and_no_physics(usual, cache, level):
    task, plain = usual
    found = seen(cache, level, task)
    for name in ("state", "joints", "held"):
        np.testing.assert_array_equal(found[name], plain[name])
    scene, wrist = np.abs(found["images"] - plain["images"]).mean(axis=(1, 2, 3))
    assert scene > 2.0
    assert (wrist > 2.0) == (level == "light")
    assert not same_looks(found["looks"], plain["looks"])


@pytest.mark.libero
@pytest.mark.patience(600)
def test_a_pose_moves_the_arm_alone_which_then_stays_there(usual, cache):
    task, plain = usual
    found = seen(cache, "pose", task)
    moved = found["joints"] - plain["joints"]
    assert round(float(np.linalg.norm(moved[ARM])), 9) in perturbation.DISPLACEMENTS
    np.testing.assert_array_equal(moved[7:], 0.0)
    assert same_looks(found["looks"], plain["looks"])
    assert np.abs(found["state"][:3] - plain["state"][:3]).max() > 0.005
    assert np.abs(found["held"] - found["state"]).max() < 0.01, "the controller holds the hand where it is"


@pytest.mark.libero
@pytest.mark.patience(600)
def test_worlds_of_other_looks_beside_a_world_leave_it_as_it_is(cache):
    config = LiberoConfig(perturbation="all", image_size=SIDE, cache=cache)
    alone, beside = LiberoWorlds(1, config), LiberoWorlds(3, config)
    episodes = [Episode(SOUP, seed, "evaluation") for seed in (3, 4, 5)]
    found = []
    for worlds, slot in ((alone, 0), (beside, 1)):
        chosen = [episodes[1]] if worlds is alone else episodes
        slots = list(range(len(chosen)))
        worlds.reset(slots, chosen)
        worlds.step_chunk(slots, np.random.default_rng(0).uniform(-1, 1, (1, 8, 7)).repeat(len(slots), axis=0))
        images = np.zeros((len(slots), 2, SIDE, SIDE, 3), dtype=np.uint8)
        worlds.images(slots, images)
        found.append((images[slot], worlds.world(slot).physics))
        worlds.close()
    for one, other in zip(*found, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.libero
@pytest.mark.patience(600)
def test_without_a_perturbation_nothing_of_the_model_is_ever_written(cache, monkeypatch):
    monkeypatch.setattr(Looks, "put_on", lambda *_: pytest.fail("the model's looks were changed"))
    plain = seen(cache, "none")
    assert plain["images"].std() > 5
