"""From logits over the action bins to bins, values and log-probabilities.

Everything is done in float32 on the 256 logits divided by the temperature, as in SimpleVLA-RL. Departure: sampling
returns its own log-probabilities, so that no second forward pass is needed for the old policy's.

B batch, K steps, A dimensions, V bins.
"""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from vla_policy.types import Vector


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SampledChunk:
    """A sampled answer and what a policy gradient needs to know of it."""

    actions_BKA: Vector
    """Absolute joint targets [rad], openings [m], float32."""
    indices_BKA: Tensor
    """Bins drawn, int64, on the network's device."""
    log_probs_BKA: Tensor
    """Their log-probabilities at the sampling temperature, float32, on the network's device."""


def log_softmax(logits_BKAV: Tensor, temperature: float = 1.0) -> Tensor:
    """Log-probabilities of every bin."""
    return torch.log_softmax(logits_BKAV.float() / temperature, dim=-1)


def argmax(logits_BKAV: Tensor) -> Tensor:
    """Index of the most likely bin, indices_BKA."""
    return logits_BKAV.argmax(dim=-1)


def expectation(logits_BKAV: Tensor, centres_V: Tensor, temperature: float = 1.0) -> Tensor:
    """Mean value over the bins, values_BKA in [-1, 1]."""
    return log_softmax(logits_BKAV, temperature).exp() @ centres_V


def sample(
    logits_BKAV: Tensor, temperature: float = 1.0, generator: torch.Generator | None = None
) -> tuple[Tensor, Tensor]:
    """Draw a bin for every action token by inverting the cumulative distribution.

    One uniform number a token makes this several times faster on a CPU than `torch.multinomial` or Gumbel noise.

    Args:
        logits_BKAV: Of any device.
        temperature: Above 1 explores more.
        generator: Source of randomness, of any device; the default generator without one.

    Returns:
        indices_BKA (int64) and log_probs_BKA (float32).
    """
    log_probs_BKAV = log_softmax(logits_BKAV, temperature)
    cumulative = log_probs_BKAV.exp().cumsum(dim=-1)
    source = logits_BKAV.device if generator is None else generator.device
    shape = (*logits_BKAV.shape[:-1], 1)
    uniform = torch.rand(shape, generator=generator, device=source).to(logits_BKAV.device)
    drawn = torch.searchsorted(cumulative, uniform * cumulative[..., -1:], right=True)
    indices = drawn.clamp(max=logits_BKAV.shape[-1] - 1)
    return indices.squeeze(-1), log_probs_BKAV.gather(-1, indices).squeeze(-1)


def log_probs(logits_BKAV: Tensor, indices_BKA: Tensor, temperature: float = 1.0) -> Tensor:
    """Log-probability of given bins, log_probs_BKA; differentiable."""
    return log_softmax(logits_BKAV, temperature).gather(-1, indices_BKA[..., None]).squeeze(-1)


def entropy(logits_BKAV: Tensor, temperature: float = 1.0) -> Tensor:
    """Entropy of every action token [nat], entropy_BKA."""
    log_probs_BKAV = log_softmax(logits_BKAV, temperature)
    return -(log_probs_BKAV.exp() * log_probs_BKAV).sum(dim=-1)
