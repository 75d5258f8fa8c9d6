"""Supervised fine-tuning: it learns, it resumes exactly, and augmentation harms nothing."""

import contextlib
import dataclasses

import numpy as np
import pytest
import torch

from vla_policy.action_frame import to_frame
from vla_policy.errors import VlaError
from vla_rl_trainer.dataset import EpisodeData, FrameTable
from vla_rl_trainer.run_folder import Run
from vla_rl_trainer.sft import SftConfig, SftTrainer, augment, learning_rate_at, statistics_of, train_in_run

PLAIN = SftConfig(brightness=0.0, contrast=0.0, colour=0.0, state_noise=0.0)
QUICK = SftConfig(num_steps=4, batch_size=6)


@pytest.fixture
def table(toys):
    """Two short episodes of noise."""
    rng = np.random.default_rng(0)

    def episode(length, instruction):
        return EpisodeData(
            images={name: rng.integers(0, 256, (length, 8, 8, 3), np.uint8) for name in toys.ROBOT.camera_names},
            state=rng.uniform([-1, -1, 0], [1, 1, 0.07], (length, 3)).astype(np.float32),
            action=rng.uniform([-1, -1, 0], [1, 1, 0.07], (length, 3)).astype(np.float32),
            instruction=instruction,
            success=True,
            seed=0,
            task="bell",
        )

    return FrameTable.from_episodes([episode(3, "press the bell"), episode(4, "lift it")], toys.ROBOT, None)


def inputs_of(policy, table, count=5):
    rows = np.arange(count) % len(table)
    return policy.inputs_from_arrays(table.images_NCHW3[rows], table.state_NS[rows], table.instructions_of(rows))


def weights_of(policy):
    return {name: tensor.clone() for name, tensor in policy.network.state_dict().items()}


def require_equal(one, other):
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_few_frames_are_learnt_by_heart(toys, table):
    network = dataclasses.replace(toys.NETWORK, decoding="argmax")
    policy = toys.make_policy(network)
    config = dataclasses.replace(PLAIN, num_steps=150, batch_size=12, learning_rate=1e-2, weight_decay=0.0)
    trainer = SftTrainer(policy, table, config, seed=0)
    losses = [trainer.train_step()["sft/loss"] for _ in range(config.num_steps)]
    assert losses[0] > 5.0  # log(256) = 5.5
    assert np.mean(losses[-5:]) < 0.5
    rows = np.arange(len(table))
    wanted = policy.encode_actions(table.chunks(rows, 4), table.state_NS)
    answered = policy.act(inputs_of(policy, table, len(table)), table.state_NS)
    assert (policy.encode_actions(answered, table.state_NS) == wanted).mean() > 0.8


def test_two_steps_and_two_more_after_a_restart_equal_four(toys, table, tmp_path):
    unbroken = SftTrainer(toys.make_policy(), table, QUICK, seed=3)
    curve = [unbroken.train_step() for _ in range(4)]
    broken = SftTrainer(toys.make_policy(), table, QUICK, seed=3)
    pieces = [broken.train_step() for _ in range(2)]
    broken.save(tmp_path / "checkpoint")
    resumed = SftTrainer(toys.make_policy(seed=9), table, QUICK, seed=3)
    resumed.resume(tmp_path / "checkpoint")
    assert resumed.step == 2
    pieces += [resumed.train_step() for _ in range(2)]
    assert pieces == curve
    require_equal(weights_of(resumed.policy), weights_of(unbroken.policy))
    assert not resumed.policy.network.training


@pytest.mark.parametrize("stop_after", [1, 3])
def test_an_interrupted_run_leaves_the_same_curve(toys, table, tmp_path, quick_trackers, stop_after):
    config = dataclasses.replace(QUICK, num_steps=5)
    results = []
    for name, stops in (("unbroken", ()), ("broken", (stop_after,))):
        for stop in (*stops, None):
            trainer = SftTrainer(toys.make_policy(), table, config, seed=0)
            with Run.open_or_create(tmp_path / name, {"seed": 0}) as run, contextlib.suppress(KeyboardInterrupt):
                if stop is not None:
                    interrupt_after(trainer, stop)
                last = train_in_run(run, trainer, checkpoint_every=2)
                assert last == run.checkpoint_path(5) == run.latest_checkpoint()
        results.append((run.metrics(), weights_of(trainer.policy)))
    assert results[0][0] == results[1][0]
    assert [line["step"] for line in results[0][0]] == [0, 1, 2, 3, 4]
    require_equal(results[0][1], results[1][1])


def interrupt_after(trainer, steps):
    step = trainer.train_step

    def train_step():
        if trainer.step == steps:
            raise KeyboardInterrupt
        return step()

    trainer.train_step = train_step


def test_a_finished_run_is_not_trained_again(toys, table, tmp_path, quick_trackers):
    with Run.create(tmp_path / "run", {}) as run:
        train_in_run(run, SftTrainer(toys.make_policy(), table, QUICK, seed=0), checkpoint_every=2)
        before = run.metrics()
        again = SftTrainer(toys.make_policy(seed=5), table, QUICK, seed=0)
        assert train_in_run(run, again, checkpoint_every=2) == run.checkpoint_path(4)
        assert again.step == 4
        assert run.metrics() == before


def test_batches_depend_on_seed_and_step_alone(toys, table):
    trainers = [SftTrainer(toys.make_policy(), table, QUICK, seed=seed) for seed in (0, 0, 1)]
    trainers[1]._gathered_step = -5  # whatever was gathered ahead is of no account
    batches = [trainer._gather(2) for trainer in trainers]
    assert torch.equal(batches[0][0].images_BCHW3, batches[1][0].images_BCHW3)
    assert not torch.equal(batches[0][1], batches[2][1])
    losses = [trainer.train_step()["sft/loss"] for trainer in trainers]
    assert losses[0] == losses[1] != losses[2]


