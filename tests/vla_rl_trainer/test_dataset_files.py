import dataclasses
import errno
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from vla_policy.embodiment import Camera, Embodiment, EmbodimentMismatch, Joint
from vla_policy.errors import VlaError
from vla_rl_trainer.dataset import Dataset, DatasetWriter, EpisodeData, layout
from vla_rl_trainer.dataset.video_files import VideoFile, read_frames

JOINTS = tuple(
    Joint(name=name, lower=-1.0, upper=1.0, max_velocity=1.0, max_acceleration=1.0) for name in ("shoulder", "elbow")
)
CAMERAS = tuple(Camera(name=name, height=32, width=32, fovy=1.0) for name in ("head", "wrist"))
ROBOT = Embodiment(name="toy", joints=JOINTS, cameras=CAMERAS, control_period=0.04)
LENGTHS = (5, 3, 8)


def episode(number=0, length=None, side=32):
    length = LENGTHS[number] if length is None else length
    rng = np.random.default_rng(number)
    y, x = np.mgrid[0:side, 0:side] / side
    moving = [np.stack([x, y, 0 * x + t / length], axis=-1) for t in range(length)]
    images = {
        "head": (50 + np.stack(moving) * 140).astype(np.uint8),
        "wrist": (50 + np.stack(moving) * 90).astype(np.uint8),
    }
    return EpisodeData(
        images=images,
        state=rng.normal(size=(length, 2)).astype(np.float32),
        action=rng.normal(size=(length, 2)).astype(np.float32),
        instruction=("ring the bell", "press the bell")[number % 2],
        success=number != 1,
        seed=None if number == 2 else 100 + number,
        task="click_bell",
    )


def write(path, images: Any = "image", numbers=(0, 1, 2)):
    with DatasetWriter(path, ROBOT, images) as writer:
        for number in numbers:
            writer.add(episode(number))
    return path


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """One dataset of each kind; tests copy before they damage."""
    root = tmp_path_factory.mktemp("datasets")
    return {kind: write(root / kind, kind) for kind in ("image", "video")}


@pytest.fixture
def copy(written, tmp_path):
    def make(kind="image"):
        return Path(shutil.copytree(written[kind], tmp_path / "copy"))

    return make


@pytest.mark.parametrize("kind", ["image", "video"])
def test_what_was_written_is_read_back(written, kind):
    dataset = Dataset(written[kind], ROBOT)
    assert (dataset.num_episodes, dataset.num_frames) == (3, 16)
    assert dataset.embodiment == ROBOT
    assert dataset.success_E.tolist() == [True, False, True]
    for number in (2, 0, 1):  # out of order: seeking works
        got, sent = dataset.episode(number), episode(number)
        np.testing.assert_array_equal(got.state, sent.state)
        np.testing.assert_array_equal(got.action, sent.action)
        assert (got.instruction, got.success, got.seed, got.task) == (
            sent.instruction,
            sent.success,
            sent.seed,
            sent.task,
        )
        for camera, images in sent.images.items():
            error = np.abs(got.images[camera].astype(int) - images)
            assert error.max() == 0 if kind == "image" else error.mean() < 1.5


def test_video_keeps_neighbouring_frames_apart(written):
    blue = Dataset(written["video"]).episode(2).images["head"][..., 2].mean(axis=(1, 2))
    assert (np.diff(blue) > 10).all()


def test_video_does_not_darken_colours(tmp_path):
    colours = np.random.default_rng(0).integers(20, 236, (60, 1, 1, 3), dtype=np.uint8)
    images = np.broadcast_to(colours, (60, 32, 32, 3))
    file = VideoFile(tmp_path / "a.mp4", 25, 32, 32)
    file.append(images)
    file.close()
    difference = read_frames(tmp_path / "a.mp4", 0.0, 60, 25).astype(float) - images
    assert np.abs(difference.mean(axis=(0, 1, 2))).max() < 0.4


