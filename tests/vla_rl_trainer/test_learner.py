"""The gradient step: which tokens count, how much, and that cutting the work differently changes nothing."""

import dataclasses
import math

import numpy as np
import pytest
import torch

from vla_policy.errors import VlaError
from vla_rl_trainer.chunk_batch import chunk_rows, gather
from vla_rl_trainer.grpo import group_advantages
from vla_rl_trainer.learner import LearnerConfig, make_optimizer, update

pytestmark = pytest.mark.usefixtures("in_float32")

WHOLE = LearnerConfig(num_minibatches=1, shuffle=False, max_grad_norm=1e9)
"""One exact step."""


@pytest.fixture
def groups(toys, policy):
    return toys.sample_groups(policy, 3)


def gradient_of(policy, groups, config=WHOLE, seed=0, **arguments):
    """The gradient `update` leaves behind when its step is too small to matter."""
    optimizer = torch.optim.SGD(policy.network.parameters(), lr=1e-30)
    update(policy, optimizer, groups, 1.6, config, np.random.default_rng(seed), **arguments)
    parts = [torch.zeros_like(p) if p.grad is None else p.grad for p in policy.network.parameters()]
    return torch.cat([part.flatten() for part in parts])


def weights_of(policy):
    return {name: tensor.clone() for name, tensor in policy.network.state_dict().items()}


def by_hand(policy, groups):
    """The loss as the paper writes it, one trajectory at a time."""
    total, count = torch.zeros(()), 0
    for group in groups:
        for trajectory, advantage in zip(group.members, group_advantages(group.rewards), strict=True):
            tokens = []
            for inputs, indices, old, steps in zip(
                trajectory.inputs, trajectory.indices, trajectory.log_probs, trajectory.steps, strict=True
            ):
                ratio = (policy.log_probs(inputs, indices[None].long(), 1.6)[0] - old).exp()
                clipped = ratio.clamp(0.8, 1.28)
                tokens.append(torch.maximum(-advantage * ratio, -advantage * clipped)[:steps].flatten())
            total = total + torch.cat(tokens).mean()
            count += 1
    return total / count


def test_a_trajectorys_weights_add_up_to_one_over_its_valid_tokens(groups):
    batch = gather(groups)
    for number in range(12):
        own = batch.weights_NKA[torch.from_numpy(batch.trajectory_N == number)]
        assert float(own.sum()) == pytest.approx(1.0, abs=1e-6)
        trajectory = [member for group in groups for member in group.members][number]
        steps = torch.tensor(trajectory.steps)
        assert torch.equal((own > 0).sum((1, 2)), steps * 3)
        assert torch.allclose(own[own > 0], torch.tensor(1.0 / (3 * trajectory.num_steps)))
    assert len({trajectory.num_steps for group in groups for trajectory in group.members}) > 3


