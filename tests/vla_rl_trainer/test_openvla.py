"""A network of the published design in the trainer: what it samples is what it learns from, in float32 and bfloat16."""

import contextlib
import dataclasses

import numpy as np
import pytest
import torch

from vla_policy import checkpoint
from vla_policy.errors import VlaError
from vla_policy.openvla import memory
from vla_policy.policy import VlaPolicy
from vla_rl_trainer import train_grpo
from vla_rl_trainer.benchmarks import twin
from vla_rl_trainer.learner import LearnerConfig, make_optimizer, update
from vla_rl_trainer.optimizer import MasterAdamW, parameters
from vla_rl_trainer.run_files import read_metrics
from vla_rl_trainer.train_grpo import paper
from vla_rl_trainer.trainable import LoraConfig
from vla_rl_trainer.training_state import load_state, save_state

LORA = LoraConfig(rank=4)
CONFIG = LearnerConfig(num_minibatches=2, micro_batch=3, learning_rate=1e-3)


@pytest.fixture
def exact(monkeypatch):
    monkeypatch.setattr("vla_policy.precision.compute_dtype", lambda _: torch.float32)


@pytest.fixture
def rough(monkeypatch):
    monkeypatch.setattr("vla_policy.precision.compute_dtype", lambda _: torch.bfloat16)


def weights_of(policy):
    return {name: tensor.clone() for name, tensor in policy.network.state_dict().items()}


def learn(policy, optimizer, groups, config=CONFIG, seed=0):
    return update(policy, optimizer, groups, 1.6, config, np.random.default_rng(seed))


def test_what_is_kept_of_a_chunk_is_the_prepared_image_in_bytes(exact, toys, tmp_path):
    policy = toys.make_openvla(tmp_path / "base")
    (group, *_) = toys.sample_groups(policy, 1)
    for trajectory in group.members:
        for inputs in trajectory.inputs:
            assert inputs.images_BCHW3.dtype == torch.uint8
            assert inputs.images_BCHW3.shape == (1, 1, 28, 28, 3)
            assert inputs.state_BS.shape == (1, 0)


@pytest.mark.parametrize("lora", [LoraConfig(), LORA], ids=["all", "adapters"])
def test_sampler_and_learner_agree(exact, toys, tmp_path, lora):
    policy = toys.make_openvla(tmp_path / "base")
    config = dataclasses.replace(CONFIG, lora=lora)
    optimizer = make_optimizer(policy, config)
    before = weights_of(policy)
    metrics = learn(policy, optimizer, toys.sample_groups(policy, 3), config)
    assert metrics["sampler_learner_gap"] < 1e-5
    assert metrics["grad_norm"] > 0.0
    changed = {name for name, weight in weights_of(policy).items() if not torch.equal(weight, before[name])}
    if lora.rank:
        assert changed
        assert all("lora" in name for name in changed)
    else:
        assert changed == set(before)


def test_computing_activations_again_changes_no_gradient(exact, toys, tmp_path):
    results = []
    for again in (False, True):
        policy = toys.make_openvla(tmp_path / "base")
        config = dataclasses.replace(CONFIG, lora=LORA, recompute=again)
        optimizer = make_optimizer(policy, config)
        results.append((learn(policy, optimizer, toys.sample_groups(policy, 2), config), weights_of(policy)))
    assert results[0][0] == results[1][0]
    assert all(torch.equal(results[0][1][name], results[1][1][name]) for name in results[0][1])


@pytest.mark.parametrize("lora", [LoraConfig(), LORA], ids=["all", "adapters"])
def test_bfloat16_weights_are_stepped_in_float32(rough, toys, tmp_path, lora):
    policy = toys.make_openvla(tmp_path / "base")
    config = dataclasses.replace(CONFIG, lora=lora)
    optimizer = make_optimizer(policy, config)
    assert isinstance(optimizer, MasterAdamW)
    metrics = learn(policy, optimizer, toys.sample_groups(policy, 2), config)
    assert metrics["sampler_learner_gap"] < 0.2
    trained = [weight for weight in policy.network.parameters() if weight.requires_grad]
    for weight, master in zip(trained, parameters(optimizer), strict=True):
        assert (weight.dtype, master.dtype) == (torch.bfloat16, torch.float32)
        assert torch.equal(weight, master.bfloat16())
        assert not torch.equal(weight.float(), master)


