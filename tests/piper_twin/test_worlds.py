"""Worlds of one process: reproducible, independent of their company, and honest about what broke down."""

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from piper_twin import camera_renderer
from piper_twin.compiled_task import compiled_task
from piper_twin.episode import Episode
from piper_twin.expert import commands
from piper_twin.robot import ARMS, DUAL_PIPER, HOME
from piper_twin.task import Readings
from piper_twin.worlds import ChunkOutcome, TwinConfig, WorldBatch
from vla_policy.errors import VlaError

BLIND = TwinConfig(images=False)
BOTH_HOME = np.tile(HOME, len(ARMS))
HORIZON = compiled_task("click_bell").task.horizon


def bells(seeds) -> list[Episode]:
    return [Episode("click_bell", seed) for seed in seeds]


def start(episodes: list[Episode], config: TwinConfig = BLIND) -> WorldBatch:
    batch = WorldBatch(len(episodes), config)
    batch.reset(range(len(episodes)), episodes)
    return batch


def motion(count: int, length: int, seed: int = 0) -> np.ndarray:
    """Random small motions about home (count, length, 14)."""
    steps = np.random.default_rng(seed).normal(0.0, 0.01, (count, length, 14))
    return BOTH_HOME + steps.cumsum(axis=1)


def measured(batch: WorldBatch, slots) -> np.ndarray:
    state = np.zeros((len(slots), 14), dtype=np.float32)
    batch.joint_states(slots, state)
    return state


def hold(count: int, length: int) -> np.ndarray:
    return np.tile(BOTH_HOME, (count, length, 1))


def press(batch: WorldBatch, slot: int) -> np.ndarray:
    """The expert's commands in one slot (length, 14)."""
    world = batch.world(slot)
    return commands(world.compiled.task.plan(Readings(world.compiled.layout, world.start)), world.command)


def run_chunks(batch: WorldBatch, slot: int, plan: np.ndarray, length: int) -> list[ChunkOutcome]:
    """Step through a plan, its last command repeated, until the episode is done."""
    outcomes: list[ChunkOutcome] = []
    while not outcomes or not outcomes[-1].done_B[0]:
        first = len(outcomes) * length
        rows = np.minimum(np.arange(first, first + length), len(plan) - 1)
        outcomes.append(batch.step_chunk([slot], plan[None, rows]))
    return outcomes


@pytest.mark.parametrize("level", ["off", "wide"])
def test_the_same_episode_gives_the_same_trajectory_bit_for_bit_in_any_company(level):
    config = dataclasses.replace(BLIND, randomization=level)
    together, alone = start(bells(range(4)), config), start(bells([2]), config)
    for part in np.split(motion(4, 24), 3, axis=1):
        one, other = together.step_chunk(range(4), part), alone.step_chunk([0], part[2:3])
        np.testing.assert_array_equal(together.world(2).state, alone.world(0).state)
        np.testing.assert_array_equal(measured(together, [2]), measured(alone, [0]))
        np.testing.assert_array_equal(one.sent_BKA[2], other.sent_BKA[0])
        assert one.signals[2] == other.signals[0]


def test_threads_change_no_bit():
    episodes = bells(range(5))
    found = []
    for num_threads in (1, 3):
        batch = WorldBatch(5, BLIND, num_threads)
        batch.reset(range(5), episodes)
        begin = measured(batch, range(5))
        batch.step_chunk(range(5), motion(5, 2))
        found.append((begin, np.stack([batch.world(slot).state for slot in range(5)])))
    np.testing.assert_array_equal(found[0][0], found[1][0])
    np.testing.assert_array_equal(found[0][1], found[1][1])


def test_the_order_of_slots_does_not_matter():
    forwards, backwards = start(bells(range(3))), start(bells(range(3)))
    actions = motion(3, 8)
    forwards.step_chunk([0, 1, 2], actions)
    backwards.step_chunk([2, 0, 1], actions[[2, 0, 1]])
    for slot in range(3):
        np.testing.assert_array_equal(forwards.world(slot).state, backwards.world(slot).state)


