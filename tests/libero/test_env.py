"""LIBERO as a vector environment: worker processes, slots, episodes, memory, and a task that is solved."""

import os
import subprocess
import sys
from pathlib import Path

import mujoco
import numpy as np
import pytest

from piper_twin.episode import Episode
from vla_rl_trainer.envs.libero_env import LiberoVectorEnv
from vla_rl_trainer.libero import protocol
from vla_rl_trainer.libero.controller import ARM_DOFS, arm_mass
from vla_rl_trainer.libero.suites import NUM_STATES
from vla_rl_trainer.libero.worlds import LiberoConfig, LiberoWorlds

pytestmark = [pytest.mark.libero, pytest.mark.patience(600)]

SOUP = "libero_object/0"
MIXED = (SOUP, "libero_spatial/2", "libero_goal/7", "libero_10/3")


def motion(count, length=8, seed=0):
    return np.random.default_rng(seed).uniform(-1, 1, (count, length, 7)).astype(np.float32)


def play(cache, num_workers):
    """Everything that eight worlds of four tasks show in two chunks, two of them reset in between."""
    episodes = [Episode(task, seed) for task in MIXED for seed in (0, 1)]
    with LiberoVectorEnv(8, LiberoConfig(image_size=64, cache=cache), num_workers=num_workers) as env:
        found = [env.reset(range(8), episodes), *env.step_chunk(range(8), motion(8))]
        found += [env.reset([5, 2], [Episode(SOUP, 3), Episode(MIXED[3], 4)])]
        found += env.step_chunk([5, 0, 2], motion(3, 8, 1))
        assert env.num_restarts == 0
    arrays = []
    for one in found:
        names = (
            ("images_BCHW3", "state_BS") if hasattr(one, "state_BS") else ("success_B", "done_B", "steps_B", "sent_BKA")
        )
        arrays += [np.array(getattr(one, name)) for name in names]
    return arrays, found[0].instructions


def test_any_number_of_workers_gives_the_same_results_bit_for_bit(cache):
    (one, told), (two, _) = play(cache, 1), play(cache, 2)
    for mine, theirs in zip(one, two, strict=True):
        np.testing.assert_array_equal(mine, theirs)
    assert told[0] == told[1] == "pick up the alphabet soup and place it in the basket"
    assert (one[0].std(axis=(2, 3)) > 5).all(), "images are no empty pictures"


def test_a_world_does_not_depend_on_those_beside_it(cache):
    worlds = LiberoWorlds(3, LiberoConfig(images=False, cache=cache))
    states = np.empty((1, 7), dtype=np.float32)
    found = []
    for slots, seeds in (([1], [5]), ([0, 1, 2], [4, 5, 6])):
        worlds.reset(slots, [Episode(MIXED[1], seed) for seed in seeds])
        row = slots.index(1)
        chunk = np.repeat(motion(1), len(slots), axis=0)
        chunk[[index for index in range(len(slots)) if index != row]] *= -1
        worlds.step_chunk(slots, chunk)
        worlds.joint_states([1], states)
        found.append(states.copy())
    np.testing.assert_array_equal(*found)


@pytest.mark.parametrize("task", MIXED)
def test_the_arms_mass_is_that_block_of_the_whole_matrix_bit_for_bit(cache, task):
    worlds = LiberoWorlds(1, LiberoConfig(images=False, cache=cache))
    worlds.reset([0], [Episode(task, 0)])
    worlds.step_chunk([0], motion(1))
    model, data = worlds.scene(task).model, worlds.scene(task).data
    mass = np.zeros((model.nv, model.nv))
    mujoco.mj_fullM(model, mass, data.qM)
    np.testing.assert_array_equal(arm_mass(data.qM, model.dof_Madr), mass[:ARM_DOFS, :ARM_DOFS])
    assert (np.diag(mass)[:ARM_DOFS] > 0).all()


@pytest.mark.parametrize("task", MIXED)
def test_leaving_the_force_sensors_out_changes_no_bit_of_physics(cache, task):
    found = []
    for flag in (0, mujoco.mjtDisableBit.mjDSBL_SENSOR.value):
        worlds = LiberoWorlds(1, LiberoConfig(images=False, cache=cache))
        scene = worlds.scene(task)
        assert scene.model.opt.disableflags == mujoco.mjtDisableBit.mjDSBL_SENSOR.value
        scene.model.opt.disableflags = flag
        worlds.reset([0], [Episode(task, 0)])
        worlds.step_chunk([0], motion(1, 32))
        found.append(worlds.world(0).physics)
        assert scene.data.sensordata.any() == (flag == 0)
    np.testing.assert_array_equal(*found)


@pytest.mark.parametrize("task", MIXED)
def test_leaving_out_what_is_beside_the_view_changes_no_pixel(cache, task):
    worlds = LiberoWorlds(1, LiberoConfig(cache=cache))
    worlds.reset([0], [Episode(task, 0)])
    shown, whole = (np.zeros((1, 2, 128, 128, 3), dtype=np.uint8) for _ in range(2))
    for seed in range(4):
        worlds.step_chunk([0], motion(1, 16, seed))
        worlds.images([0], shown)
        cameras = worlds.scene(task)._cameras
        assert cameras is not None and cameras._culls
        cameras._culls = False
        worlds.images([0], whole)
        cameras._culls = True
        np.testing.assert_array_equal(shown, whole)


