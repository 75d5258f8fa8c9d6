"""The script in the benchmark's own worlds: it succeeds, what is recorded can be played again, names are right."""

import json

import numpy as np
import pytest

from piper_twin.episode import Episode
from vla_policy.errors import VlaError
from vla_rl_trainer.dataset import Dataset
from vla_rl_trainer.libero import rates, stock
from vla_rl_trainer.libero.collect import REPORT, LiberoCollectConfig, main
from vla_rl_trainer.libero.demonstrate import ScriptWorlds, demonstrate
from vla_rl_trainer.libero.embodiment import LIBERO_PANDA
from vla_rl_trainer.libero.file_names import FILE_NAMES, instruction_of
from vla_rl_trainer.libero.hdf5_files import is_noop
from vla_rl_trainer.libero.rates import LiberoRatesConfig
from vla_rl_trainer.libero.suites import HORIZONS, TaskName
from vla_rl_trainer.libero.worlds import LiberoConfig, LiberoWorlds

pytestmark = [pytest.mark.libero, pytest.mark.patience(600)]

SOUP, BOWL, STOVE = "libero_object/0", "libero_spatial/2", "libero_goal/7"
SIDE = 32


@pytest.fixture(scope="module")
def dataset(cache, tmp_path_factory):
    """A demonstration of two tasks from state 3 on, recorded by two workers."""
    out = tmp_path_factory.mktemp("demos") / "demos"
    options = {"suites": (SOUP, BOWL), "num_demos": 1, "first_seed": 3, "image_size": SIDE, "cache": cache}
    main(LiberoCollectConfig(out=out, num_workers=2, **options))
    return Dataset(out, LIBERO_PANDA)


def test_the_dataset_holds_a_success_of_each_task(dataset):
    assert dataset.success_E.tolist() == [True, True]
    for number, task in enumerate((SOUP, BOWL)):
        episode = dataset.episode(number)
        assert (episode.task, episode.seed) == (task, 3)
        assert episode.instruction == instruction_of(TaskName.parse(task))
        assert len(episode) < 150
        assert episode.images["agentview"].shape == (len(episode), SIDE, SIDE, 3)
        assert all(images.std() > 5 for images in episode.images.values())
        assert not is_noop(episode.action).any()
    report = json.loads((dataset.path / REPORT).read_text())["tasks"]
    assert report[SOUP]["max_steps"] == len(dataset.episode(0))


@pytest.mark.parametrize("number", [0, 1])
def test_its_actions_played_again_in_chunks_show_the_same_and_succeed_at_the_last(dataset, cache, number):
    episode = dataset.episode(number)
    worlds = LiberoWorlds(1, LiberoConfig(image_size=SIDE, render_size=128, cache=cache))
    worlds.reset([0], [Episode(episode.task, episode.seed, "train")])
    state = np.empty((1, 7), dtype=np.float32)
    shown = np.empty((1, 2, SIDE, SIDE, 3), dtype=np.uint8)
    for first in range(0, len(episode), 8):
        worlds.joint_states([0], state)
        worlds.images([0], shown)
        np.testing.assert_array_equal(state[0], episode.state[first])
        for index, camera in enumerate(LIBERO_PANDA.camera_names):
            np.testing.assert_array_equal(shown[0, index], episode.images[camera][first])
        outcome = worlds.step_chunk([0], episode.action[None, first : first + 8])
        assert outcome.done_B[0] == (first + 8 >= len(episode))
    assert outcome.success_B[0]
    assert outcome.steps_B[0] == len(episode) - first


def test_the_script_succeeds_from_every_state_it_is_asked_about(cache, tmp_path):
    out = tmp_path / "rates.json"
    rates.main(LiberoRatesConfig(suites=(SOUP, BOWL), num_states=4, num_workers=2, cache=cache, out=out))
    found = json.loads(out.read_text())["tasks"]
    assert list(found) == [SOUP, BOWL]
    for task in found.values():
        assert (task["num_states"], task["num_successes"], task["failed_states"]) == (4, 4, [])
        assert task["max_steps"] < HORIZONS["libero_spatial"]


def test_a_demonstration_is_decided_by_task_and_state(cache):
    worlds = ScriptWorlds(LiberoConfig(images=False, cache=cache))
    first, _, again = (demonstrate(worlds, Episode(SOUP, state, "demonstration"), None) for state in (5, 6, 5))
    assert first.success
    np.testing.assert_array_equal(first.action_TA, again.action_TA)


def test_a_task_that_is_no_placement_is_refused_through_the_workers(cache):
    with pytest.raises(VlaError, match=f"{STOVE} cannot be scripted: it asks for turnon flat_stove_1"):
        rates.script_rates(LiberoRatesConfig(suites=(STOVE,), num_states=1, num_workers=1, cache=cache))


@pytest.mark.usefixtures("assets")
@pytest.mark.parametrize("suite", FILE_NAMES)
def test_file_names_and_instructions_are_the_benchmarks(suite):
    for index, name in enumerate(FILE_NAMES[suite]):
        instruction, bddl, _ = stock.benchmark_task(TaskName(suite, index))
        assert (bddl.stem, instruction) == (name, instruction_of(TaskName(suite, index)))
