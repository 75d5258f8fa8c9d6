"""Files laid out as LIBERO's public demonstrations become a dataset; what is not one says so in a line."""

import dataclasses
import json

import numpy as np
import pytest

from vla_policy.errors import VlaError
from vla_rl_trainer.dataset import Dataset
from vla_rl_trainer.libero.embodiment import LIBERO_PANDA
from vla_rl_trainer.libero.file_names import find_task
from vla_rl_trainer.libero.hdf5_files import is_late, is_noop
from vla_rl_trainer.libero.import_hdf5 import REPORT, ImportHdf5Config, find_files, main
from vla_rl_trainer.libero.suites import TaskName

SIDE, LENGTH = 16, 9
BUTTER = "pick_up_the_butter_and_place_it_in_the_basket"
needs_h5py = pytest.mark.libero


def actions_of(seed, length=LENGTH):
    actions = np.random.default_rng(seed).uniform(-1, 1, (length, 7))
    actions[:, 6] = np.where(np.arange(length) < length // 2, -1.0, 1.0)
    return actions


def demo_of(seed, late):
    """Arrays of one demonstration: row t of `images` shows t, joints are t before action t and t + 1 after it."""
    rng = np.random.default_rng(seed)
    seen = np.arange(LENGTH) + int(late)
    images = np.zeros((LENGTH, SIDE, SIDE, 3), dtype=np.uint8)
    images[:, 0, 0, 0] = 10 * seen + 1  # the lower left corner, as OpenGL has it
    return {
        "actions": actions_of(seed),
        "states": np.arange(LENGTH)[:, None] + np.concatenate([[100.0], rng.uniform(0, 0.1, 40)]),
        "robot_states": rng.normal(size=(LENGTH, 9)),
        "rewards": np.arange(LENGTH) == LENGTH - 1,
        "dones": np.arange(LENGTH) == LENGTH - 1,
        "obs/agentview_rgb": images,
        "obs/eye_in_hand_rgb": images[:, :, ::-1].copy(),
        "obs/ee_pos": seen[:, None] + [0.1, 0.2, 0.3],
        "obs/ee_ori": np.full((LENGTH, 3), 0.5),
        "obs/gripper_states": np.tile([0.04, -0.03], (LENGTH, 1)),
        "obs/joint_states": np.tile(seen[:, None], (1, 7)) + 0.05,
    }


def write(path, demos, bddl=f"chiliocosm/bddl_files/libero_object/{BUTTER}.bddl"):
    import h5py

    with h5py.File(path, "w") as file:
        data = file.create_group("data")
        if bddl is not None:
            data.attrs["bddl_file_name"] = bddl
            data.attrs["problem_info"] = json.dumps({"language_instruction": "Pick the butter"})
        for number, arrays in enumerate(demos):
            for name, values in arrays.items():
                data.create_dataset(f"demo_{number}/{name}", data=values)
    return path


@pytest.fixture
def config(tmp_path):
    return ImportHdf5Config(files=(tmp_path / "demos.hdf5",), out=tmp_path / "dataset")


@needs_h5py
def test_each_frame_of_a_published_file_is_paired_with_the_action_that_follows_it(config):
    demos = [demo_of(seed, late=True) for seed in range(11)]
    write(config.files[0], demos)
    main(config)
    dataset = Dataset(config.out, LIBERO_PANDA)
    assert dataset.num_episodes == 11
    for number in (2, 10):  # "demo_10" comes after "demo_2"
        episode = dataset.episode(number)
        np.testing.assert_array_equal(episode.action, demos[number]["actions"][1:].astype(np.float32))
        np.testing.assert_allclose(episode.state[0], [1.1, 1.2, 1.3, 0.5, 0.5, 0.5, 0.07], rtol=1e-6)
        assert episode.images["agentview"][:, -1, -1, 0].tolist() == [10 * step + 1 for step in range(1, LENGTH)]
        assert episode.images["robot0_eye_in_hand"][0, -1, 0, 0] == 11
        assert (episode.task, episode.seed, episode.success) == ("libero_object/6", None, True)
        assert episode.instruction == "pick up the butter and place it in the basket"
    (report,) = json.loads((config.out / REPORT).read_text())
    assert (report["num_demos"], report["num_frames"], report["num_late"]) == (11, 11 * (LENGTH - 1), 11)


@needs_h5py
def test_a_regenerated_file_is_told_by_its_joints_and_its_name(config, tmp_path):
    demo = demo_of(0, late=False)
    path = write(tmp_path / f"{BUTTER}_demo.hdf5", [demo], bddl=None)
    main(dataclasses.replace(config, files=(path,)))
    episode = Dataset(config.out, LIBERO_PANDA).episode(0)
    np.testing.assert_array_equal(episode.action, demo["actions"].astype(np.float32))
    assert episode.state[0, 0] == np.float32(0.1)
    assert episode.task == "libero_object/6"


@needs_h5py
@pytest.mark.parametrize(("keep", "frames"), [(False, LENGTH - 3), (True, LENGTH)])
def test_frames_in_which_nothing_is_done_are_left_out_unless_wanted(config, keep, frames):
    demo = demo_of(0, late=False)
    demo["actions"][[0, 3, 7], :6] = 0.0
    write(config.files[0], [demo])
    main(dataclasses.replace(config, keep_noops=keep))
    dataset = Dataset(config.out, LIBERO_PANDA)
    assert dataset.num_frames == frames
    kept = [step for step in range(LENGTH) if keep or step not in (0, 3, 7)]
    np.testing.assert_array_equal(dataset.episode(0).action, demo["actions"][kept].astype(np.float32))
    (report,) = json.loads((config.out / REPORT).read_text())
    assert report["num_noops"] == LENGTH - frames


@needs_h5py
def test_folders_are_searched_and_only_the_first_demonstrations_taken(config, tmp_path):
    for seed, name in enumerate(("a", "b")):
        write(tmp_path / f"{name}.hdf5", [demo_of(seed, late=True), demo_of(seed + 5, late=True)])
    main(dataclasses.replace(config, files=(tmp_path,), num_demos=1))
    dataset = Dataset(config.out, LIBERO_PANDA)
    assert dataset.num_episodes == 2
    np.testing.assert_array_equal(dataset.episode(1).action, actions_of(1)[1:].astype(np.float32))


@needs_h5py
def test_a_demonstration_without_a_reward_is_no_success(config):
    demo = demo_of(0, late=True)
    demo["rewards"][:] = 0
    write(config.files[0], [demo])
    main(config)
    assert Dataset(config.out, LIBERO_PANDA).success_E.tolist() == [False]


def without(name):
    return lambda demo: demo.pop(name)


def changed(name, value):
    return lambda demo: demo.update({name: value})


@needs_h5py
@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (without("actions"), "demos.hdf5 demo_0 lacks actions; LIBERO's demonstrations have it"),
        (without("obs/eye_in_hand_rgb"), "demo_0 lacks obs/eye_in_hand_rgb"),
        (without("states"), "demo_0 lacks states"),
        (changed("actions", np.zeros((LENGTH, 8))), r"has actions of shape \(9, 8\), not \(any, 7\)"),
        (changed("obs/ee_pos", np.zeros((LENGTH - 2, 3))), r"has obs/ee_pos of shape \(7, 3\), not \(9, 3\)"),
        (changed("obs/agentview_rgb", np.zeros((LENGTH, 4, 4, 3))), "images of camera agentview must be uint8"),
        (changed("actions", np.full((LENGTH, 7), np.nan)), "action holds values that are not finite"),
        (changed("actions", np.zeros((LENGTH, 7))), "demo_0 does nothing; leave it out"),
        (lambda demo: demo.update({"actions/inside": demo.pop("actions")}), "has actions, but it cannot be read"),
    ],
)
def test_a_demonstration_that_does_not_fit_is_named_and_nothing_is_written(config, spoil, message):
    demo = demo_of(0, late=True)
    spoil(demo)
    write(config.files[0], [demo])
    with pytest.raises(VlaError, match=message):
        main(config)
    assert not config.out.exists()


