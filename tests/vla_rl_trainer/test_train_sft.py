"""Fine-tuning as a command: from which policy, on which data, and again after an interruption."""

import dataclasses
import hashlib
import shutil

import numpy as np
import pytest
import torch

from piper_twin.robot import DUAL_PIPER
from vla_policy import presets
from vla_policy.errors import VlaError
from vla_policy.normalization import DatasetStatistics, Statistics
from vla_policy.policy import VlaPolicy
from vla_policy.prompt import train_tokenizer
from vla_rl_trainer import train_sft
from vla_rl_trainer.base import base_policy
from vla_rl_trainer.benchmarks import twin
from vla_rl_trainer.dataset import Dataset, DatasetWriter, EpisodeData
from vla_rl_trainer.libero.embodiment import LIBERO_PANDA
from vla_rl_trainer.run_files import read_config, read_metrics
from vla_rl_trainer.sft import SftConfig, SftTrainer
from vla_rl_trainer.train_sft import TrainSftConfig, main

pytestmark = pytest.mark.usefixtures("quick_trackers")

STEPS = SftConfig(num_steps=4, batch_size=3)


def write_dataset(path, robot, lengths=(4, 3), seed=0):
    """Episodes of noise."""
    rng = np.random.default_rng(seed)
    with DatasetWriter(path, robot, images="image") as writer:
        for length in lengths:
            images = {name: rng.integers(0, 256, (length, 64, 64, 3), np.uint8) for name in robot.camera_names}
            state, action = rng.uniform(0.0, 0.05, (2, length, robot.num_joints)).astype(np.float32)
            told = dict(instruction="press the bell", success=True, seed=0, task="click_bell")
            writer.add(EpisodeData(images=images, state=state, action=action, **told))
    return path


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return write_dataset(tmp_path_factory.mktemp("sft") / "demos", DUAL_PIPER)


@pytest.fixture(scope="module")
def start(tmp_path_factory, toys):
    """An untrained policy to start from."""
    folder = tmp_path_factory.mktemp("sft") / "policy"
    toys.make_piper_policy().save(folder)
    return folder


def files_of(checkpoint):
    return {path.name: path.read_bytes() for path in checkpoint.iterdir()}


def test_training_starts_from_the_shipped_base(dataset, tmp_path):
    hardly = SftConfig(num_steps=1, batch_size=1, learning_rate=1e-9, weight_decay=0.0)
    trained = main(TrainSftConfig(dataset=(dataset,), out=tmp_path / "run", sft=hardly))
    before, after = VlaPolicy.load(base_policy(), robot=DUAL_PIPER), VlaPolicy.load(trained, robot=DUAL_PIPER)
    assert after.config == before.config
    for name in ("dataset_statistics.json", "tokenizer.json"):
        assert (trained / name).read_bytes() == (base_policy() / name).read_bytes()
    weights = after.network.state_dict()
    for name, tensor in before.network.state_dict().items():
        torch.testing.assert_close(weights[name], tensor, atol=1e-7, rtol=0.0)


def test_a_run_goes_on_from_its_own_base_alone(toys, dataset, start, tmp_path, monkeypatch):
    """Also after the base that ships has become another one, or has moved."""
    config = TrainSftConfig(dataset=(dataset,), out=tmp_path / "run", sft=STEPS)
    monkeypatch.setattr(twin, "base_policy", lambda: start)
    trained = main(config)
    digest = hashlib.sha256((start / "model.safetensors").read_bytes()).hexdigest()
    assert read_config(config.out)["checkpoint_sha256"] == digest
    monkeypatch.setattr(twin, "base_policy", lambda: shutil.copytree(start, tmp_path / "moved"))
    assert main(config) == trained
    toys.make_piper_policy(seed=1).save(tmp_path / "newer")
    monkeypatch.setattr(twin, "base_policy", lambda: tmp_path / "newer")
    before = toys.tree_of(config.out)
    with pytest.raises(VlaError, match=f"was made with checkpoint_sha256 = {digest}, now .*; choose another --out"):
        main(config)
    assert toys.tree_of(config.out) == before


def test_a_run_stopped_after_three_steps_and_resumed_equals_an_unbroken_one(dataset, start, tmp_path, monkeypatch):
    def config(name):
        return TrainSftConfig(
            dataset=(dataset,), checkpoint=start, out=tmp_path / name, sft=STEPS, checkpoint_every=2, seed=3
        )

    unbroken = main(config("unbroken"))
    train_step = SftTrainer.train_step

    def stopped(trainer):
        if trainer.step == 3:
            raise KeyboardInterrupt
        return train_step(trainer)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(SftTrainer, "train_step", stopped)
        main(config("broken"))
    assert len(read_metrics(tmp_path / "broken")) == 3
    resumed = main(config("broken"))
    assert resumed.name == unbroken.name == "step_000004"
    assert files_of(resumed) == files_of(unbroken)
    metrics = read_metrics(tmp_path / "unbroken")
    assert read_metrics(tmp_path / "broken") == metrics
    assert [line["step"] for line in metrics] == [0, 1, 2, 3]


def test_several_datasets_are_one(dataset, start, tmp_path, monkeypatch):
    other = write_dataset(tmp_path / "other", DUAL_PIPER, lengths=(2,), seed=1)
    seen = []
    monkeypatch.setattr(train_sft, "train_in_run", lambda run, trainer, every: seen.append(trainer._table))
    main(TrainSftConfig(dataset=(dataset, other), checkpoint=start, out=tmp_path / "run"))
    assert (len(seen[0]), seen[0].episode_N.max()) == (9, 2)
    assert seen[0].images_NCHW3.shape[1:] == (3, 8, 8, 3)  # as the policy sees them