def test_a_slot_remembers_nothing_of_the_world_before():
    config = TwinConfig(randomization="wide", images=False)
    used, fresh = start(bells([1]), config), start(bells([2]), config)
    used.step_chunk([0], motion(1, 8))
    used.reset([0], bells([2]))
    for batch in (used, fresh):
        batch.step_chunk([0], motion(1, 16, seed=1))
    np.testing.assert_array_equal(used.world(0).state, fresh.world(0).state)
    for field in used.world(0).variation.model_fields:
        np.testing.assert_array_equal(getattr(used.world(0).model, field), getattr(fresh.world(0).model, field))


def test_one_chunk_of_8_sends_what_8_chunks_of_1_send_and_physics_agrees_to_a_micrometre():
    # Not bit for bit: the contact solver starts cold in each chunk and stops within its tolerance.
    config = dataclasses.replace(BLIND, randomization="wide")  # with latency and lag
    whole, parts = start(bells([5]), config), start(bells([5]), config)
    actions = motion(1, 8)
    sent = whole.step_chunk([0], actions).sent_BKA
    sent_in_parts = [parts.step_chunk([0], actions[:, k : k + 1]).sent_BKA for k in range(8)]
    np.testing.assert_array_equal(np.concatenate(sent_in_parts, axis=1), sent)
    np.testing.assert_allclose(parts.world(0).state, whole.world(0).state, atol=1e-6)


@pytest.mark.parametrize("length", [1, 8, 13])
def test_success_is_found_at_the_same_step_for_any_chunk_length(length):
    expected = run_chunks(start(bells([0])), 0, press(start(bells([0])), 0), 4)
    batch = start(bells([0]))
    outcomes = run_chunks(batch, 0, press(batch, 0), length)
    assert outcomes[-1].success_B[0]
    assert not any(outcome.success_B[0] for outcome in outcomes[:-1])
    steps = sum(int(outcome.steps_B[0]) for outcome in outcomes)
    assert steps == sum(int(outcome.steps_B[0]) for outcome in expected)
    assert steps < HORIZON


def test_success_ends_the_count_of_steps_within_a_chunk():
    batch = start(bells([0]))
    plan = press(batch, 0)
    outcome = batch.step_chunk([0], plan[None])
    assert outcome.success_B[0]
    assert outcome.done_B[0]
    assert 0 < outcome.steps_B[0] < len(plan)
    assert outcome.signals[0]["touched"]


