"""Group-relative policy optimisation: the arithmetic, as SimpleVLA-RL runs it.

Several trajectories of one world form a group; a trajectory's advantage is its reward against its group's. Every valid
action token of a trajectory carries that advantage. The loss is PPO's clipped one, with the upper bound raised ("clip
higher"), no KL term, no entropy bonus, no critic; it is averaged over the valid tokens of a trajectory first and over
trajectories second. Nothing here knows of environments or networks.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from vla_rl_trainer.config_checks import require_above, require_at_most

Array = npt.NDArray[np.float64]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class LossConfig:
    """The clipped loss."""

    clip_low: float = 0.2
    """Ratios below 1 - clip_low get no gradient when the advantage is negative."""
    clip_high: float = 0.28
    """Ratios above 1 + clip_high get no gradient when the advantage is positive."""

    def __post_init__(self) -> None:
        """Refuse ranges that hold no ratio of 1 in their middle."""
        require_above(self, 0.0, "clip_low", "clip_high")
        require_at_most(self, 1.0, "clip_low")


def group_advantages(rewards: npt.ArrayLike) -> Array:
    """Advantages of one group: (reward - mean) / (unbiased standard deviation + 1e-6).

    Args:
        rewards: One a trajectory, shape (group_size,), at least two.
    """
    values = np.asarray(rewards, dtype=np.float64)
    assert len(values) > 1, "one trajectory has nothing to be compared with"
    return (values - values.mean()) / (values.std(ddof=1) + 1e-6)


def is_informative(rewards: npt.ArrayLike, lower: float = 0.1, upper: float = 0.9) -> bool:
    """Whether a group's success rate lies within the bounds, both inclusive: outside, advantages carry no signal."""
    return lower <= float(np.asarray(rewards, dtype=np.float64).mean()) <= upper


def token_weights(steps_C: npt.ArrayLike, chunk_length: int) -> npt.NDArray[np.float32]:
    """Weights that make a sum over one trajectory's tokens the mean over its valid ones.

    A token is valid when the control step it commands was executed before the episode ended.

    Args:
        steps_C: Executed control steps of each of the trajectory's chunks.
        chunk_length: Control steps a chunk.

    Returns:
        Weights of shape (chunks, chunk_length, 1), to be divided by the number of action dimensions.
    """
    steps = np.asarray(steps_C)
    valid = np.arange(chunk_length)[None, :] < steps[:, None]
    return (valid / steps.sum()).astype(np.float32)[:, :, None]


def clipped_loss(
    log_probs: Tensor, old_log_probs: Tensor, advantages: Tensor, weights: Tensor, config: LossConfig
) -> tuple[Tensor, dict[str, Tensor]]:
    """The clipped policy gradient loss, summed over tokens with `weights`.

    Args:
        log_probs: Of the tokens now, shape (B, K, A), with gradient.
        old_log_probs: Of the tokens when they were sampled, same shape.
        advantages: Broadcastable to that shape.
        weights: Broadcastable to that shape; 0 for tokens that do not count.
        config: The clip range.

    Returns:
        The loss, and sums for `approx_kl` and `clipfrac`, weighted as the loss.
    """
    log_ratio = log_probs - old_log_probs
    # exp() of an absurd ratio would poison the batch through 0 * inf; nothing can be learnt from such a token.
    ratio = torch.exp(log_ratio.clamp(-20.0, 20.0))
    unclipped = -advantages * ratio
    clipped = -advantages * ratio.clamp(1.0 - config.clip_low, 1.0 + config.clip_high)
    loss = (torch.maximum(unclipped, clipped) * weights).sum()
    with torch.no_grad():
        metrics = {
            "approx_kl": (-log_ratio * weights).sum(),
            "clipfrac": ((clipped > unclipped).float() * weights).sum(),
        }
    return loss, metrics
