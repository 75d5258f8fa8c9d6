"""Pretraining collects its play episodes once, and says which file is broken."""

import dataclasses
import shutil

import numpy as np
import pytest
import torch

from piper_twin.tasks.play import PLAY_TASKS
from vla_policy.errors import VlaError
from vla_policy.policy import VlaPolicy
from vla_rl_trainer import pretrain
from vla_rl_trainer.benchmarks import playground
from vla_rl_trainer.benchmarks.libero import LiberoOptions
from vla_rl_trainer.dataset import FrameTable
from vla_rl_trainer.pretrain import PretrainConfig, collect, main
from vla_rl_trainer.run_folder import Run
from vla_rl_trainer.sft import SftConfig

pytestmark = pytest.mark.sim

SKILLS = ("play_reach_disc", "play_hover_disc")


@pytest.fixture(autouse=True)
def little_play(monkeypatch, quick_trackers):
    """Two tasks, two episodes a file, and few words."""
    monkeypatch.setattr(playground, "PLAY_TASKS", {name: PLAY_TASKS[name] for name in SKILLS})
    monkeypatch.setattr(pretrain, "SHARD_EPISODES", 2)
    monkeypatch.setattr(pretrain, "LOOK_EVERY", 16)
    few = ("touch the red disc", "hover over the blue disc")
    monkeypatch.setattr(playground.TwinPlayground, "texts", lambda ground: iter(few))


@pytest.fixture(scope="module")
def played(tmp_path_factory):
    """Two shards and the first checkpoint of a run of two steps, made once."""
    out = tmp_path_factory.mktemp("pretrain") / "base"
    with pytest.MonkeyPatch.context() as patch:
        little_play.__wrapped__(patch, None)
        patch.setattr("vla_rl_trainer.run_folder.make_trackers", lambda folder, config: [])
        assert main(config_of(out)) == out / "checkpoints" / "step_000002"
    return out


def config_of(out, **changes):
    sft = SftConfig(num_steps=2, batch_size=2)
    given = dict(out=out, num_episodes=4, randomization="off", num_workers=2, sft=sft, checkpoint_every=1)
    return PretrainConfig(**(given | changes))


@pytest.fixture
def run_of(played, tmp_path):
    """A copy that a test may spoil."""
    return shutil.copytree(played, tmp_path / "base")


@pytest.fixture
def no_simulation(monkeypatch):
    """Starting a simulation fails the test."""
    monkeypatch.setattr(playground, "TwinVectorEnv", lambda *_, **__: pytest.fail("episodes were collected again"))


def test_shards_hold_different_worlds_of_every_task(played):
    shards = [FrameTable.load(path) for path in sorted((played / "play").glob("shard_*.npz"))]
    assert len(shards) == 2
    for shard in shards:
        assert shard.episode_N.max() == 1
        assert shard.images_NCHW3.shape[1:] == (3, 64, 64, 3)
    assert not np.array_equal(shards[0].state_NS[:3], shards[1].state_NS[:3])


def test_a_second_start_reads_them_and_collects_nothing(run_of, no_simulation):
    before = {path.name: path.stat().st_mtime_ns for path in (run_of / "play").iterdir()}
    assert main(config_of(run_of)) == run_of / "checkpoints" / "step_000002"
    assert {path.name: path.stat().st_mtime_ns for path in (run_of / "play").iterdir()} == before


def test_training_goes_on_where_it_was_stopped(run_of, no_simulation):
    unbroken = VlaPolicy.load(run_of / "checkpoints" / "step_000002").network.state_dict()
    metrics = (run_of / "metrics.jsonl").read_text()
    shutil.rmtree(run_of / "checkpoints" / "step_000002")
    main(config_of(run_of))
    resumed = VlaPolicy.load(run_of / "checkpoints" / "step_000002").network.state_dict()
    assert all(torch.equal(unbroken[name], resumed[name]) for name in unbroken)
    assert (run_of / "metrics.jsonl").read_text() == metrics


