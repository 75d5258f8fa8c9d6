"""The arithmetic of GRPO against hand arithmetic and the vectors of the reference."""

import numpy as np
import pytest
import torch

from vla_policy.errors import VlaError
from vla_rl_trainer.grpo import LossConfig, clipped_loss, group_advantages, is_informative, token_weights

CLIP = LossConfig()

OF_EIGHT = {
    1: (2.4749, -0.3536),
    2: (1.6202, -0.5401),
    3: (1.2076, -0.7246),
    4: (0.9354, -0.9354),
    5: (0.7246, -1.2076),
    6: (0.5401, -1.6202),
    7: (0.3536, -2.4749),
}


def loss_of(ratio, advantage):
    """Loss and its gradient by the log-probability of one token."""
    log_prob = torch.tensor([float(np.log(ratio))], dtype=torch.float64, requires_grad=True)
    loss, _ = clipped_loss(
        log_prob, torch.zeros(1, dtype=torch.float64), torch.tensor([advantage]), torch.ones(1), CLIP
    )
    loss.backward()
    return float(loss.detach()), float(log_prob.grad)


@pytest.mark.parametrize("successes", OF_EIGHT)
def test_advantages_of_every_count_of_eight(successes):
    advantages = group_advantages([1.0] * successes + [0.0] * (8 - successes))
    assert advantages[0] == pytest.approx(OF_EIGHT[successes][0], abs=5e-5)
    assert advantages[-1] == pytest.approx(OF_EIGHT[successes][1], abs=5e-5)
    assert advantages.sum() == pytest.approx(0.0, abs=1e-12)


def test_advantages_match_the_reference_to_six_digits():
    # mean 1/8, unbiased variance (7/8)^2/7 + 7 (1/8)^2/7 = 1/8, std 0.353553; 0.875 / 0.353554 = 2.474866
    advantages = group_advantages([1, 0, 0, 0, 0, 0, 0, 0])
    assert advantages[0] == pytest.approx(2.474866, abs=1e-6)
    assert advantages[1:] == pytest.approx(-0.353552, abs=1e-6)
    assert group_advantages([1, 1, 1, 1, 0, 0, 0, 0])[0] == pytest.approx(0.93541, abs=1e-5)


def test_the_standard_deviation_is_unbiased():
    assert group_advantages([1, 0])[0] == pytest.approx(0.5 / (np.sqrt(0.5) + 1e-6))


def test_groups_that_agree_have_no_advantage():
    assert not group_advantages([1, 1, 1, 1]).any()
    assert not group_advantages([0, 0, 0, 0]).any()


def test_the_scale_of_the_reward_cancels():
    assert group_advantages([5, 0, 0, 5]) == pytest.approx(group_advantages([1, 0, 0, 1]), abs=1e-5)


@pytest.mark.parametrize("size", [8, 10, 20])
def test_a_group_is_informative_from_a_tenth_to_nine_tenths_inclusive(size):
    rates = {k: is_informative([1.0] * k + [0.0] * (size - k)) for k in range(size + 1)}
    assert rates == {k: 0.1 <= k / size <= 0.9 for k in range(size + 1)}
    assert not rates[0]
    assert not rates[size]


def test_a_positive_advantage_has_no_gradient_above_1_28():
    assert loss_of(1.27, 2.0) == pytest.approx((-2.54, -2.54))
    assert loss_of(1.29, 2.0) == pytest.approx((-2.56, 0.0))
    assert loss_of(0.5, 2.0) == pytest.approx((-1.0, -1.0))


def test_a_negative_advantage_has_no_gradient_below_0_8():
    assert loss_of(0.81, -2.0) == pytest.approx((1.62, 1.62))
    assert loss_of(0.79, -2.0) == pytest.approx((1.60, 0.0))


def test_a_negative_advantage_is_not_clipped_above():
    assert loss_of(10.0, -2.0) == pytest.approx((20.0, 20.0))


def test_a_ratio_of_one_gives_the_policy_gradient():
    for advantage in (2.0, -2.0):
        assert loss_of(1.0, advantage) == pytest.approx((-advantage, -advantage))


def test_an_absurd_ratio_of_a_token_that_does_not_count_poisons_nothing():
    log_probs = torch.tensor([500.0, -1.0], requires_grad=True)
    loss, metrics = clipped_loss(
        log_probs, torch.tensor([-500.0, -1.0]), torch.tensor([-1.0]), torch.tensor([0.0, 1.0]), CLIP
    )
    loss.backward()
    assert loss == 1.0
    assert log_probs.grad.tolist() == [0.0, 1.0]
    assert metrics["approx_kl"] == 0.0