def test_the_learning_rate_warms_up_and_falls_to_a_tenth():
    config = SftConfig(num_steps=100, learning_rate=1.0)
    rates = [learning_rate_at(step, config) for step in range(100)]
    assert rates[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert rates[5:] == sorted(rates[5:], reverse=True)
    assert rates[-1] == pytest.approx(0.1, abs=0.01)
    assert learning_rate_at(0, SftConfig(num_steps=1, learning_rate=1.0)) == 1.0


def test_every_step_is_taken_at_its_learning_rate(toys, table):
    trainer = SftTrainer(toys.make_policy(), table, QUICK, seed=0)
    for step in range(QUICK.num_steps):
        trainer.train_step()
        assert trainer.optimizer.param_groups[0]["lr"] == learning_rate_at(step, QUICK)


def test_augmentation_keeps_types_shapes_and_prompts(policy, table):
    inputs = inputs_of(policy, table)
    changed = augment(inputs, SftConfig(shift=2), torch.Generator().manual_seed(0))
    for field in dataclasses.fields(inputs):
        before, after = getattr(inputs, field.name), getattr(changed, field.name)
        assert (before.shape, before.dtype) == (after.shape, after.dtype)
    assert torch.equal(changed.prompt_BL, inputs.prompt_BL)
    assert not torch.equal(changed.images_BCHW3, inputs.images_BCHW3)
    assert not torch.equal(changed.state_BS, inputs.state_BS)
    assert (changed.state_BS - inputs.state_BS).abs().max() < 0.15


def test_augmentation_leaves_its_input_alone(policy, table):
    inputs = inputs_of(policy, table)
    images, state = inputs.images_BCHW3.clone(), inputs.state_BS.clone()
    augment(inputs, SftConfig(shift=1), torch.Generator().manual_seed(0))
    assert torch.equal(inputs.images_BCHW3, images)
    assert torch.equal(inputs.state_BS, state)


def test_augmentation_is_reproduced_by_its_generator(policy, table):
    inputs = inputs_of(policy, table)
    one, same, other = (
        augment(inputs, SftConfig(), torch.Generator().manual_seed(seed)).images_BCHW3 for seed in (1, 1, 2)
    )
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def test_no_augmentation_changes_nothing(policy, table):
    inputs = inputs_of(policy, table)
    same = augment(inputs, PLAIN, torch.Generator().manual_seed(0))
    assert torch.equal(same.images_BCHW3, inputs.images_BCHW3)
    assert torch.equal(same.state_BS, inputs.state_BS)


def test_a_shift_moves_pixels_and_mixes_no_images(policy, table):
    inputs = inputs_of(policy, table)
    moved = augment(inputs, dataclasses.replace(PLAIN, shift=3), torch.Generator().manual_seed(1)).images_BCHW3
    assert torch.equal(moved.sum((2, 3)), inputs.images_BCHW3.sum((2, 3)))
    assert not torch.equal(moved, inputs.images_BCHW3)


def test_augmented_images_keep_their_mean(policy, table):
    inputs = inputs_of(policy, table)
    grey = dataclasses.replace(inputs, images_BCHW3=torch.full_like(inputs.images_BCHW3, 100))
    generator = torch.Generator().manual_seed(0)
    means = [augment(grey, SftConfig(), generator).images_BCHW3.float().mean() for _ in range(100)]
    assert float(torch.stack(means).mean()) == pytest.approx(100.0, abs=2.0)


def test_statistics_are_of_the_chunks_in_the_policys_frame(toys, table):
    statistics = statistics_of(table, toys.ROBOT, toys.NETWORK)
    framed = to_frame(table.chunks(np.arange(7), 4), table.state_NS, toys.ROBOT, "relative")
    assert framed.shape == (7, 4, 3)
    assert statistics.action.min == pytest.approx(framed.min((0, 1)))
    assert statistics.action.max == pytest.approx(framed.max((0, 1)))
    assert statistics.proprio.mean == pytest.approx(table.state_NS.mean(0), abs=1e-6)
    assert (statistics.num_transitions, statistics.num_trajectories) == (7, 2)
    # joints count from where the chunk starts, grippers from closed
    assert framed[0, 0, 0] == pytest.approx(table.action_MA[0, 0] - table.state_NS[0, 0])
    assert framed[0, 0, 2] == pytest.approx(table.action_MA[0, 2])


def test_statistics_in_the_absolute_frame_are_of_the_actions_themselves(toys, table):
    network = dataclasses.replace(toys.NETWORK, action_frame="absolute")
    assert statistics_of(table, toys.ROBOT, network).action.max == pytest.approx(table.action_MA.max(0))


def test_frames_of_other_cameras_are_refused(toys, table):
    swapped = dataclasses.replace(table, cameras=("wrist", "head"))
    with pytest.raises(VlaError, match=r"the frames show cameras .*wrist.*, the robot has .*head"):
        SftTrainer(toys.make_policy(), swapped, QUICK, seed=0)


def test_no_checkpoint_interval_below_one_is_taken(toys, table, tmp_path, quick_trackers):
    with Run.create(tmp_path / "run", {}) as run, pytest.raises(VlaError, match="checkpoint_every is 0"):
        train_in_run(run, SftTrainer(toys.make_policy(), table, QUICK, seed=0), checkpoint_every=0)


@pytest.mark.parametrize("wrong", [{"num_steps": 0}, {"batch_size": -1}, {"learning_rate": 0.0}, {"shift": -1}])
def test_numbers_that_cannot_be_trained_with_are_refused(wrong):
    with pytest.raises(VlaError, match=f"{next(iter(wrong))} is"):
        SftConfig(**wrong)
