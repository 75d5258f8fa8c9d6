"""A world on its own clock: the same as in a batch, safe to look at from anywhere."""

import threading

import numpy as np
import pytest

from piper_bringup.live_world import LiveWorld
from piper_twin.cell import TIMESTEP
from piper_twin.episode import Episode
from piper_twin.expert import commands
from piper_twin.guard import Guard
from piper_twin.robot import CONTROL_PERIOD, DUAL_PIPER, HOME
from piper_twin.task import Readings
from piper_twin.worlds import SUBSTEPS, TwinConfig, WorldBatch
from vla_policy.errors import VlaError

BOTH_HOME = np.tile(HOME, 2)


@pytest.fixture
def live():
    made = []

    def make(*args, **kwargs):
        made.append(LiveWorld(*args, **kwargs))
        return made[-1]

    yield make
    for world in made:
        world.close()


def batch_of(episode: Episode, randomization: str) -> WorldBatch:
    batch = WorldBatch(1, TwinConfig(randomization=randomization))
    batch.reset([0], [episode])
    return batch


def expert_plan(batch: WorldBatch) -> np.ndarray:
    """The expert's commands up to the horizon (length, 14)."""
    world = batch.world(0)
    task = world.compiled.task
    return commands(task.plan(Readings(world.compiled.layout, world.start)), world.command)[: task.horizon]


def guarded(plan: np.ndarray, start: np.ndarray) -> np.ndarray:
    """What the guard makes of a plan, as a batch does it."""
    guard, previous, velocity, rows = Guard(DUAL_PIPER), start[None], np.zeros((1, 14)), []
    for row in plan:
        previous, velocity, _ = guard.filter(row[None], previous, velocity, CONTROL_PERIOD)
        rows.append(previous[0])
    return np.array(rows)


def follow(world: LiveWorld, plan: np.ndarray, start: np.ndarray) -> np.ndarray:
    """Ramp from command to command; returns the joints measured behind each (length, 14)."""
    previous, measured = start, []
    for row in plan:
        for share in np.arange(1, SUBSTEPS + 1) / SUBSTEPS:
            world.command(previous + (row - previous) * share)
            world.advance(TIMESTEP)
        previous = row
        measured.append(world.joints())
    return np.array(measured)


@pytest.mark.parametrize(("task", "randomization"), [("pick_bottle", "off"), ("click_bell", "wide")])
def test_the_same_ramps_give_the_trajectory_and_success_of_a_batch_bit_for_bit(live, task, randomization):
    episode = Episode(task, 3, "evaluation")
    batch, stepped = batch_of(episode, randomization), batch_of(episode, randomization)
    world = live(task, 3, randomization=randomization)
    plan, start = expert_plan(batch), batch.world(0).command.copy()
    expected = np.zeros((len(plan), 1, 14), dtype=np.float32)
    for k, row in enumerate(plan):
        stepped.step_chunk([0], row[None, None])
        stepped.joint_states([0], expected[k])
    outcome = batch.step_chunk([0], plan[None])
    measured = follow(world, guarded(plan, start), start)
    np.testing.assert_array_equal(world.moment.state, batch.world(0).state)
    # Stepped in parts, a batch starts its contact solver cold in each part.
    np.testing.assert_allclose(measured, expected[:, 0], atol=2e-4)
    assert outcome.success_B[0]
    assert world.solved()
    assert world.moment.solved_after == pytest.approx(outcome.steps_B[0] * CONTROL_PERIOD)


@pytest.mark.sim
def test_images_are_those_of_a_batch_with_its_noise(live):
    images = np.zeros((1, 3, 128, 128, 3), dtype=np.uint8)
    batch_of(Episode("stack_bowls", 1, "evaluation"), "wide").images([0], images)
    seen = live("stack_bowls", 1, randomization="wide").images()
    assert tuple(seen) == DUAL_PIPER.camera_names
    np.testing.assert_array_equal(np.stack(list(seen.values())), images[0])


@pytest.mark.sim
def test_several_threads_look_while_the_world_goes_on_and_is_reset(live):
    world = live("click_bell", 0)
    ended = threading.Event()
    errors = []

    def look():
        try:
            while not ended.is_set():
                assert all(image.std() > 5 for image in world.images().values())
                assert np.abs(world.joints() - BOTH_HOME).max() < 0.01
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=look) for _ in range(2)]
    for thread in threads:
        thread.start()
    for seed in range(3):
        for task in ("click_bell", "pick_bottle"):
            world.reset(Episode(task, seed))
            world.advance(10 * TIMESTEP)
    ended.set()
    for thread in threads:
        thread.join()
    assert not errors
    assert world.time == pytest.approx(60 * TIMESTEP)


def test_a_reset_starts_the_episode_and_its_judgement_anew(live):
    world = live("click_bell", 3)
    batch = batch_of(world.episode, "off")
    follow(world, guarded(expert_plan(batch), BOTH_HOME), BOTH_HOME)
    assert world.solved()
    before = world.time
    world.reset(Episode("pick_bottle", 5))
    assert not world.solved()
    assert world.episode == Episode("pick_bottle", 5)
    assert "bottle" in world.instruction
    np.testing.assert_allclose(world.joints(), BOTH_HOME, atol=1e-3)
    world.advance(0.4)
    np.testing.assert_allclose(world.joints(), BOTH_HOME, atol=1e-3)
    assert world.time == pytest.approx(before + 0.4), "the clock is never turned back"


def test_encoders_are_off_by_the_zeros_of_the_joints(live):
    world = live("click_bell", 0, randomization="wide")
    assert np.abs(world.moment.world.variation.joint_offset).max() > 0.0
    np.testing.assert_allclose(world.joints(), BOTH_HOME, atol=1e-3)


def test_objects_are_told_by_name_with_their_pose(live):
    world = live("stack_bowls", 0)
    placed = {name: pose[:3] for name, pose in world.moment.objects().items()}
    layout, start = world.moment.world.compiled.layout, world.moment.world.start
    assert placed
    for name, position in placed.items():
        np.testing.assert_allclose(position, start[layout[f"{name}_position"]], atol=2e-3)


def test_a_world_that_breaks_down_stands_still_until_it_is_reset(live, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    world = live("click_bell", 0)
    world.moment.world.model.opt.gravity[:] = np.nan
    world.advance(0.2)
    assert world.moment.is_broken
    np.testing.assert_allclose(world.joints(), BOTH_HOME, atol=1e-2)
    assert world.time == pytest.approx(0.2), "whoever waits for a time is not left waiting"
    assert not list(tmp_path.iterdir()), "MuJoCo leaves no log behind"
    world.reset(world.episode)
    world.advance(0.2)
    assert not world.moment.is_broken


@pytest.mark.parametrize("targets", [BOTH_HOME[:7], np.full(14, np.nan), BOTH_HOME[None]])
def test_targets_that_mean_nothing_are_refused(live, targets):
    with pytest.raises(VlaError, match="14 finite joint targets"):
        live("click_bell", 0).command(targets)


def test_a_time_between_two_physics_steps_is_refused(live):
    with pytest.raises(VlaError, match=r"cannot advance by 0.005 s; give a multiple of 0.004 s"):
        live("click_bell", 0).advance(0.005)


def test_an_unknown_task_is_refused_by_name():
    with pytest.raises(VlaError, match="task 'dance' does not exist"):
        LiveWorld("dance", 0)