def test_an_episode_ends_at_the_official_horizon(cache):
    worlds = LiberoWorlds(1, LiberoConfig(images=False, cache=cache))
    worlds.reset([0], [Episode(SOUP, 0)])
    still = np.zeros((1, 32, 7), dtype=np.float32)
    outcomes = [worlds.step_chunk([0], still) for _ in range(9)]
    assert [int(outcome.steps_B[0]) for outcome in outcomes] == [32] * 8 + [280 - 8 * 32]
    assert [bool(outcome.done_B[0]) for outcome in outcomes] == [False] * 8 + [True]
    assert not outcomes[-1].success_B[0]


def test_a_world_that_breaks_down_is_dropped_and_never_scored(cache):
    worlds = LiberoWorlds(1, LiberoConfig(images=False, cache=cache))
    worlds.reset([0], [Episode(SOUP, 0)])
    worlds.world(0).physics[1:60] = 1e12
    outcome = worlds.step_chunk([0], motion(1))
    assert outcome.dropped_B[0] and outcome.done_B[0] and not outcome.success_B[0]
    worlds.reset([0], [Episode(SOUP, 0)])
    assert not worlds.step_chunk([0], motion(1)).dropped_B[0]


def carry(worlds, target, opening, steps):
    """Chunks of one step that move the hand to `target` and hold the gripper."""
    state = np.empty((1, 7), dtype=np.float32)
    for _ in range(steps):
        worlds.joint_states([0], state)
        action = np.zeros((1, 1, 7), dtype=np.float32)
        action[0, 0, :3] = np.clip(0.9 / 0.05 * (target - state[0, :3]), -1, 1)
        action[0, 0, 6] = opening
        outcome = worlds.step_chunk([0], action)
        if outcome.done_B[0]:
            break
    return outcome


def test_a_script_puts_the_soup_into_the_basket_and_the_predicate_says_so(cache):
    worlds = LiberoWorlds(1, LiberoConfig(images=False, cache=cache))
    worlds.reset([0], [Episode(SOUP, 0)])
    world, scene = worlds.world(0), worlds.scene(SOUP)
    world.observe()
    goal = scene.compiled.goals[0]
    soup, basket = scene.data.xpos[goal.body].copy(), scene.data.site_xpos[goal.site].copy()
    up = np.array([0.0, 0.0, 1.0])
    signals = set()
    for target, opening, steps in (
        (soup + 0.12 * up, -1, 30),
        (soup, -1, 30),
        (soup, 1, 15),
        (soup + 0.25 * up, 1, 30),
        (basket * [1, 1, 0] + (soup[2] + 0.25) * up, 1, 40),
        (basket * [1, 1, 0] + (soup[2] + 0.20) * up, 1, 15),
        (basket * [1, 1, 0] + (soup[2] + 0.20) * up, -1, 40),
    ):
        outcome = carry(worlds, target, opening, steps)
        signals |= {name for name, happened in outcome.signals[0].items() if happened}
    assert outcome.success_B[0] and outcome.done_B[0]
    assert signals == {"grasped alphabet_soup_1", goal.name}


def test_a_worker_needs_neither_the_benchmark_nor_torch(cache):
    code = f"""
import sys, importlib.abc
class Refuse(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        assert name.split(".")[0] not in ("robosuite", "bddl", "libero", "torch", "rclpy"), name
sys.meta_path.insert(0, Refuse())
import numpy as np
from pathlib import Path
import vla_rl_trainer.envs.worker
from piper_twin.episode import Episode
from vla_rl_trainer.libero.worlds import LiberoConfig, LiberoWorlds
worlds = LiberoWorlds(1, LiberoConfig(cache=Path({str(cache)!r}), image_size=32))
worlds.reset([0], [Episode({SOUP!r}, 0)])
worlds.step_chunk([0], np.zeros((1, 2, 7)))
image = np.zeros((1, 2, 32, 32, 3), dtype=np.uint8)
worlds.images([0], image)
print(image.std() > 5)
"""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.stdout.strip() == "True", done.stderr


def test_a_further_world_costs_less_than_two_megabytes(cache):
    def resident():
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    worlds = LiberoWorlds(264, LiberoConfig(images=False, cache=cache))

    def run(slots):
        worlds.reset(slots, [Episode(SOUP, slot) for slot in slots])
        worlds.step_chunk(slots, np.zeros((len(slots), 1, 7)))
        return resident()

    few = run(range(8))
    assert (run(range(264)) - few) / 256 < 2e6


def test_evaluation_starts_where_training_never_does(cache):
    worlds = LiberoWorlds(1, LiberoConfig(images=False, cache=cache))
    starts = {}
    for split in ("train", "evaluation"):
        starts[split] = set()
        for seed in range(NUM_STATES):
            worlds.reset([0], [Episode(SOUP, seed, split)])
            starts[split].add(worlds.world(0).physics.tobytes())
    assert starts["train"].isdisjoint(starts["evaluation"])
    assert len(starts["train"]) == protocol.NUM_TRAIN_STATES


def test_the_first_import_asks_no_question_and_leaves_the_home_folder_alone(assets, tmp_path):
    code = "from vla_rl_trainer.libero import stock; print(stock.benchmark_task(stock.TaskName('libero_goal', 0))[0])"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "HOME": str(tmp_path)}
    environment.pop("LIBERO_CONFIG_PATH", None)
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True
    )
    assert done.stdout.strip() == "open the middle drawer of the cabinet", done.stderr
    assert not (tmp_path / ".libero").exists()
