"""Play in LIBERO's scenes: what is pushed about, told, moved, and kept apart from the benchmark's tasks."""

import types

import mujoco
import numpy as np
import pytest

from piper_twin.episode import Episode
from vla_policy.policy import VlaPolicy
from vla_rl_trainer import pretrain
from vla_rl_trainer.benchmarks import playground
from vla_rl_trainer.benchmarks.libero import LiberoOptions
from vla_rl_trainer.libero import play
from vla_rl_trainer.libero.play import PlayWorlds, free_bodies, name_of
from vla_rl_trainer.libero.scene import LiberoConfig
from vla_rl_trainer.pretrain import PretrainConfig
from vla_rl_trainer.sft import SftConfig

pytestmark = pytest.mark.libero

TASK = "libero_object/0"


@pytest.fixture(scope="module")
def worlds(cache):
    made = PlayWorlds(LiberoConfig(cache=cache, perturbation="pose", image_size=64, render_size=128))
    yield made
    made.close()


def episode(seed, task=TASK):
    return Episode(task, seed, "pretraining")


def places(worlds):
    worlds.world(0).observe()
    scene = worlds.world(0).scene
    return scene.data.xpos[free_bodies(scene.model)].copy()


def test_the_same_episode_is_the_same_world_and_another_one_is_not(worlds):
    seen = []
    for seed in (0, 1, 0):
        worlds.reset([0], [episode(seed)])
        seen.append((places(worlds), worlds.instruction(0)))
    np.testing.assert_array_equal(seen[0][0], seen[2][0])
    assert seen[0][1] == seen[2][1]
    assert abs(seen[0][0] - seen[1][0]).max() > 0.02


def test_objects_are_pushed_about_without_being_pushed_into_one_another(worlds):
    deepest, moved = [], []
    for seed in range(6):
        worlds.reset([0], [episode(seed)])
        scene, there = worlds.world(0).scene, places(worlds)
        mujoco.mj_fwdPosition(scene.model, scene.data)
        deepest.append(scene.data.contact.dist.min())
        state = scene.compiled.states_NS[worlds.world(0).state]
        scene.enter(state, worlds.world(0).state)
        mujoco.mj_fwdPosition(scene.model, scene.data)
        moved.append(np.linalg.norm(scene.data.xpos[free_bodies(scene.model)] - there, axis=1))
    assert min(deepest) > -0.005
    assert (np.array(moved) > 0.01).mean() > 0.7


def test_something_small_goes_onto_something_apart(worlds):
    for seed in range(8):
        worlds.reset([0], [episode(seed)])
        world = worlds.world(0)
        names = [name_of(world.scene.model.body(body).name) for body in (worlds.moved, worlds.target)]
        assert names[0] != "basket"
        assert worlds.instruction(0) == f"pick up the {names[0]} and place it on the {names[1]}"
        world.observe()
        apart = np.linalg.norm((world.scene.data.xpos[worlds.moved] - world.scene.data.xpos[worlds.target])[:2])
        assert apart > play.APART
        assert not worlds.is_placed()


def test_most_play_succeeds_and_ends_with_the_object_where_it_was_to_go(worlds):
    found = [play.play(worlds, episode(seed), 4) for seed in range(5)]
    assert sum(one.success for one in found) >= 3
    for one in found:
        assert one.images_LCHW3.shape == (len(one.looked_L), 2, 64, 64, 3)
        assert len(one.action_TA) == len(one.state_TS)
        assert abs(one.action_TA).max() <= 1.0


def test_a_try_that_missed_its_object_ends_and_one_that_holds_it_goes_on():
    class Watcher:
        def __init__(self, rises):
            self.rises, self.looks = rises, 0

        def look(self):
            self.looks += 1
            return types.SimpleNamespace(object=np.array([0.0, 0.0, self.rises * self.looks]))

    actions = [np.array([*6 * [0.0], gripper]) for gripper in 10 * [-1.0] + 100 * [1.0]]
    assert len(list(play.until_missed(actions, Watcher(0.0)))) == 10 + play.MISSED_STEPS - 1
    assert len(list(play.until_missed(actions, Watcher(0.001)))) == 110


def test_an_episode_that_solves_the_benchmarks_task_is_none(worlds, monkeypatch):
    monkeypatch.setattr(PlayWorlds, "is_placed", lambda worlds: True)
    own = play.run
    monkeypatch.setattr(play, "run", lambda *given: own(*given) | {"success": True})
    assert not play.play(worlds, episode(0), None).success


@pytest.mark.parametrize(
    ("body", "name"),
    [
        ("alphabet_soup_1_main", "alphabet soup"),
        ("akita_black_bowl_2_main", "black bowl"),
        ("glazed_rim_porcelain_ramekin_1_main", "ramekin"),
        ("chefmate_8_frypan_1_main", "frying pan"),
    ],
)
def test_objects_are_called_what_the_benchmark_calls_them(body, name):
    assert name_of(body) == name


def test_the_tokenizer_knows_the_benchmarks_words():
    """A word it does not know would be spelt byte by byte."""
    tokenizer = pretrain.train_tokenizer(play.texts())
    told = "pick up the alphabet soup and place it in the basket"
    assert len(tokenizer.encode(told, add_special_tokens=False).ids) <= len(told.split()) + 2


def test_a_base_is_pretrained_on_it(cache, tmp_path, monkeypatch):
    monkeypatch.setattr(pretrain, "SHARD_EPISODES", 2)
    config = PretrainConfig(
        out=tmp_path / "base",
        suites=(TASK, "libero_spatial/2"),
        num_episodes=2,
        libero=LiberoOptions(cache=cache),
        num_workers=2,
        sft=SftConfig(num_steps=2, batch_size=2),
        checkpoint_every=2,
    )
    policy = VlaPolicy.load(pretrain.main(config))
    assert policy.embodiment.name == playground.LIBERO_PANDA.name
    assert policy.config.action_frame == "absolute"