def test_the_data_of_another_robot_are_refused_and_nothing_is_made(toys, start, tmp_path):
    foreign = write_dataset(tmp_path / "foreign", toys.ROBOT)
    with pytest.raises(VlaError, match=r"dataset .*foreign has joints .'shoulder'"):
        main(TrainSftConfig(dataset=(foreign,), checkpoint=start, out=tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_the_policy_of_another_robot_is_refused_and_nothing_is_made(toys, dataset, tmp_path):
    toys.make_policy().save(tmp_path / "foreign")
    with pytest.raises(VlaError, match="foreign"):
        main(TrainSftConfig(dataset=(dataset,), checkpoint=tmp_path / "foreign", out=tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_no_dataset_is_refused(start, tmp_path):
    with pytest.raises(VlaError, match="no frames to train on; collect demonstrations first"):
        main(TrainSftConfig(dataset=(), checkpoint=start, out=tmp_path / "run"))


@pytest.mark.parametrize("change", [{"checkpoint_every": 0}, {"seed": -1}])
def test_counts_that_cannot_be_are_refused(dataset, change):
    with pytest.raises(VlaError, match=f"{next(iter(change))} is"):
        TrainSftConfig(dataset=(dataset,), **change)


def test_another_configuration_in_the_same_folder_is_refused_and_nothing_is_touched(toys, dataset, start, tmp_path):
    config = TrainSftConfig(dataset=(dataset,), checkpoint=start, out=tmp_path / "run", sft=STEPS)
    main(config)
    before = toys.tree_of(config.out)
    with pytest.raises(VlaError, match=r"was made with sft.batch_size = 3, now sft.batch_size = 5 is asked for"):
        main(dataclasses.replace(config, sft=dataclasses.replace(STEPS, batch_size=5)))
    assert toys.tree_of(config.out) == before


# From here on for LIBERO's robot, for which no base ships.


@pytest.fixture(scope="module")
def libero_dataset(tmp_path_factory):
    return write_dataset(tmp_path_factory.mktemp("sft") / "libero", LIBERO_PANDA)


def test_a_fresh_network_learns_from_the_data_of_libero_and_resumes_as_if_unbroken(libero_dataset, tmp_path):
    def config(name, **changes):
        given = dict(dataset=(libero_dataset,), preset="tiny", out=tmp_path / name, sft=STEPS, checkpoint_every=2)
        return TrainSftConfig(**given | changes)

    unbroken = main(config("unbroken"))
    policy = VlaPolicy.load(unbroken, robot=LIBERO_PANDA)
    assert (policy.config.action_frame, policy.config.camera_names) == ("absolute", LIBERO_PANDA.camera_names)
    assert policy.statistics.num_trajectories == 2
    np.testing.assert_allclose(policy.statistics.action.max, Dataset(libero_dataset).statistics["action"]["max"])
    main(config("broken"))
    shutil.rmtree(tmp_path / "broken" / "checkpoints" / "step_000004")
    assert files_of(main(config("broken"))) == files_of(unbroken)
    with pytest.raises(VlaError, match=r"was made with preset = tiny, now preset = small"):
        main(config("unbroken", preset="small"))


def test_a_checkpoint_of_libero_is_fine_tuned_further(libero_dataset, tmp_path):
    first = main(TrainSftConfig(dataset=(libero_dataset,), preset="tiny", out=tmp_path / "first", sft=STEPS))
    second = main(TrainSftConfig(dataset=(libero_dataset,), checkpoint=first, out=tmp_path / "second", sft=STEPS))
    assert (second / "dataset_statistics.json").read_bytes() == (first / "dataset_statistics.json").read_bytes()
    assert files_of(second)["model.safetensors"] != files_of(first)["model.safetensors"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({}, "no base policy ships for LIBERO; give --preset small"),
        ({"preset": "tinny"}, "preset 'tinny' does not exist; did you mean 'tiny'"),
        ({"preset": "tiny", "checkpoint": "here"}, "give --preset or --checkpoint"),
    ],
)
def test_what_cannot_start_on_libero_is_refused_and_nothing_is_made(libero_dataset, tmp_path, changes, message):
    with pytest.raises(VlaError, match=message):
        main(TrainSftConfig(dataset=(libero_dataset,), out=tmp_path / "run", **changes))
    assert not (tmp_path / "run").exists()


def test_data_of_both_robots_cannot_be_one(libero_dataset, dataset, tmp_path):
    with pytest.raises(VlaError, match="has joints"):
        main(TrainSftConfig(dataset=(libero_dataset, dataset), preset="tiny", out=tmp_path / "run"))


def test_a_policy_that_adds_its_actions_to_the_state_is_not_trained_on_motions(libero_dataset, tmp_path):
    spread = Statistics.of(np.linspace([-1.0] * 7, [1.0] * 7, 11))
    statistics = DatasetStatistics(action=spread, proprio=spread, num_transitions=11, num_trajectories=1)
    network = dataclasses.replace(presets.tiny(LIBERO_PANDA), action_frame="relative")
    policy = VlaPolicy.create(network, LIBERO_PANDA, statistics, train_tokenizer(["pick it up"]))
    policy.save(tmp_path / "policy")
    with pytest.raises(VlaError, match='action_frame="absolute"'):
        main(TrainSftConfig(dataset=(libero_dataset,), checkpoint=tmp_path / "policy", out=tmp_path / "run"))
