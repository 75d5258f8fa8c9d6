"""What a user can get wrong, through the commands themselves: one line with the remedy, nothing touched."""

import contextlib
import errno
import os
import runpy
import subprocess
import sys
import warnings

import numpy as np
import pytest

from piper_twin.robot import DUAL_PIPER
from vla_policy import checkpoint
from vla_rl_trainer.dataset import DatasetWriter, EpisodeData

pytestmark = pytest.mark.usefixtures("quick_trackers")


@pytest.fixture(scope="module")
def files(toys, tmp_path_factory):
    """A policy, a dataset, damaged copies of both, and a run that exists."""
    folder = tmp_path_factory.mktemp("bad_input")
    toys.make_piper_policy().save(folder / "policy")
    toys.make_piper_policy().save(folder / "cut_policy")
    for name in ("demos", "cut_demos"):
        rng = np.random.default_rng(0)
        with DatasetWriter(folder / name, DUAL_PIPER, images="image") as writer:
            images = {camera: rng.integers(0, 256, (4, 64, 64, 3), np.uint8) for camera in DUAL_PIPER.camera_names}
            state, action = rng.uniform(0.0, 0.05, (2, 4, 14)).astype(np.float32)
            told = dict(instruction="press the bell", success=True, seed=0, task="click_bell")
            writer.add(EpisodeData(images=images, state=state, action=action, **told))
    for file in (folder / "cut_policy" / "model.safetensors", next((folder / "cut_demos" / "data").rglob("*.parquet"))):
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    return folder


@pytest.fixture
def command(monkeypatch, capfd):
    """Run `python -m vla_rl_trainer.<name>` within this process; returns its exit code and error output."""

    def run(name, *arguments):
        monkeypatch.setattr(sys, "argv", [name, *(str(argument) for argument in arguments)])
        with warnings.catch_warnings(), pytest.raises(SystemExit) as ended:
            warnings.simplefilter("ignore", RuntimeWarning)  # the module has been imported by other tests
            runpy.run_module(f"vla_rl_trainer.{name}", run_name="__main__", alter_sys=True)
        return ended.value.code, capfd.readouterr().err

    return run


def require_one_line(answer, *parts):
    """Exit code 2, and one line that holds all of `parts`; progress may stand before it."""
    code, error = answer
    assert code == 2, error
    lines = error.rstrip("\n").split("\n")
    assert [line.startswith("error: ") for line in lines].count(True) == 1, error
    assert lines[-1].startswith("error: ")
    assert "Traceback" not in error
    for part in parts:
        assert part in lines[-1]


TASK = ("task 'click_bel' does not exist; choose one of ", "click_bell")


@pytest.mark.parametrize(
    ("name", "arguments", "parts"),
    [
        ("collect", ("--out", "new", "--tasks", "click_bel"), TASK),
        ("demo", ("--out", "new", "--task", "click_bel"), TASK),
        ("train_grpo", ("ours", "--checkpoint", "policy", "--out", "new", "--tasks", "click_bel"), TASK),
        ("pretrain", ("--out", "new", "--preset", "tinny"), ("'tinny' does not exist; did you mean 'tiny'?",)),
        ("collect", ("--out", "new", "--num-demos", "-3"), ("num_demos is -3; give at least 1",)),
        ("demo", ("--out", "new", "--num-demos", "-3"), ("num_demos is -3; give at least 1",)),
        ("demo", ("--out", "new", "--evaluation.num-episodes", "-3"), ("num_episodes is -3; give at least 1",)),
        ("demo", ("--out", "new", "--sft.num-steps", "-3"), ("num_steps is -3; give at least 1",)),
        ("train_sft", ("--dataset", "demos", "--out", "new", "--sft.batch-size", "-1"), ("batch_size is -1",)),
        ("train_grpo", ("ours", "--checkpoint", "policy", "--num-groups", "-1"), ("num_groups is -1",)),
        ("train_grpo", ("ours", "--checkpoint", "policy", "--group.group-size", "-8"), ("group_size is -8",)),
        ("train_grpo", ("paper", "--checkpoint", "policy", "--learner.num-epochs", "0"), ("num_epochs is 0",)),
        ("pretrain", ("--out", "new", "--num-episodes", "-1"), ("num_episodes is -1",)),
        (
            "train_grpo",
            ("paper", "--checkpoint", "policy", "--out", "new", "--split", "evaluation"),
            ("would spoil every evaluation; use --split train",),
        ),
        ("train_grpo", ("ours", "--checkpoint", "nowhere", "--out", "new"), ("there is no checkpoint folder nowhere",)),
        (
            "train_grpo",
            ("ours", "--checkpoint", "policy", "--out", "new", "--randomization", "wild"),
            ("'wild'", "off", "standard", "wide"),
        ),
        (
            "train_grpo",
            ("ours", "--checkpoint", "cut_policy", "--out", "new"),
            ("model.safetensors is damaged or cut short", "copy it again"),
        ),
        (
            "train_sft",
            ("--dataset", "demos", "--checkpoint", "cut_policy", "--out", "new"),
            ("model.safetensors is damaged or cut short", "copy it again"),
        ),
        (
            "train_sft",
            ("--dataset", "cut_demos", "--checkpoint", "policy", "--out", "new"),
            (".parquet is damaged or truncated; restore it, or copy the dataset again",),
        ),
        ("train_sft", ("--dataset", "nowhere", "--checkpoint", "policy", "--out", "new"), ("not a LeRobot dataset",)),
        ("collect", ("--out", "demos"), ("dataset demos already exists; choose another path or delete it",)),
        (
            "train_sft",
            ("--dataset", "demos", "--checkpoint", "policy", "--out", "demos"),
            ("demos already exists; choose another --out or delete it",),
        ),
    ],
)
def test_bad_input_is_one_line_with_the_remedy_and_touches_nothing(
    files, command, toys, monkeypatch, name, arguments, parts
):
    monkeypatch.chdir(files)
    before = toys.tree_of(files)
    require_one_line(command(name, *arguments), *parts)
    assert toys.tree_of(files) == before