def test_only_what_is_missing_is_collected(run_of):
    """And it comes out as it was, whatever the number of workers."""
    path = run_of / "play" / "shard_001.npz"
    before = FrameTable.load(path)
    path.unlink()
    with Run.open(run_of) as run:
        table = collect(run, config_of(run_of, num_workers=1), 64)
    after = FrameTable.load(path)
    for name in ("images_NCHW3", "state_NS", "action_MA", "episode_N"):
        assert np.array_equal(getattr(before, name), getattr(after, name))
    assert len(table) == len(FrameTable.load(run_of / "play" / "shard_000.npz")) + len(after)


@pytest.mark.parametrize("damage", ["empty", "cut", "foreign"])
def test_a_damaged_shard_is_named(run_of, no_simulation, damage):
    path = run_of / "play" / "shard_001.npz"
    if damage == "foreign":
        np.savez(path, something=np.zeros(3))
    else:
        path.write_bytes(b"" if damage == "empty" else path.read_bytes()[:5000])
    with pytest.raises(VlaError, match=r"shard_001.npz is damaged .*; delete it, and it is made again"):
        main(config_of(run_of))


def test_shards_of_another_preset_are_named(played, tmp_path, no_simulation):
    config = config_of(tmp_path / "other", preset="small", play=played / "play")
    with pytest.raises(VlaError, match=r"shard_000.npz holds images of 64 px, .* 128 px; choose another --play"):
        main(config)


def test_runs_may_share_their_play(played, tmp_path, no_simulation):
    with Run.create(tmp_path / "other", {}) as run:
        table = collect(run, config_of(tmp_path / "other", play=played / "play"), 64)
    assert table.episode_N.max() == 3


def test_an_interrupted_collection_ends_its_workers_and_leaves_no_half_shard(tmp_path, monkeypatch):
    ended = []

    class Interrupted:
        num_workers = 1

        def demonstrate(self, episodes, *, look_every):
            raise KeyboardInterrupt

        def __enter__(self):
            return self

        def __exit__(self, *_):
            ended.append(True)

    monkeypatch.setattr(playground, "TwinVectorEnv", lambda *_, **__: Interrupted())
    with Run.create(tmp_path / "base", {}) as run, pytest.raises(KeyboardInterrupt):
        collect(run, config_of(tmp_path / "base"), 64)
    assert ended == [True]
    assert not list((tmp_path / "base" / "play").iterdir())


def test_play_in_which_nothing_succeeds_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(pretrain, "expert_demonstrations", lambda *_, **__: iter(()))
    with (
        Run.create(tmp_path / "base", {}) as run,
        pytest.raises(VlaError, match="no play succeeded in play_reach_disc"),
    ):
        collect(run, config_of(tmp_path / "base"), 64)
    assert not list((tmp_path / "base" / "play").iterdir())


def test_an_unknown_preset_is_refused_before_anything_is_made(tmp_path):
    with pytest.raises(VlaError, match="preset 'tinny' does not exist; did you mean 'tiny'"):
        main(config_of(tmp_path / "base", preset="tinny"))
    assert not (tmp_path / "base").exists()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"suites": ("libero_objects",)}, "libero_objects"),
        ({"randomization": "wild"}, "wild"),
        ({"libero": LiberoOptions(states="official")}, "none of its suites; name one with --suites"),
    ],
)
def test_a_playground_that_is_none_is_refused_before_anything_is_made(tmp_path, wrong, message):
    with pytest.raises(VlaError, match=message):
        main(config_of(tmp_path / "base", **wrong))
    assert not (tmp_path / "base").exists()


@pytest.mark.parametrize("wrong", [{"num_episodes": -5}, {"checkpoint_every": 0}])
def test_counts_below_one_are_refused(tmp_path, wrong):
    with pytest.raises(VlaError, match=f"{next(iter(wrong))} is"):
        config_of(tmp_path, **wrong)


def test_another_configuration_is_refused_in_the_same_folder(run_of, no_simulation):
    with pytest.raises(VlaError, match="seed"):
        main(dataclasses.replace(config_of(run_of), seed=1))