@pytest.mark.parametrize("length", [8, 10, HORIZON])
def test_the_horizon_ends_an_episode_without_success(length):
    batch = start(bells([0]))
    outcomes = run_chunks(batch, 0, BOTH_HOME[None], length)
    assert sum(int(outcome.steps_B[0]) for outcome in outcomes) == HORIZON
    assert len(outcomes) == -(-HORIZON // length)
    assert not outcomes[-1].success_B[0]
    assert not outcomes[-1].dropped_B[0]
    assert not any(outcomes[-1].signals[0].values())


def test_a_refused_command_is_held_and_counted():
    batch = start(bells([0, 1]))
    actions = hold(2, 8)
    actions[1, 3:5, 0] = np.nan
    outcome = batch.step_chunk([0, 1], actions)
    np.testing.assert_array_equal(outcome.refused_B, [0, 2])
    np.testing.assert_array_equal(outcome.sent_BKA, hold(2, 8).astype(np.float32))


def test_commands_keep_the_robots_limits_from_chunk_to_chunk():
    batch = start(bells([0]))
    far = hold(1, 8)
    far[:, :, 0] = 2.0
    sent = np.concatenate([batch.step_chunk([0], far).sent_BKA[0] for _ in range(3)])
    velocity = np.diff(sent, axis=0)[:, 0] / DUAL_PIPER.control_period
    assert 2.0 < velocity.max() <= 3.0 + 1e-4
    assert np.diff(velocity).max() <= 5.0 * DUAL_PIPER.control_period + 1e-4


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e12])
def test_a_world_that_breaks_down_is_dropped_and_its_neighbours_go_on(value, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    batch, whole = start(bells(range(3))), start(bells(range(3)))
    world = batch.world(1)
    world.state[1 + world.model.nq + 20] = value  # a velocity of the bell
    for part in np.split(motion(3, 16), 2, axis=1):
        outcome, expected = batch.step_chunk(range(3), part), whole.step_chunk(range(3), part)
        np.testing.assert_array_equal(outcome.dropped_B, [False, True, False])
        np.testing.assert_array_equal(outcome.done_B, [False, True, False])
        assert not outcome.success_B.any()
        assert outcome.steps_B[1] == 0
        for slot in (0, 2):
            np.testing.assert_array_equal(batch.world(slot).state, whole.world(slot).state)
        np.testing.assert_array_equal(outcome.sent_BKA, expected.sent_BKA)
    assert not list(tmp_path.iterdir()), "MuJoCo leaves no log behind"
    batch.reset([1], bells([1]))
    assert not batch.step_chunk([1], hold(1, 8)).dropped_B[0]


def test_two_tasks_share_a_batch():
    episodes = [Episode("click_bell", 0), Episode("play_reach_block", 1), Episode("click_bell", 2)]
    together = start(episodes)
    actions = np.stack([together.world(slot).command for slot in range(3)])[:, None] + motion(3, 8) - BOTH_HOME
    outcome = together.step_chunk(range(3), actions)
    assert set(outcome.signals[0]) == set(outcome.signals[2]) == {"touched", "pushed", "lifted"}
    assert set(outcome.signals[1]) == {"moved"}
    for slot, episode in enumerate(episodes):
        alone = start([episode])
        alone.step_chunk([0], actions[slot : slot + 1])
        np.testing.assert_array_equal(together.world(slot).state, alone.world(0).state)
        assert together.world(slot).instruction == alone.world(0).instruction


def test_readings_are_the_joints_in_metres_and_radians():
    np.testing.assert_allclose(measured(start(bells([0])), [0])[0], BOTH_HOME, atol=1e-3)


@pytest.mark.parametrize("size", [0, -64, 48, 256])
def test_an_image_size_that_does_not_divide_the_cameras_is_refused(size):
    with pytest.raises(VlaError, match=f"image_size {size} does not divide"):
        TwinConfig(image_size=size)


def look(batch: WorldBatch, slots) -> np.ndarray:
    size = batch.image_size
    images = np.zeros((len(slots), 3, size, size, 3), dtype=np.uint8)
    batch.images(slots, images)
    return images


@pytest.mark.sim
def test_images_differ_between_cameras_and_worlds_and_are_reproducible():
    config = TwinConfig(randomization="standard")
    together, alone = start(bells(range(3)), config), start(bells([1]), config)
    images = look(together, [0, 1, 2])
    assert images.shape == (3, len(DUAL_PIPER.cameras), 128, 128, 3)
    assert (images.std(axis=(2, 3)) > 5).all(), "no picture is empty"
    for one, other in ((0, 1), (0, 2), (1, 2)):
        assert (images[:, one] != images[:, other]).mean() > 0.5, "cameras differ"
        assert (images[one] != images[other]).mean() > 0.5, "worlds differ"
    np.testing.assert_array_equal(look(alone, [0])[0], images[1])
    for batch in (together, alone):
        batch.close()


@pytest.mark.sim
def test_small_images_are_the_large_ones_averaged():
    large, small = (look(start(bells([0]), TwinConfig(image_size=size)), [0]) for size in (128, 64))
    blocks = large.reshape(1, 3, 64, 2, 64, 2, 3).mean(axis=(3, 5))
    assert np.abs(small - blocks).max() <= 0.5


@pytest.mark.sim
def test_the_bell_is_seen_where_it_stands():
    batch = start(bells(range(6)))
    for slot, image in enumerate(look(batch, range(6))[:, 0].astype(int)):
        brass = (image[..., 0] > 150) & (image[..., 0] - image[..., 2] > 70) & (image[..., 1] > 110)
        assert brass.any()
        _, y, _ = batch.world(slot).start[batch.world(slot).compiled.layout["bell_position"]]
        column = np.flatnonzero(brass.any(axis=0)).mean()
        assert (column < 64) == (y > 0), "left of the robot is left in the head camera's image"


@pytest.mark.sim
def test_two_tasks_are_drawn_from_one_context():
    batch = start([Episode("click_bell", 0), Episode("play_reach_block", 1)])
    first = look(batch, [0, 1])
    np.testing.assert_array_equal(look(batch, [1, 0])[::-1], first)
    assert (first[0] != first[1]).mean() > 0.01


@pytest.mark.sim
def test_closing_one_batch_leaves_the_others_able_to_draw():
    one, other = start(bells([0])), start(bells([0]))
    expected = look(other, [0])
    look(one, [0])
    one.close()
    np.testing.assert_array_equal(look(other, [0]), expected)


def test_without_opengl_the_first_image_says_in_one_line_what_to_install():
    code = """
import numpy as np
from piper_twin.episode import Episode
from piper_twin.worlds import TwinConfig, WorldBatch
from vla_policy.errors import VlaError
batch = WorldBatch(1, TwinConfig())
batch.reset([0], [Episode("click_bell", 0)])
print("physics works")
try:
    batch.images([0], np.zeros((1, 3, 128, 128, 3), np.uint8))
except VlaError as error:
    print(error)
"""
    source = Path(__file__).parents[2] / "ros2_ws" / "src"
    path = os.pathsep.join(str(source / package) for package in ("vla_policy", "piper_twin"))
    result = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"MUJOCO_GL": "disable", "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    physics, error = result.stdout.splitlines()
    assert physics == "physics works"
    assert error.startswith("off-screen OpenGL does not start (")
    assert "apt-get install libosmesa6" in error
    assert "MUJOCO_GL" in error


def test_images_do_not_depend_on_what_is_drawn_beside_them():
    episodes = [Episode(task, seed) for seed in range(7) for task in ("click_bell", "stack_bowls")]
    slots = range(len(episodes))
    shape = (len(episodes), len(DUAL_PIPER.cameras), 128, 128, 3)
    together, alone = np.zeros(shape, np.uint8), np.zeros(shape, np.uint8)
    worlds = WorldBatch(len(episodes), TwinConfig(randomization="wide"))
    worlds.reset(slots, episodes)
    worlds.images(slots, together)
    worlds.close()
    for slot, episode in enumerate(episodes):
        one = WorldBatch(1, TwinConfig(randomization="wide"))
        one.reset([0], [episode])
        one.images([0], alone[slot : slot + 1])
        one.close()
    assert len(np.unique(together[0])) > 50
    np.testing.assert_array_equal(together, alone)


def test_more_images_than_a_sheet_holds_are_drawn_all_the_same(monkeypatch):
    monkeypatch.setattr(camera_renderer, "MAX_HEIGHT", 7 * 128)  # two worlds of three cameras
    worlds = WorldBatch(5, TwinConfig())
    worlds.reset(range(5), [Episode("click_bell", seed) for seed in range(5)])
    images = np.zeros((5, len(DUAL_PIPER.cameras), 128, 128, 3), np.uint8)
    worlds.images([4, 0, 2, 1, 3], images)
    worlds.images([0], one := np.zeros_like(images[:1]))
    worlds.close()
    np.testing.assert_array_equal(images[1], one[0])
    assert len({image.tobytes() for image in images}) == 5
