"""Bins, values and log-probabilities."""

import math

import pytest
import torch

from vla_policy import decoding
from vla_policy.tokenizer import ActionTokenizer

CENTRES = torch.from_numpy(ActionTokenizer().centres.copy())


def logits(seed=0, shape=(2, 3, 4, 256), scale=3.0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * scale


def peaked(index, sharpness=50.0):
    return sharpness * torch.nn.functional.one_hot(torch.tensor(index), 256).float().view(1, 1, 1, 256)


def test_argmax_and_expectation_agree_on_a_sharp_peak():
    assert decoding.argmax(peaked(77)).item() == 77
    assert decoding.expectation(peaked(77), CENTRES).item() == pytest.approx(CENTRES[77].item(), abs=1e-5)


def test_the_expectation_lies_between_two_equal_peaks():
    both = torch.maximum(peaked(100), peaked(101))
    assert decoding.expectation(both, CENTRES).item() == pytest.approx(CENTRES[100:102].mean().item(), abs=1e-5)


def test_equal_logits_have_the_largest_entropy_and_nearly_zero_mean():
    flat = torch.zeros(1, 1, 1, 256)
    assert decoding.entropy(flat).item() == pytest.approx(math.log(256))
    assert decoding.expectation(flat, CENTRES).abs().item() < 0.005
    assert decoding.entropy(logits(), temperature=1.6).mean() > decoding.entropy(logits()).mean()


def test_sampled_log_probs_equal_recomputed_ones():
    drawn, log_probs = decoding.sample(logits(), 1.6, torch.Generator().manual_seed(1))
    assert drawn.shape == log_probs.shape == (2, 3, 4)
    assert drawn.dtype == torch.int64
    assert torch.equal(log_probs, decoding.log_probs(logits(), drawn, 1.6))


def test_log_probs_divide_by_the_temperature_before_the_softmax():
    index = torch.full((2, 3, 4), 5)
    expected = torch.distributions.Categorical(logits=logits() / 1.6).log_prob(index)
    assert torch.allclose(decoding.log_probs(logits(), index, 1.6), expected, atol=1e-5)


def test_samples_follow_the_distribution():
    wanted = torch.log(torch.tensor([0.5, 0.2, 0.0, 0.3]))
    drawn, _ = decoding.sample(wanted.expand(1, 200, 100, 4), 1.0, torch.Generator().manual_seed(0))
    shares = torch.bincount(drawn.flatten(), minlength=4) / drawn.numel()
    assert shares.tolist() == pytest.approx([0.5, 0.2, 0.0, 0.3], abs=0.02)
    assert shares[2] == 0


def test_a_low_temperature_samples_the_argmax():
    drawn, _ = decoding.sample(logits(), 1e-3, torch.Generator().manual_seed(0))
    assert torch.equal(drawn, decoding.argmax(logits()))


def test_a_sharp_distribution_has_finite_log_probs():
    drawn, log_probs = decoding.sample(logits(scale=1e4))
    assert torch.isfinite(log_probs).all()
    assert drawn.max() < 256


def test_the_generator_decides_the_sample():
    first, second = (decoding.sample(logits(), 1.0, torch.Generator().manual_seed(4))[0] for _ in range(2))
    assert torch.equal(first, second)


def test_log_probs_and_entropy_are_differentiable():
    leaf = logits().requires_grad_()
    (decoding.log_probs(leaf, torch.zeros(2, 3, 4, dtype=torch.int64)).sum() + decoding.entropy(leaf).sum()).backward()
    assert leaf.grad is not None
    assert torch.isfinite(leaf.grad).all()


def test_half_precision_logits_are_decoded_in_float32():
    assert decoding.sample(logits().bfloat16())[1].dtype == torch.float32
    assert decoding.entropy(logits().bfloat16()).dtype == torch.float32
