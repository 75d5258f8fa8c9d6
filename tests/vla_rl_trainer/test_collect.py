"""Experts into a dataset: the same one for any number of workers, whole or not at all."""

import dataclasses

import numpy as np
import pytest

from piper_twin.robot import DUAL_PIPER
from piper_twin.tasks import TASKS
from vla_policy.errors import VlaError
from vla_rl_trainer import collect
from vla_rl_trainer.collect import CollectConfig, main
from vla_rl_trainer.dataset import Dataset


@pytest.fixture(scope="module")
def collected(tmp_path_factory):
    """Two demonstrations recorded by two workers."""
    config = CollectConfig(out=tmp_path_factory.mktemp("collect") / "bell", num_demos=2, first_seed=5, num_workers=2)
    main(config)
    return config


@pytest.mark.sim
def test_a_dataset_holds_solved_episodes_of_this_robot(collected):
    dataset = Dataset(collected.out, DUAL_PIPER)
    assert dataset.num_episodes == 2
    assert dataset.success_E.all()
    for number in range(2):
        episode = dataset.episode(number)
        assert episode.task == "click_bell"
        assert episode.instruction in TASKS["click_bell"].instructions
        assert episode.seed is not None
        assert episode.seed >= 5
        assert tuple(episode.images) == DUAL_PIPER.camera_names
        assert episode.images["head"].shape == (len(episode), 128, 128, 3)
        assert all(images.std() > 5 for images in episode.images.values())
        assert np.abs(np.diff(episode.state, axis=0)).max() > 0.01, "the arm must have moved"
    assert not np.array_equal(dataset.episode(0).images["head"][0], dataset.episode(1).images["head"][0])


@pytest.mark.sim
def test_one_worker_records_what_two_do(collected, toys, tmp_path):
    main(dataclasses.replace(collected, out=tmp_path / "bell", num_workers=1))
    assert toys.tree_of(tmp_path / "bell") == toys.tree_of(collected.out)


@pytest.mark.sim
def test_a_dataset_that_exists_is_refused_and_not_touched(collected, toys, monkeypatch):
    monkeypatch.setattr(collect, "TwinVectorEnv", lambda *_, **__: pytest.fail("a simulation was started"))
    before = toys.tree_of(collected.out)
    with pytest.raises(VlaError, match="already exists; choose another path or delete it"):
        main(collected)
    assert toys.tree_of(collected.out) == before


def test_an_interrupted_recording_leaves_nothing(tmp_path, monkeypatch):
    class Interrupted:
        num_workers = 1

        def __init__(self, *_, **__):
            pass

        def demonstrate(self, episodes, *, look_every):
            raise KeyboardInterrupt

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

    monkeypatch.setattr(collect, "TwinVectorEnv", Interrupted)
    with pytest.raises(KeyboardInterrupt):
        main(CollectConfig(out=tmp_path / "bell"))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tasks": ("click_bel",)}, "task 'click_bel' does not exist; .*click_bell"),
        ({"tasks": ()}, "name at least one with --tasks"),
        ({"num_demos": 0}, "num_demos is 0; give at least 1"),
        ({"first_seed": -3}, "first_seed is -3; give at least 0"),
        ({"num_workers": 0}, "num_workers is 0; give at least 1"),
    ],
)
def test_what_cannot_be_recorded_is_refused(tmp_path, change, message):
    with pytest.raises(VlaError, match=message):
        CollectConfig(out=tmp_path / "bell", **change)