@pytest.mark.parametrize(
    ("name", "arguments", "part"),
    [
        ("train_grpo", ("papper", "--checkpoint", "policy"), "paper"),
        ("train_grpo", ("ours", "--checkpoint", "policy", "--num-group", "3"), "--num-group"),
        ("train_grpo", ("ours",), "--checkpoint"),
        ("train_sft", ("--dataset", "demos", "--sft.num-stepz", "3"), "--sft.num-steps"),
        ("collect", ("--out", "new", "--num-demo", "3"), "--num-demos"),
        ("demo", ("--grpo-stepz", "3"), "--grpo-steps"),
        ("demo", ("--num-demos", "many"), "--num-demos"),
    ],
)
def test_an_unknown_preset_key_or_word_is_refused_with_a_hint(files, command, toys, monkeypatch, name, arguments, part):
    """The argument parser draws a box around its message."""
    monkeypatch.chdir(files)
    before = toys.tree_of(files)
    code, error = command(name, *arguments)
    assert code == 2
    assert part in error
    assert "Traceback" not in error
    assert toys.tree_of(files) == before


def test_a_run_folder_of_another_configuration_is_refused_and_not_touched(files, command, toys, tmp_path):
    sft = ("--dataset", files / "demos", "--checkpoint", files / "policy", "--out", tmp_path / "run")
    steps = ("--sft.num-steps", 1, "--sft.batch-size", 1)
    assert command("train_sft", *sft, *steps)[0] == 0
    before = toys.tree_of(tmp_path)
    remedy = "choose another --out or delete the folder"
    changed = command("train_sft", *sft, *steps, "--seed", 4)
    require_one_line(changed, "was made with seed = 0, now seed = 4 is asked for", remedy)
    require_one_line(command("demo", "--out", tmp_path / "run"), "was made with", remedy)
    grpo = ("ours", "--checkpoint", files / "policy", "--out", tmp_path / "run")
    require_one_line(command("train_grpo", *grpo), "was made with", remedy)
    require_one_line(command("pretrain", "--out", tmp_path / "run"), "was made with", remedy)
    assert toys.tree_of(tmp_path) == before


@pytest.fixture
def full_disk(tmp_path, monkeypatch):
    """A folder on a disk of 300 kB; where mounting is not allowed, writers that meet a full one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", str(folder)]
    mounted = False
    with contextlib.suppress(OSError):
        mounted = subprocess.run(mount, capture_output=True, check=False).returncode == 0
    if not mounted:

        def full(*_, **__):
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(checkpoint, "save_file", full)
        monkeypatch.setattr(DatasetWriter, "_write", full)
    yield folder
    if mounted:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_checkpoint_on_a_full_disk_is_refused_and_leaves_no_half_one(files, command, toys, full_disk):
    kept = full_disk / "kept"
    kept.write_text("mine")
    before = toys.tree_of(files)
    sft = ("--dataset", files / "demos", "--checkpoint", files / "policy", "--out", full_disk / "run")
    answer = command("train_sft", *sft, "--sft.num-steps", 1, "--sft.batch-size", 1)
    require_one_line(answer, "step_000001: the disk is full; free some space and run the same command again")
    assert not list((full_disk / "run" / "checkpoints").iterdir())
    assert kept.read_text() == "mine"
    assert toys.tree_of(files) == before


@pytest.mark.sim
def test_a_dataset_on_a_full_disk_is_refused_and_leaves_nothing(command, full_disk):
    (full_disk / "kept").write_text("mine")
    answer = command("collect", "--out", full_disk / "demos", "--num-demos", 1, "--num-workers", 1)
    require_one_line(answer, "demos: the disk is full; free some space and run the same command again")
    assert [path.name for path in full_disk.iterdir()] == ["kept"]


@pytest.mark.sim
def test_without_opengl_nothing_is_recorded(command, toys, tmp_path, monkeypatch):
    monkeypatch.setenv("MUJOCO_GL", "disable")
    answer = command("collect", "--out", tmp_path / "demos", "--num-workers", 1)
    require_one_line(answer, "off-screen OpenGL does not start", "apt-get install libosmesa6")
    assert not list(tmp_path.iterdir())


@pytest.mark.sim
def test_without_opengl_nothing_is_trained_and_the_folder_bars_no_other_run(files, toys, tmp_path):
    """As a process of its own, as a user would start it."""
    before = toys.tree_of(files)
    arguments = ["ours", "--checkpoint", files / "policy", "--out", tmp_path / "run", "--num-workers", "1"]
    child = subprocess.run(
        [sys.executable, "-m", "vla_rl_trainer.train_grpo", *arguments],
        env=os.environ | {"MUJOCO_GL": "disable", "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    require_one_line((child.returncode, child.stderr), "off-screen OpenGL does not start", "libosmesa6")
    assert child.stderr.count("\n") == 1
    assert not child.stdout
    assert toys.tree_of(files) == before
    assert not (tmp_path / "run" / "config.yaml").exists()
