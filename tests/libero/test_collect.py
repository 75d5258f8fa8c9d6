"""Scripted demonstrations on their way into a dataset, with an environment that only says it has played them."""

import dataclasses
import json

import numpy as np
import pytest

from vla_policy.errors import VlaError
from vla_rl_trainer.dataset import Dataset
from vla_rl_trainer.libero import collect as module
from vla_rl_trainer.libero.collect import REPORT, LiberoCollectConfig, main
from vla_rl_trainer.libero.demonstrate import ScriptedDemonstration
from vla_rl_trainer.libero.embodiment import LIBERO_PANDA
from vla_rl_trainer.libero.protocol import NUM_TRAIN_STATES
from vla_rl_trainer.libero.rates import LiberoRatesConfig

TASKS = ("libero_object/3", "libero_spatial/1")
SIDE = 8


class Player:
    """Plays episodes by number: `fails` are states from which the script does not succeed."""

    num_workers = 1

    def __init__(self, fails=(), dies_after=None):
        self.fails, self.left, self.played = fails, dies_after, []

    def demonstrate(self, episodes):
        return [self._play(episode) for episode in episodes]

    def _play(self, episode):
        if self.left == 0:
            raise KeyboardInterrupt
        self.left = None if self.left is None else self.left - 1
        self.played.append((episode.task, episode.seed))
        assert episode.split == "demonstration"
        success = episode.seed not in self.fails
        rng = episode.generator("toy")
        length = 3 + episode.seed % 3
        return ScriptedDemonstration(
            images_LCHW3=rng.integers(0, 255, (length, 2, SIDE, SIDE, 3), dtype=np.uint8),
            looked_L=np.arange(length),
            state_TS=rng.normal(size=(length, 7)).astype(np.float32),
            action_TA=rng.uniform(-1, 1, (length, 7)).astype(np.float32),
            instruction=f"do {episode.task}",
            success=success,
            way="straight" if success else "high",
            num_tries=1 if success else 8,
        )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass


@pytest.fixture
def config(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "compile_missing", lambda *_: None)
    return LiberoCollectConfig(out=tmp_path / "demos", suites=TASKS, num_demos=2)


@pytest.fixture
def run(monkeypatch):
    def run(config, player):
        monkeypatch.setattr(module, "script_env", lambda *_: player)
        main(config)
        return player

    return run


def test_states_are_tried_in_turn_until_there_are_enough_successes(config, run):
    player = run(dataclasses.replace(config, first_seed=28), Player(fails=(29, 0)))
    assert {state for _, state in player.played} == {28, 29, 0, 1}
    dataset = Dataset(config.out, LIBERO_PANDA)
    assert dataset.success_E.all()
    found = [(episode.task, episode.seed) for episode in map(dataset.episode, range(dataset.num_episodes))]
    assert found == [(task, state) for task in TASKS for state in (1, 28)]
    report = json.loads((config.out / REPORT).read_text())["tasks"]
    assert [report[task]["failed_states"] for task in TASKS] == [[0, 29]] * 2
    assert [report[task]["num_successes"] for task in TASKS] == [2, 2]


def test_an_episode_is_stored_as_it_was_played(config, run):
    run(config, Player())
    episode = Dataset(config.out, LIBERO_PANDA).episode(3)
    (played,) = Player().demonstrate([module.Episode(TASKS[1], 1, "demonstration")])
    assert episode.instruction == "do libero_spatial/1"
    np.testing.assert_array_equal(episode.action, played.action_TA)
    np.testing.assert_array_equal(episode.state, played.state_TS)
    for index, camera in enumerate(LIBERO_PANDA.camera_names):
        np.testing.assert_array_equal(episode.images[camera], played.images_LCHW3[:, index])


def test_a_stopped_recording_goes_on_where_it_was(config, run, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        run(config, Player(fails=(1,), dies_after=4))
    assert not config.out.exists()
    second = run(config, Player(fails=(1,)))
    assert len(second.played) == 2, "the second states of both tasks were not enough; all else is there"
    assert [path.name for path in tmp_path.iterdir()] == ["demos"], "nothing is left beside the dataset"
    whole = dataclasses.replace(config, out=tmp_path / "whole")
    run(whole, Player(fails=(1,)))
    data = "data/chunk-000/file-000.parquet"
    assert (config.out / data).read_bytes() == (whole.out / data).read_bytes()


def test_going_on_with_other_options_is_refused(config, run):
    with pytest.raises(KeyboardInterrupt):
        run(config, Player(dies_after=3))
    with pytest.raises(VlaError, match=r"\.demos\.episodes was begun with other options; delete it, or choose"):
        run(dataclasses.replace(config, image_size=64), Player())


def test_a_damaged_episode_is_named(config, run, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        run(config, Player(dies_after=3))
    damaged = sorted((tmp_path / ".demos.episodes").glob("*.npz"))[0]
    damaged.write_bytes(damaged.read_bytes()[:50])
    with pytest.raises(VlaError, match=rf"{damaged.name} is damaged .* delete it, and it is made again"):
        run(config, Player())


def test_a_task_that_never_succeeds_leaves_the_others(config, run, capsys):
    class OnlySpatial(Player):
        def _play(self, episode):
            return dataclasses.replace(super()._play(episode), success=episode.task == TASKS[1])

    player = run(config, OnlySpatial())
    assert sum(task == TASKS[0] for task, _ in player.played) == NUM_TRAIN_STATES
    assert Dataset(config.out, LIBERO_PANDA).num_episodes == 2
    assert "2 of 4 demonstrations" in " ".join(capsys.readouterr().out.split())


def test_nothing_is_recorded_when_nothing_succeeds(config, run):
    with pytest.raises(VlaError, match="the script failed in all 60 episodes it tried"):
        run(config, Player(fails=range(NUM_TRAIN_STATES)))
    assert not config.out.exists()


def test_a_dataset_that_exists_is_refused_before_anything_is_played(config, run):
    config.out.mkdir()
    player = Player()
    with pytest.raises(VlaError, match="already exists; choose another path or delete it"):
        run(config, player)
    assert not player.played


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"suites": ("libero_objects",)}, "suite 'libero_objects' does not exist"),
        ({"suites": ()}, "name a suite or a task with --suites"),
        ({"suites": ("libero_object", "libero_object/3")}, "a task was given twice"),
        ({"num_demos": 0}, "num_demos is 0; give at least 1"),
        ({"num_demos": 31}, "num_demos is 31; give at most 30"),
        ({"first_seed": -1}, "first_seed is -1; give at least 0"),
        ({"num_workers": 0}, "num_workers is 0; give at least 1"),
    ],
)
def test_what_cannot_be_recorded_is_refused(tmp_path, change, message):
    with pytest.raises(VlaError, match=message):
        LiberoCollectConfig(out=tmp_path / "demos", **change)


@pytest.mark.parametrize(("size", "drawn"), [(64, 128), (128, 128), (224, 256)])
def test_images_are_drawn_as_the_policy_will_see_them(tmp_path, size, drawn):
    worlds = LiberoCollectConfig(out=tmp_path, image_size=size).worlds
    assert (worlds.image_size, worlds.render_size, worlds.states) == (size, drawn, "held_out")


def test_rates_of_more_states_than_training_may_use_are_refused():
    assert len(LiberoRatesConfig().tasks) == 20
    with pytest.raises(VlaError, match="num_states is 31; give at most 30"):
        LiberoRatesConfig(num_states=31)