@pytest.mark.parametrize("lora", [LoraConfig(), LORA], ids=["all", "adapters"])
@pytest.mark.parametrize("precision", ["exact", "rough"])
def test_a_resumed_learner_goes_on_bit_for_bit(request, toys, tmp_path, lora, precision):
    request.getfixturevalue(precision)
    config = dataclasses.replace(CONFIG, lora=lora)
    policy = toys.make_openvla(tmp_path / "base")
    optimizer = make_optimizer(policy, config)
    groups = toys.sample_groups(policy, 2)
    learn(policy, optimizer, groups, config)
    policy.save(tmp_path / "saved")
    save_state(tmp_path / "saved", optimizer, {"step": 1})
    other = VlaPolicy.load(tmp_path / "base")
    resumed = make_optimizer(other, config)
    other.restore(tmp_path / "saved")
    assert load_state(tmp_path / "saved", resumed) == {"step": 1}
    results = [(learn(one, with_, groups, config, seed=1), weights_of(one)) for one, with_ in
               ((policy, optimizer), (other, resumed))]  # fmt: skip
    assert results[0][0] == results[1][0]
    assert all(torch.equal(results[0][1][name], results[1][1][name]) for name in results[0][1])


def test_adapters_of_a_checkpoint_are_gone_on_with_or_refused(exact, toys, tmp_path):
    policy = toys.make_openvla(tmp_path / "base")
    make_optimizer(policy, dataclasses.replace(CONFIG, lora=LORA))
    policy.save(tmp_path / "adapters")
    again = VlaPolicy.load(tmp_path / "adapters")
    for lora in (LoraConfig(), LoraConfig(rank=8), LoraConfig(rank=4, alpha=8)):
        with pytest.raises(VlaError, match=r"holds adapters of rank 4 and alpha 16; go on with them \(lora\.rank 4"):
            make_optimizer(again, dataclasses.replace(CONFIG, lora=lora))
    optimizer = make_optimizer(again, dataclasses.replace(CONFIG, lora=LORA))
    assert learn(again, optimizer, toys.sample_groups(again, 1))["grad_norm"] > 0.0


def test_too_little_memory_for_all_weights_is_said_with_what_to_do(exact, toys, tmp_path, monkeypatch):
    policy = toys.make_openvla(tmp_path / "base")
    monkeypatch.setattr(memory, "available", lambda device: 10**6)
    with pytest.raises(VlaError, match=r"train adapters \(--learner\.lora\.rank 32, 2 GB\), or .* torchrun --nproc"):
        make_optimizer(policy, CONFIG)
    assert policy.adapted is None
    make_optimizer(policy, dataclasses.replace(CONFIG, lora=LORA))


def test_running_out_of_gpu_memory_says_what_to_lower_and_to_what(exact, toys, tmp_path, monkeypatch):
    policy = toys.make_openvla(tmp_path / "base")
    optimizer = make_optimizer(policy, CONFIG)
    groups, before = toys.sample_groups(policy, 2), weights_of(policy)

    def fail(*_):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(policy.network, "compute", fail)
    monkeypatch.setattr("vla_rl_trainer.out_of_memory._free", lambda device: 10**9)
    with pytest.raises(VlaError, match=r"micro-batch 64 with 1\.0 GB free before; lower it to --learner\.micro-batch 32, or give --learner\.recompute"):  # fmt: skip  # noqa: E501
        learn(policy, optimizer, groups, dataclasses.replace(CONFIG, micro_batch=64))
    monkeypatch.setattr("vla_rl_trainer.out_of_memory._free", lambda device: 10**6)
    with pytest.raises(VlaError, match=r"lower it to --learner\.micro-batch [1-9],"):
        learn(policy, optimizer, groups, dataclasses.replace(CONFIG, micro_batch=64))
    with pytest.raises(VlaError, match=r"give --learner\.recompute, which keeps a tenth"):
        learn(policy, optimizer, groups, dataclasses.replace(CONFIG, micro_batch=1))
    assert all(torch.equal(weight, before[name]) for name, weight in weights_of(policy).items())