def test_metrics_are_named_and_measured_as_in_the_literature():
    log_probs, old = torch.log(torch.tensor([1.5, 1.0, 0.5, 0.9])), torch.zeros(4)
    _, metrics = clipped_loss(log_probs, old, torch.tensor([1.0, 1.0, -1.0, -1.0]), torch.full((4,), 0.25), CLIP)
    assert metrics["clipfrac"] == 0.5  # 1.5 with A > 0 and 0.5 with A < 0
    assert metrics["approx_kl"] == pytest.approx(-float(log_probs.mean()))


def test_weights_mask_to_the_step_an_episode_finished_at():
    # LIBERO: 64 chunks of 8 steps and 7 numbers; finished after 100 steps = 12 whole chunks and 4 steps
    weights = np.broadcast_to(token_weights([8] * 12 + [4] + [0] * 51, 8), (64, 8, 7))
    assert weights.size == 3584
    valid = weights > 0
    assert valid.sum() == 700
    assert valid.reshape(-1)[:700].all()
    assert (weights / 7).sum() == pytest.approx(1.0, abs=1e-6)
    assert weights[valid] == pytest.approx(1 / 100)


def test_tokens_are_averaged_over_a_trajectory_and_then_over_trajectories():
    # one step of advantage 2 and three steps of advantage -1: mean(2, mean(-1, -1, -1)) = 0.5, not (2 - 3) / 4
    weights = np.concatenate([token_weights([1], 3), token_weights([3], 3)]) / 2
    log_probs = torch.zeros(2, 3, 1)
    advantages = torch.tensor([2.0, -1.0])[:, None, None]
    loss, _ = clipped_loss(log_probs, torch.zeros(2, 3, 1), advantages, torch.from_numpy(weights), CLIP)
    assert float(loss) == pytest.approx(-0.5)


def grpo_of_a_toy(logits, old, actions, steps, rewards):
    """The whole loss of a policy that answers each of two trajectories with `logits`, shape (2, K, bins)."""
    log_probs = torch.log_softmax(logits, -1).gather(-1, actions[..., None]).squeeze(-1)[..., None]
    weights = np.stack([token_weights([count], logits.shape[1])[0] for count in steps]) / len(steps)
    advantages = torch.from_numpy(group_advantages(rewards))[:, None, None]
    return clipped_loss(log_probs, old, advantages, torch.from_numpy(weights).double(), CLIP)[0]


def test_the_gradient_of_a_toy_policy_equals_finite_differences():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 5, 4, generator=generator, dtype=torch.float64, requires_grad=True)
    actions = torch.randint(0, 4, (2, 5), generator=generator)
    drift = 0.5 * torch.randn(2, 5, 1, generator=generator, dtype=torch.float64)  # some ratios are clipped
    sampled = torch.log_softmax(logits.detach(), -1).gather(-1, actions[..., None])
    for old in (sampled, sampled + drift):
        assert torch.autograd.gradcheck(lambda x, o=old: grpo_of_a_toy(x, o, actions, (5, 2), (1, 0)), logits)


def test_on_fresh_samples_the_gradient_is_that_of_reinforce_with_the_groups_baseline():
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(2, 3, 4, generator=generator, dtype=torch.float64, requires_grad=True)
    actions = torch.randint(0, 4, (2, 3), generator=generator)
    old = torch.log_softmax(logits.detach(), -1).gather(-1, actions[..., None])
    grpo_of_a_toy(logits, old, actions, (3, 1), (0, 1)).backward()
    advantage = 0.5 / (np.sqrt(0.5) + 1e-6)
    score = torch.nn.functional.one_hot(actions, 4) - torch.softmax(logits.detach(), -1)  # d log p / d logits
    expected = torch.zeros(2, 3, 4, dtype=torch.float64)
    expected[0] = advantage * score[0] / 3 / 2
    expected[1, 0] = -advantage * score[1, 0] / 2
    assert torch.allclose(logits.grad, expected)


def test_a_toy_policy_learns_the_rewarded_action():
    logits = torch.zeros(6, requires_grad=True)
    optimizer = torch.optim.SGD([logits], lr=1.0)
    generator = torch.Generator().manual_seed(0)
    for _ in range(200):
        actions = torch.multinomial(torch.softmax(logits.detach(), -1), 8, replacement=True, generator=generator)
        rewards = (actions == 2).double().numpy()
        if not is_informative(rewards):
            continue
        log_probs = torch.log_softmax(logits, -1)[actions]
        advantages = torch.from_numpy(group_advantages(rewards))
        loss, _ = clipped_loss(log_probs, log_probs.detach(), advantages, torch.full((8,), 1 / 8), CLIP)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert torch.softmax(logits.detach(), -1)[2] > 0.9


@pytest.mark.parametrize("wrong", [{"clip_low": 0.0}, {"clip_high": -0.1}, {"clip_low": 1.5}])
def test_a_clip_range_without_room_is_refused(wrong):
    with pytest.raises(VlaError, match=next(iter(wrong))):
        LossConfig(**wrong)