def test_a_table_of_frames_has_the_cameras_of_the_robot(written):
    table = Dataset(written["image"]).frames(image_size=16)
    assert table.cameras == ("head", "wrist")
    assert table.images_NCHW3.shape == (16, 2, 16, 16, 3)
    assert table.end_N[[0, 5, 8]].tolist() == [5, 8, 16]
    chosen = Dataset(written["image"]).frames(None, episodes=[2])
    np.testing.assert_array_equal(chosen.images_NCHW3[:, 1], episode(2).images["wrist"])


def test_many_files_are_one_dataset(tmp_path, monkeypatch):
    monkeypatch.setattr(layout, "DATA_FILE_MB", 0)
    monkeypatch.setattr(layout, "VIDEO_FILE_MB", 0)
    monkeypatch.setattr(layout, "FILES_PER_CHUNK", 2)
    write(tmp_path / "many", "video")
    files = sorted(str(file.relative_to(tmp_path / "many")) for file in (tmp_path / "many/data").rglob("*.parquet"))
    assert files == [f"data/chunk-{chunk:03d}/file-{file:03d}.parquet" for chunk, file in ((0, 0), (0, 1), (1, 0))]
    dataset = Dataset(tmp_path / "many", ROBOT)
    np.testing.assert_array_equal(dataset.frames(8).action_MA[8:], episode(2).action)


def test_the_layout_is_that_of_lerobot(written):
    info = json.loads((written["video"] / "meta/info.json").read_text())
    assert (info["codebase_version"], info["fps"], info["robot_type"]) == ("v3.0", 25, "toy")
    assert info["features"]["action"] == {"dtype": "float32", "shape": [2], "names": ["shoulder", "elbow"]}
    assert info["features"]["observation.images.head"]["shape"] == [32, 32, 3]
    statistics = Dataset(written["video"]).statistics
    assert set(statistics) == set(info["features"])
    assert statistics["action"]["count"] == [16]
    rows = pq.read_table(written["video"] / "meta/episodes/chunk-000/file-000.parquet").to_pylist()
    assert [row["dataset_from_index"] for row in rows] == [0, 5, 8]
    assert [row["videos/observation.images.head/from_timestamp"] for row in rows] == pytest.approx([0, 0.2, 0.32])
    assert pq.read_schema(written["video"] / "meta/tasks.parquet").pandas_metadata["index_columns"] == ["task"]


def test_public_data_without_our_additions_is_read_too(copy):
    path = copy()
    (path / "meta/embodiment.json").unlink()
    file = path / "meta/episodes/chunk-000/file-000.parquet"
    pq.write_table(pq.read_table(file).drop_columns(["success", "seed", "task_name"]), file)
    dataset = Dataset(path, ROBOT)
    assert dataset.embodiment is None
    got = dataset.episode(1)
    assert (got.success, got.seed, got.task) == (True, None, "press the bell")
    assert dataset.frames(None).cameras == ("head", "wrist")


def test_an_existing_path_is_refused_and_untouched(tmp_path):
    (tmp_path / "data").mkdir()
    with pytest.raises(VlaError, match="data already exists; choose another path or delete it"):
        DatasetWriter(tmp_path / "data", ROBOT)
    assert os.listdir(tmp_path / "data") == []


def test_a_path_that_appears_meanwhile_is_not_overwritten(tmp_path):
    with pytest.raises(VlaError, match="already exists"), DatasetWriter(tmp_path / "data", ROBOT, "image") as writer:
        writer.add(episode())
        (tmp_path / "data").mkdir()
    assert os.listdir(tmp_path) == ["data"]


def test_an_error_in_the_block_leaves_nothing(tmp_path):
    with pytest.raises(KeyboardInterrupt), DatasetWriter(tmp_path / "data", ROBOT) as writer:
        writer.add(episode())
        raise KeyboardInterrupt
    assert os.listdir(tmp_path) == []