@needs_h5py
def test_files_that_are_no_demonstrations_are_refused_in_a_line(config, tmp_path):
    config.files[0].write_bytes(b"LeRobot")
    with pytest.raises(VlaError, match=r"demos\.hdf5 is no HDF5 file, or damaged"):
        main(config)
    write(config.files[0], [])
    with pytest.raises(VlaError, match=r"demos\.hdf5 has no data/demo_0"):
        main(config)
    write(config.files[0], [demo_of(0, late=True)], bddl="bddl_files/libero_90/KITCHEN_SCENE3_turn_on_the_stove.bddl")
    with pytest.raises(VlaError, match=r"shows KITCHEN_SCENE3_turn_on_the_stove\.bddl, which is no task of libero_sp"):
        main(config)
    assert not config.out.exists()


def test_paths_that_hold_nothing_are_refused(tmp_path):
    with pytest.raises(VlaError, match="no file was given"):
        ImportHdf5Config(files=(), out=tmp_path / "dataset")
    with pytest.raises(VlaError, match="num_demos is 0"):
        ImportHdf5Config(files=(tmp_path,), out=tmp_path / "dataset", num_demos=0)
    with pytest.raises(VlaError, match=r"nowhere\.hdf5 does not exist"):
        find_files((tmp_path / "nowhere.hdf5",))
    with pytest.raises(VlaError, match=r"holds no \.hdf5 file"):
        find_files((tmp_path,))


def test_an_action_without_motion_counts_unless_the_gripper_is_told_otherwise():
    actions = np.zeros((7, 7))
    actions[:, 6] = (-1, -1, -1, 1, 1, 1, -1)
    actions[1, 0] = 0.2
    actions[5, 4] = 9e-5  # less than OpenVLA's threshold
    assert is_noop(actions).tolist() == [True, False, True, False, True, True, False]


def test_when_observations_were_taken_is_read_from_the_joints():
    before = np.cumsum(np.random.default_rng(0).normal(size=(20, 7)), axis=0)
    after = np.concatenate([before[1:], before[-1:] + 0.1])
    small = np.random.default_rng(1).normal(0, 0.01, before.shape)
    assert is_late(after + small, before)
    assert not is_late(before + small, before)


def test_files_are_known_by_the_names_of_their_tasks():
    assert find_task(f"{BUTTER}.bddl") == find_task(f"{BUTTER}_demo.hdf5") == TaskName("libero_object", 6)
    assert find_task("KITCHEN_SCENE8_put_both_moka_pots_on_the_stove_demo.hdf5") == TaskName("libero_10", 8)
    assert find_task("put_both_moka_pots_on_the_stove") is None, "other scenes of LIBERO have tasks of like names"