@pytest.fixture
def published(monkeypatch, toys, quick_trackers, tmp_path):
    """The published preset on a folder of the published layout, in a scripted simulation: few steps, few groups."""
    toys.make_openvla(tmp_path / "base")
    monkeypatch.setattr(twin.TwinBenchmark, "embodiment", toys.HAND)
    sizes = []

    def make(num_slots, config, *, num_workers):
        sizes.append(config.image_size)
        script = toys.pattern("1010", "0110", "1001", "0000")
        return contextlib.closing(toys.ScriptedEnv(num_slots, script, toys.HAND))

    monkeypatch.setattr(twin, "TwinVectorEnv", make)

    def configure(**changes):
        preset = paper(tmp_path / "base")
        given = {
            "out": tmp_path / "run",
            "num_steps": 2,
            "num_groups": 2,
            "num_slots": 8,
            "checkpoint_every": 1,
            "seed": 1,
        }
        given |= {"group": dataclasses.replace(preset.group, group_size=4)}
        learner = dataclasses.replace(preset.learner, num_minibatches=2, micro_batch=3, lora=changes.pop("lora", LORA))
        return dataclasses.replace(preset, learner=learner, **(given | changes))

    configure.sizes = sizes
    return configure


@pytest.mark.parametrize("lora", [LoraConfig(), LORA], ids=["all", "adapters"])
def test_the_published_preset_trains_a_published_folder_and_resumes(exact, toys, published, tmp_path, lora):
    before = toys.tree_of(tmp_path / "base")
    last = train_grpo.main(published(lora=lora, out=tmp_path / "unbroken"))
    first = train_grpo.main(published(lora=lora, num_steps=1))
    again = train_grpo.main(published(lora=lora))
    assert (first.name, again.name) == ("step_000001", "step_000002")
    assert toys.tree_of(again) == toys.tree_of(last)
    assert toys.tree_of(tmp_path / "base") == before
    assert published.sizes == [128] * 3  # whole camera images: the policy scales them itself
    lines = toys.without_times(read_metrics(tmp_path / "run"))
    assert lines == toys.without_times(read_metrics(tmp_path / "unbroken"))
    assert all(line["sampler_learner_gap"] < 1e-4 for line in lines)
    assert checkpoint.is_adapted(last) == bool(lora.rank)
    trained = VlaPolicy.load(last, robot=toys.HAND)
    assert trained.config == VlaPolicy.load(tmp_path / "base").config


@pytest.mark.parametrize("damage", ["cut", "code", "statistics"])
def test_a_damaged_folder_leaves_nothing_behind(exact, published, tmp_path, damage):
    base = tmp_path / "base"
    if damage == "cut":
        path = next(base.glob("model-*.safetensors"))
        path.write_bytes(path.read_bytes()[:-1000])
    elif damage == "code":
        (base / "modeling_prismatic.py").write_text("print('hello')")
    else:
        (base / "dataset_statistics.json").write_text('{"other": {}}')
    with pytest.raises(VlaError, match=r"cut short|carries code|un-normalise keys there are: other"):
        train_grpo.main(published())
    assert not (tmp_path / "run").exists()


def test_too_little_memory_leaves_nothing_behind(exact, published, tmp_path, monkeypatch):
    available = iter([10**12, 10**6])  # enough for the weights, not for training them
    monkeypatch.setattr(memory, "available", lambda device: next(available))
    with pytest.raises(VlaError, match=r"give|train adapters"):
        train_grpo.main(published(lora=LoraConfig()))
    assert {path.name for path in (tmp_path / "run").iterdir()} <= {".lock"}


def test_how_fast_and_how_large_passes_are_may_change_between_starts(exact, published, tmp_path):
    train_grpo.main(published(num_steps=1))
    config = published()
    learner = dataclasses.replace(config.learner, micro_batch=1, recompute=True)
    assert train_grpo.main(dataclasses.replace(config, learner=learner, compile="off")).name == "step_000002"