def test_a_dataset_without_episodes_is_not_made(tmp_path):
    with pytest.raises(VlaError, match="would be empty"), DatasetWriter(tmp_path / "data", ROBOT):
        pass
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": {"head": episode().images["head"]}}, r"the episode has cameras \['head'\], toy has"),
        ({"state": np.zeros((5, 3), np.float32)}, "state has 3 numbers, toy has 2 joints"),
        ({"action": np.zeros((4, 2), np.float32)}, r"action must have shape \(5, joints\)"),
        ({"action": np.full((5, 2), np.nan, np.float32)}, "action holds values that are not finite"),
        ({"images": {name: image[:4] for name, image in episode().images.items()}}, "images of camera head must be"),
        ({"images": episode(0, side=16).images}, r"images of \[16, 16\], earlier episodes had \[32, 32\]"),
    ],
)
def test_an_episode_that_does_not_fit_is_refused_and_the_rest_kept(tmp_path, change, message):
    with DatasetWriter(tmp_path / "data", ROBOT, "image") as writer:
        writer.add(episode(1))
        with pytest.raises(VlaError, match=message):
            writer.add(dataclasses.replace(episode(), **change))
    assert Dataset(tmp_path / "data").num_episodes == 1


def test_odd_images_are_refused_as_video(tmp_path):
    with (
        pytest.raises(VlaError, match=r"even image sides.*use images='image'"),
        DatasetWriter(tmp_path / "d", ROBOT) as w,
    ):
        w.add(episode(side=15))
    with pytest.raises(VlaError, match="choose 'video' or 'image'"):
        DatasetWriter(tmp_path / "d", ROBOT, images="gif")  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("where", ["parquet", "video", "meta"])
def test_a_full_disk_is_one_line_and_leaves_no_half_dataset(tmp_path, monkeypatch, where):
    def full(*arguments, **options):
        raise OSError(errno.ENOSPC, "No space left on device")

    target = {
        "parquet": "vla_rl_trainer.dataset.rolling_files.pq.ParquetWriter.write_table",
        "video": "vla_rl_trainer.dataset.rolling_files.video_files.VideoFile.append",
        "meta": "vla_rl_trainer.dataset.writer.DatasetWriter._write_text",
    }[where]
    monkeypatch.setattr(target, full)
    with pytest.raises(VlaError, match="data: the disk is full; free some space"):
        write(tmp_path / "data", "video")
    assert os.listdir(tmp_path) == []


def test_a_writer_that_met_a_full_disk_does_not_finish_even_if_the_error_is_swallowed(tmp_path, monkeypatch):
    def full(*arguments, **options):
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(VlaError, match="incomplete after an error"), DatasetWriter(tmp_path / "d", ROBOT, "image") as w:
        w.add(episode(0))
        monkeypatch.setattr("vla_rl_trainer.dataset.rolling_files.pq.ParquetWriter.write_table", full)
        with pytest.raises(VlaError, match="disk is full"):
            w.add(episode(1))
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("kind", ["image", "video"])
def test_a_disk_that_is_really_full_leaves_nothing(tmp_path, kind):
    if os.geteuid() != 0 or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=48k", "x", tmp_path]).returncode:
        pytest.skip("needs the right to mount a tiny file system")
    try:
        with pytest.raises(VlaError, match="the disk is full"):
            write(tmp_path / "data", kind)
        assert os.listdir(tmp_path) == []
    finally:
        subprocess.run(["umount", "--lazy", tmp_path], check=True)


KILLED = """
import os, sys
sys.path.insert(0, sys.argv[1])
from test_dataset_files import ROBOT, DatasetWriter, episode
with DatasetWriter(sys.argv[2], ROBOT) as writer:
    writer.add(episode())
    os.kill(os.getpid(), 9)
"""


@pytest.fixture
def killed(tmp_path):
    """Path of a dataset whose writer was killed after an episode."""
    path = tmp_path / "data"
    child = subprocess.run([sys.executable, "-c", KILLED, str(Path(__file__).parent), str(path)], check=False)
    assert child.returncode == -signal.SIGKILL
    assert os.listdir(tmp_path) == [".data.partial"]
    return path


def test_what_a_killed_writer_left_is_cleared_by_the_next(killed):
    write(killed)
    assert os.listdir(killed.parent) == ["data"]
    assert not list(killed.rglob(".*"))


@pytest.mark.parametrize("moved", ["not", "whole", "without hidden files", "after meta was begun"])
def test_what_a_killed_writer_left_is_refused_wherever_it_is_moved(killed, moved):
    partial = killed.with_name(".data.partial")
    if moved == "without hidden files":
        (partial / ".lock").unlink()
    if moved == "after meta was begun":
        (partial / "meta").mkdir()
    if moved != "not":
        partial.rename(killed)
    with pytest.raises(VlaError, match=r"data is unfinished.*run the same collect command again with a new --out"):
        Dataset(killed)