def test_chunks_stay_with_their_trajectory(groups):
    batch = gather(groups)
    trajectories = [member for group in groups for member in group.members]
    row = 0
    for number, trajectory in enumerate(trajectories):
        advantage = group_advantages(groups[number // 4].rewards)[number % 4]
        for chunk in range(len(trajectory.steps)):
            assert batch.trajectory_N[row] == number
            assert batch.inputs_N[row] is trajectory.inputs[chunk]
            assert torch.equal(batch.indices_NKA[row], trajectory.indices[chunk])
            assert torch.equal(batch.log_probs_NKA[row], trajectory.log_probs[chunk])
            assert float(batch.advantages_N11[row]) == pytest.approx(advantage)
            row += 1
    assert row == len(batch.inputs_N)


def test_dropped_members_are_left_out(toys, policy):
    groups = toys.sample_groups(policy, 1, toys.pattern("10x0"))
    batch = gather(groups)
    assert batch.trajectory_N.max() == 2
    assert sorted(batch.advantages_N11.unique().tolist()) == pytest.approx([-0.57735, 1.1547], abs=1e-4)
    assert torch.isfinite(gradient_of(policy, groups)).all()


def test_the_loss_is_the_one_written_out_by_hand(toys, policy, groups):
    other = toys.make_policy(seed=1)  # ratios away from one, some of them clipped
    with torch.no_grad():
        expected = by_hand(other, groups)
    metrics = update(other, make_optimizer(other, WHOLE), groups, 1.6, WHOLE, np.random.default_rng(0))
    assert metrics["loss"] == pytest.approx(float(expected), abs=1e-5)
    assert 0.0 < metrics["clipfrac"] < 1.0


def test_the_gradient_is_the_one_of_the_loss_written_out_by_hand(toys, policy, groups):
    other = toys.make_policy(seed=1)
    by_hand(other, groups).backward()
    expected = torch.cat([p.grad.flatten() for p in other.network.parameters() if p.grad is not None])
    other.network.zero_grad(set_to_none=True)
    gradient = gradient_of(other, groups)
    gradient = torch.cat([p.grad.flatten() for p in other.network.parameters() if p.grad is not None])
    assert torch.allclose(gradient, expected, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("micro_batch", [1, 5, 7])
def test_micro_batches_add_up_to_one_large_batch(policy, groups, micro_batch):
    large = gradient_of(policy, groups)
    small = gradient_of(policy, groups, dataclasses.replace(WHOLE, micro_batch=micro_batch))
    assert torch.allclose(small, large, rtol=1e-3, atol=1e-6)
    assert large.norm() > 1e-3


def test_the_order_of_trajectories_changes_no_large_batch(policy, groups):
    shuffled = gradient_of(policy, groups, dataclasses.replace(WHOLE, shuffle=True))
    assert torch.allclose(shuffled, gradient_of(policy, groups), rtol=1e-3, atol=1e-6)


def test_a_part_of_the_chunks_gives_the_gradient_on_average(policy, toys):
    groups = toys.sample_groups(policy, 1, lambda episode, attempt: toys.Part(attempt % 2 == 0, chunks=4, last_steps=3))
    full = gradient_of(policy, groups)
    config = dataclasses.replace(WHOLE, chunk_fraction=0.5)
    draws = [gradient_of(policy, groups, config, seed=seed) for seed in range(80)]

    def error(count):
        return float((torch.stack(draws[:count]).mean(0) - full).norm() / full.norm())

    assert error(1) > 0.3
    assert error(80) < 0.5 * error(8) < error(1)
    assert error(80) < 0.2


def test_every_chunk_is_drawn_as_often_as_its_weight_makes_up_for():
    owner = np.repeat([0, 1, 2], [1, 3, 8])
    total = np.zeros(len(owner))
    rng = np.random.default_rng(0)
    for _ in range(4000):
        rows, factors = chunk_rows(owner, np.array([2, 0, 1]), 0.4, rng)
        assert len(rows) == 1 + 1 + 3
        total[rows] += factors
    assert total / 4000 == pytest.approx(1.0, abs=0.1)


def test_all_chunks_are_taken_once_without_masking():
    rows, factors = chunk_rows(np.repeat([0, 1], [2, 3]), np.array([1, 0]), 1.0, np.random.default_rng(0))
    assert rows.tolist() == [2, 3, 4, 0, 1]
    assert factors.tolist() == [1.0] * 5


def test_sampler_and_learner_agree_on_fresh_groups(policy, groups):
    metrics = update(policy, make_optimizer(policy, WHOLE), groups, 1.6, WHOLE, np.random.default_rng(0))
    assert metrics["sampler_learner_gap"] < 1e-5
    assert metrics["approx_kl"] == pytest.approx(0.0, abs=1e-6)
    assert metrics["clipfrac"] == 0.0
    assert metrics["staleness"] == 0.0
    assert 0.0 < metrics["entropy"] <= math.log(256)
    # a ratio of one everywhere makes the loss the mean advantage, which is zero: every trajectory counts alike
    assert metrics["loss"] == pytest.approx(0.0, abs=1e-5)


def test_sampler_and_learner_agree_in_the_precision_of_this_machine(toys, policy, monkeypatch):
    monkeypatch.undo()
    groups = toys.sample_groups(policy, 2)
    metrics = update(policy, make_optimizer(policy, WHOLE), groups, 1.6, WHOLE, np.random.default_rng(0))
    assert metrics["sampler_learner_gap"] < 0.1


def test_log_probabilities_computed_once_more_are_those_of_sampling(policy, groups):
    twice = dataclasses.replace(WHOLE, reuse_log_probs=False, micro_batch=5)
    torch.testing.assert_close(gradient_of(policy, groups, twice), gradient_of(policy, groups), rtol=1e-3, atol=1e-6)
    for group in groups:
        for trajectory in group.trajectories:
            trajectory.log_probs = [torch.full_like(one, -9.0) for one in trajectory.log_probs]
    assert (
        update(policy, make_optimizer(policy, twice), groups, 1.6, twice, np.random.default_rng(0))[
            "sampler_learner_gap"
        ]
        < 1e-3
    ), "what was kept of sampling is not asked"


def test_the_gap_is_that_before_the_first_step(policy, groups):
    config = LearnerConfig(num_minibatches=6, num_epochs=2, learning_rate=1e-2)
    metrics = update(policy, make_optimizer(policy, config), groups, 1.6, config, np.random.default_rng(0))
    assert metrics["sampler_learner_gap"] < 1e-5
    assert metrics["clipfrac"] > 0.0


def test_the_gap_shows_a_wrong_temperature(policy, groups):
    metrics = update(policy, make_optimizer(policy, WHOLE), groups, 1.0, WHOLE, np.random.default_rng(0))
    assert metrics["sampler_learner_gap"] > 0.01


def test_surplus_groups_do_not_enter_the_gap(toys, policy):
    stale = toys.sample_groups(toys.make_policy(seed=5), 2, version=3)
    fresh = toys.sample_groups(policy, 2, version=7)
    config = dataclasses.replace(WHOLE, micro_batch=4)

    def run(groups):
        optimizer = torch.optim.SGD(policy.network.parameters(), lr=1e-30)
        return update(policy, optimizer, groups, 1.6, config, np.random.default_rng(0), policy_version=7)

    metrics = run(stale + fresh)
    assert metrics["sampler_learner_gap"] < 1e-5
    assert metrics["staleness"] == 2.0
    assert abs(metrics["approx_kl"]) > 1e-4
    assert run(fresh)["staleness"] == 0.0
    assert math.isnan(run(stale)["sampler_learner_gap"])
    assert run(stale)["staleness"] == 4.0


def test_the_first_update_changes_trainable_weights_only(policy, groups):
    policy.network.vision.requires_grad_(False)
    before = weights_of(policy)
    update(policy, make_optimizer(policy, WHOLE), groups, 1.6, WHOLE, np.random.default_rng(0))
    after = weights_of(policy)
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {name for name in before if not name.startswith("vision.")}


def test_learning_raises_the_odds_of_what_succeeded(toys, policy):
    groups = toys.sample_groups(policy, 3)
    config = LearnerConfig(learning_rate=1e-3, num_minibatches=2)
    optimizer, rng = make_optimizer(policy, config), np.random.default_rng(0)

    def odds():
        total = {True: 0.0, False: 0.0}
        for trajectory in (member for group in groups for member in group.members):
            for inputs, indices, steps in zip(trajectory.inputs, trajectory.indices, trajectory.steps, strict=True):
                log_probs = policy.log_probs(inputs, indices[None].long(), 1.6)[0, :steps]
                total[trajectory.success] += float(log_probs.detach().mean())
        return total[True] - total[False]

    before = odds()
    for _ in range(3):
        update(policy, optimizer, groups, 1.6, config, rng)
    assert odds() > before + 0.1


def test_updates_are_reproduced_by_their_seed(toys):
    config = LearnerConfig(num_minibatches=3, num_epochs=2, micro_batch=3, chunk_fraction=0.5)
    results = []
    for _ in range(2):
        policy = toys.make_policy()
        groups = toys.sample_groups(policy, 3)
        metrics = update(policy, make_optimizer(policy, config), groups, 1.6, config, np.random.default_rng(4))
        results.append((metrics, weights_of(policy)))
    assert results[0][0] == results[1][0]
    assert all(torch.equal(results[0][1][name], results[1][1][name]) for name in results[0][1])


def test_more_mini_batches_than_trajectories_are_as_many_as_there_are(policy, groups, monkeypatch):
    config = LearnerConfig(num_minibatches=50)
    optimizer = make_optimizer(policy, config)
    steps = []
    monkeypatch.setattr(optimizer, "step", lambda: steps.append(1))
    update(policy, optimizer, groups, 1.6, config, np.random.default_rng(0))
    assert len(steps) == 12


def test_without_groups_nothing_is_done(policy):
    before = weights_of(policy)
    assert update(policy, make_optimizer(policy, WHOLE), [], 1.6, WHOLE, np.random.default_rng(0)) == {}
    assert all(torch.equal(before[name], tensor) for name, tensor in weights_of(policy).items())


@pytest.mark.parametrize(
    "wrong",
    [{"num_minibatches": 0}, {"micro_batch": -1}, {"num_epochs": 0}, {"chunk_fraction": 0.0}, {"chunk_fraction": 1.5},
     {"learning_rate": -1e-4}, {"max_grad_norm": float("nan")}],
)  # fmt: skip
def test_numbers_that_cannot_be_optimised_with_are_refused(wrong):
    with pytest.raises(VlaError, match=f"{next(iter(wrong))} is .*; give"):
        LearnerConfig(**wrong)
