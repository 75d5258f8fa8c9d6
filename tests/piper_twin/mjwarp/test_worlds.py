"""Worlds on mujoco_warp: reproducible, independent of their company, and honest about what went wrong."""

import dataclasses

import numpy as np
import pytest
import torch

pytest.importorskip("mujoco_warp", reason='install it with pip install -c constraints.txt -e ".[warp]"')

from piper_twin.episode import Episode
from piper_twin.expert import commands
from piper_twin.mjwarp.worlds import WarpWorlds
from piper_twin.robot import ARMS, HOME
from piper_twin.task import Readings
from piper_twin.worlds import TwinConfig, WorldBatch
from vla_policy.errors import VlaError

BOTH_HOME = np.tile(HOME, len(ARMS))
BLIND = TwinConfig(randomization="wide", images=False)


def start(on_cpu, *episodes: Episode, num_slots: int | None = None) -> WarpWorlds:
    worlds = WarpWorlds(num_slots or len(episodes), BLIND, on_cpu)
    worlds.reset(range(len(episodes)), episodes)
    return worlds


def wander(count: int, length: int = 2, seed: int = 0) -> np.ndarray:
    return BOTH_HOME + np.random.default_rng(seed).normal(0.0, 0.02, (count, length, 14)).cumsum(axis=1)


def bells_of(worlds: WarpWorlds):
    return worlds._tasks["click_bell"]


BELLS = [Episode("click_bell", seed) for seed in range(3)]


def test_the_same_episode_gives_the_same_trajectory_bit_for_bit_in_any_company_and_again(on_cpu):
    together, alone = start(on_cpu, *BELLS), start(on_cpu, BELLS[2])
    for worlds, slot in ((together, 2), (alone, 0)):
        worlds.step_chunk(range(worlds.num_slots), wander(3)[-worlds.num_slots :])
        assert worlds.positions(slot).dtype == np.float32
    once = together.positions(2)
    np.testing.assert_array_equal(once, alone.positions(0))
    together.reset([2], [BELLS[2]])
    together.step_chunk([2], wander(3)[2:])
    np.testing.assert_array_equal(together.positions(2), once)


def test_slots_that_are_not_stepped_keep_their_worlds_while_the_batch_grows(on_cpu):
    worlds = start(on_cpu, BELLS[0], num_slots=4)
    worlds.step_chunk([0], wander(1))
    before = worlds.positions(0), worlds.states([0]).numpy()
    worlds.reset([1, 2], BELLS[1:])
    outcome = worlds.step_chunk([2, 1], wander(2))
    assert outcome.steps_B.tolist() == [2, 2]
    np.testing.assert_array_equal(worlds.positions(0), before[0])
    np.testing.assert_array_equal(worlds.states([0]).numpy(), before[1])
    whole = start(on_cpu, BELLS[0])
    for chunk in (wander(1), wander(1, seed=1)):
        whole.step_chunk([0], chunk)
    worlds.step_chunk([0], wander(1, seed=1))
    np.testing.assert_array_equal(worlds.positions(0), whole.positions(0))


def test_a_world_that_breaks_down_is_dropped_and_its_neighbours_go_on(anywhere):
    worlds, whole = start(anywhere, *BELLS[:2]), start(anywhere, *BELLS[:2])
    bells_of(worlds)._physics._qvel[worlds.world(0).row, 20] = np.nan  # a velocity of the bell
    outcome, expected = worlds.step_chunk([0, 1], wander(2)), whole.step_chunk([0, 1], wander(2))
    np.testing.assert_array_equal(outcome.dropped_B, [True, False])
    np.testing.assert_array_equal(outcome.done_B, [True, False])
    np.testing.assert_array_equal(outcome.steps_B, [0, 2])
    assert not outcome.success_B.any()
    assert not expected.dropped_B.any()
    np.testing.assert_allclose(worlds.positions(1), whole.positions(1), rtol=0, atol=1e-5)
    worlds.reset([0], BELLS[:1])
    assert not worlds.step_chunk([0], wander(1)).dropped_B[0]


def test_two_tasks_share_the_slots(anywhere):
    worlds = start(anywhere, Episode("pick_bottle", 1), BELLS[0])
    outcome = worlds.step_chunk([1, 0], wander(2))
    assert set(outcome.signals[0]) == {"touched", "pushed", "lifted"}
    assert set(outcome.signals[1]) == {"grasped", "lifted", "pushed", "toppled"}
    assert worlds.instruction(0) != worlds.instruction(1)


def readings_of_the_expert(episode: Episode) -> np.ndarray:
    """Sensor values at every control step until success (T, num_sensors), from the other backend."""
    worlds, rows = WorldBatch(1, BLIND), []
    worlds.reset([0], [episode])
    world = worlds.world(0)
    for row in commands(world.compiled.task.plan(Readings(world.compiled.layout, world.start)), world.command):
        outcome = worlds.step_chunk([0], row[None, None])
        rows.append(world.sensors.copy())
        if outcome.done_B[0]:
            break
    assert outcome.success_B[0]
    return np.array(rows)


def test_a_prerequisite_is_remembered_from_chunk_to_chunk_and_forgotten_with_the_episode(on_cpu):
    """Both rows are shown the can where it belongs; only the first was shown before how it was carried there."""
    episode = Episode("move_can_pot_strict", 0)
    worlds = start(on_cpu, episode, episode)
    mine = worlds._tasks[episode.task]
    shown = torch.as_tensor(readings_of_the_expert(episode), dtype=torch.float32)
    carried, stood, done = shown[:-1], shown[:1].expand(len(shown) - 1, -1), shown[-1:].expand(2, 1, -1)
    active = torch.tensor([True, True])
    assert not mine._judge(torch.stack([carried, stood]), active)[0].any()
    assert mine._judge(done, active)[0].tolist() == [True, False]
    worlds.reset([0], [episode])
    assert mine._judge(done, active)[0].tolist() == [False, False]
    mine._judge(torch.stack([carried, carried]), torch.tensor([False, True]))
    assert mine._judge(done, active)[0].tolist() == [False, True], "a row that did not move saw nothing"


def test_the_horizon_ends_an_episode_without_success(anywhere):
    worlds = start(anywhere, BELLS[0])
    bells_of(worlds)._steps_B[:] = worlds.world(0).compiled.task.horizon - 1
    outcome = worlds.step_chunk([0], wander(1))
    assert outcome.done_B[0]
    assert outcome.steps_B[0] == 1
    assert not outcome.success_B[0]
    assert not outcome.dropped_B[0]


@pytest.mark.parametrize(
    ("setting", "told"),
    [("contacts_per_world", "--warp.contacts-per-world"), ("constraints_per_world", "--warp.constraints-per-world")],
)
def test_contacts_that_find_no_room_are_told_with_the_setting_to_raise(anywhere, setting, told):
    worlds = start(dataclasses.replace(anywhere, **{setting: 2}), BELLS[0])
    with pytest.raises(VlaError, match=rf"{setting} is 2: some were left out; give {told} \d+"):
        worlds.step_chunk([0], wander(1, length=1))