def test_two_writers_of_one_path_are_refused(tmp_path):
    with DatasetWriter(tmp_path / "data", ROBOT, "image") as writer:
        writer.add(episode())
        with pytest.raises(VlaError, match="already open"), DatasetWriter(tmp_path / "data", ROBOT):
            pass
    assert Dataset(tmp_path / "data").num_episodes == 1


def truncate(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("image", "data/chunk-000/file-000.parquet"),
        ("image", "meta/episodes/chunk-000/file-000.parquet"),
        ("image", "meta/tasks.parquet"),
        ("image", "meta/info.json"),
        ("video", "videos/observation.images.wrist/chunk-000/file-000.mp4"),
    ],
)
@pytest.mark.parametrize("damage", [truncate, Path.unlink])
def test_a_damaged_or_missing_file_is_named_on_opening(copy, kind, name, damage):
    path = copy(kind)
    damage(path / name)
    with pytest.raises(VlaError, match=f"{name.split('/file')[0]}.*(restore it|copy the dataset)"):
        Dataset(path)


def test_a_page_damaged_inside_a_parquet_file_is_named_on_reading(copy):
    path = copy()
    file = path / "data/chunk-000/file-000.parquet"
    content = bytearray(file.read_bytes())
    content[4 : len(content) // 2] = b"\xff" * (len(content) // 2 - 4)
    file.write_bytes(content)
    dataset = Dataset(path)
    with pytest.raises(VlaError, match=r"file-000\.parquet"):
        dataset.episode(0)


def test_rows_that_are_missing_are_counted(copy):
    path = copy()
    file = path / "data/chunk-000/file-000.parquet"
    pq.write_table(pq.read_table(file).slice(0, 10), file)
    with pytest.raises(VlaError, match=r"file-000\.parquet has 10 of 16 frames"):
        Dataset(path)


def test_a_column_that_is_missing_is_named(copy):
    path = copy()
    file = path / "data/chunk-000/file-000.parquet"
    pq.write_table(pq.read_table(file).drop_columns(["action"]), file)
    with pytest.raises(VlaError, match=r"file-000\.parquet lacks action"):
        Dataset(path)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("codebase_version", "v2.1", r"version v2\.1, this reads v3\.0; convert it with python -m lerobot"),
        ("fps", 0, "lacks a frame rate"),
        ("features", {"action": {"dtype": "float32", "shape": [2]}}, r"lacks observation\.state"),
        ("features", None, "is damaged"),
        ("data_path", "data/{nonsense}", "is damaged"),
    ],
)
def test_an_index_that_says_something_else_is_refused(copy, key, value, message):
    path = copy()
    file = path / "meta/info.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), key: value}))
    with pytest.raises(VlaError, match=message):
        Dataset(path)


def test_data_of_another_robot_is_refused(copy):
    path = copy()
    other = dataclasses.replace(ROBOT, cameras=(*CAMERAS, Camera(name="left", height=32, width=32, fovy=1.0)))
    with pytest.raises(EmbodimentMismatch, match=f"dataset {path} has cameras"):
        Dataset(path, other)
    (path / "meta/embodiment.json").unlink()
    with pytest.raises(VlaError, match=r"the robot also \['left'\]"):
        Dataset(path, other)
    with pytest.raises(VlaError, match=r"has 2 numbers in observation\.state, the robot 1 joints"):
        Dataset(path, dataclasses.replace(ROBOT, joints=JOINTS[:1]))


@pytest.mark.parametrize("number", [-1, 3])
def test_an_episode_that_is_not_there_is_refused(written, number):
    with pytest.raises(VlaError, match=f"episode {number} is not in .*, which has 3"):
        Dataset(written["image"]).episode(number)


def test_a_folder_that_is_no_dataset_is_refused(tmp_path):
    with pytest.raises(VlaError, match=r"is not a LeRobot dataset: meta/info\.json is missing"):
        Dataset(tmp_path)
