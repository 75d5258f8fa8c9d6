"""The gradient step of GRPO over collected groups."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from vla_policy import decoding
from vla_policy.inputs import PolicyInputs
from vla_policy.policy import VlaPolicy
from vla_rl_trainer.config_checks import require_above, require_at_least, require_at_most
from vla_rl_trainer.grpo import LossConfig, clipped_loss, group_advantages, token_weights
from vla_rl_trainer.trajectory import Group


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class LearnerConfig:
    """Optimisation."""

    learning_rate: float = 2e-4
    adam_beta2: float = 0.99
    """Decay of AdamW's squared gradients: a run of 20 steps must forget how steep its first ones were."""
    weight_decay: float = 0.01
    max_grad_norm: float = 1.0
    num_minibatches: int = 8
    """Optimiser steps an epoch; each sees its share of the trajectories."""
    num_epochs: int = 1
    micro_batch: int = 64
    """Chunks a forward and backward pass; bounds memory, changes no result."""
    chunk_fraction: float = 1.0
    """Share of each trajectory's chunks that is back-propagated, drawn at random and weighted up: an unbiased, cheaper
    gradient (chunk masking)."""
    shuffle: bool = True
    """Mix the trajectories before they are cut into mini-batches; the paper keeps their order."""
    loss: LossConfig = dataclasses.field(default_factory=LossConfig)

    def __post_init__(self) -> None:
        """Refuse what cannot be optimised with."""
        require_at_least(self, 1, "num_minibatches", "num_epochs", "micro_batch")
        require_at_least(self, 0.0, "weight_decay")
        require_above(self, 0.0, "learning_rate", "adam_beta2", "max_grad_norm", "chunk_fraction")
        require_at_most(self, 1.0, "chunk_fraction")
        require_at_most(self, 0.9999, "adam_beta2")


@dataclasses.dataclass(slots=True, eq=False)
class ChunkBatch:
    """Chunks of several trajectories (N chunks)."""

    inputs_N: Sequence[PolicyInputs]
    """Batches of one: joined for the chunks of one pass only, so that all pixels are not held twice."""
    indices_NKA: Tensor
    log_probs_NKA: Tensor
    advantages_N11: Tensor
    weights_NKA: Tensor
    """Sum to 1 over each trajectory's valid tokens."""
    trajectory_N: np.ndarray
    is_fresh_N: Tensor
    """Sampled by the very policy that learns, not by an earlier one."""

    def __getitem__(self, rows: np.ndarray) -> ChunkBatch:
        """Some of the chunks."""
        chosen = torch.from_numpy(rows)
        return ChunkBatch(
            [self.inputs_N[row] for row in rows],
            self.indices_NKA[chosen],
            self.log_probs_NKA[chosen],
            self.advantages_N11[chosen],
            self.weights_NKA[chosen],
            self.trajectory_N[rows],
            self.is_fresh_N[chosen],
        )


def gather(groups: Sequence[Group], policy_version: int = 0) -> ChunkBatch:
    """Lay the groups' trajectories out as chunks with advantages and weights."""
    inputs, indices, log_probs, advantages, weights, owner, fresh = [], [], [], [], [], [], []
    count = 0
    for group in groups:
        for trajectory, advantage in zip(group.members, group_advantages(group.rewards), strict=True):
            inputs += trajectory.inputs
            indices += trajectory.indices
            log_probs += trajectory.log_probs
            length, actions = trajectory.indices[0].shape
            weight = torch.from_numpy(token_weights(trajectory.steps, length))
            weights.append(weight.expand(-1, -1, actions) / actions)
            advantages += [advantage] * len(trajectory.steps)
            owner += [count] * len(trajectory.steps)
            fresh += [group.policy_version == policy_version] * len(trajectory.steps)
            count += 1
    return ChunkBatch(
        inputs,
        torch.stack(indices),
        torch.stack(log_probs),
        torch.tensor(advantages, dtype=torch.float32)[:, None, None],
        torch.cat(weights),
        np.array(owner),
        torch.tensor(fresh),
    )


def make_optimizer(policy: VlaPolicy, config: LearnerConfig) -> torch.optim.AdamW:
    """AdamW over all parameters."""
    return torch.optim.AdamW(
        policy.network.parameters(),
        lr=config.learning_rate,
        weight_decay=config.weight_decay,
        betas=(0.9, config.adam_beta2),
    )


def update(
    policy: VlaPolicy,
    optimizer: torch.optim.Optimizer,
    groups: Sequence[Group],
    temperature: float,
    config: LearnerConfig,
    rng: np.random.Generator,
    policy_version: int = 0,
) -> dict[str, float]:
    """One pass (or several) of clipped policy gradient over the groups.

    Args:
        policy: Learns in place.
        optimizer: Of its network.
        groups: Informative groups; without any, nothing is done.
        temperature: The groups were sampled at.
        config: Optimisation.
        rng: Mixes trajectories and draws chunks.
        policy_version: Number of the policy as it is now; groups of another number are stale.

    Returns:
        Metrics, none without groups. `sampler_learner_gap` is the largest difference between log-probabilities as
        sampled and as the learner computes them, over the fresh groups in the first mini-batch, before the first
        step: 0 but for rounding; NaN when none of them is fresh. `staleness` is the groups' mean age in versions.
    """
    if not groups:
        return {}
    batch = gather(groups, policy_version)
    count = int(batch.trajectory_N.max()) + 1
    totals: dict[str, float] = dict.fromkeys(("loss", "approx_kl", "clipfrac", "entropy", "grad_norm"), 0.0)
    gap = math.nan
    num_updates = 0
    for _ in range(config.num_epochs):
        order = rng.permutation(count) if config.shuffle else np.arange(count)
        for share in np.array_split(order, min(config.num_minibatches, count)):
            optimizer.zero_grad(set_to_none=True)
            for part, scale in _micro_batches(batch, share, config, rng):
                metrics, part_gap = _accumulate(policy, part, scale, temperature, config)
                if num_updates == 0:
                    gap = float(np.fmax(gap, part_gap))
                for name, value in metrics.items():
                    totals[name] += value
            norm = torch.nn.utils.clip_grad_norm_(policy.network.parameters(), config.max_grad_norm)
            totals["grad_norm"] += float(norm)
            optimizer.step()
            num_updates += 1
    staleness = float(np.mean([policy_version - group.policy_version for group in groups]))
    means = {name: value / num_updates for name, value in totals.items()}
    return means | {"sampler_learner_gap": gap, "staleness": staleness}


def _micro_batches(
    batch: ChunkBatch, trajectories: np.ndarray, config: LearnerConfig, rng: np.random.Generator
) -> Iterator[tuple[ChunkBatch, Tensor]]:
    """The chunks of these trajectories, and factors that turn sums over all of them into means over trajectories."""
    rows, factors = _chunk_rows(batch.trajectory_N, trajectories, config.chunk_fraction, rng)
    scale_N11 = torch.from_numpy(factors / len(trajectories))[:, None, None]
    for first in range(0, len(rows), config.micro_batch):
        here = slice(first, first + config.micro_batch)
        yield batch[rows[here]], scale_N11[here]


def _chunk_rows(
    owner_N: np.ndarray, trajectories: np.ndarray, fraction: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Rows of the chunks to back-propagate for these trajectories, and the factor that makes up for those left out."""
    rows, factors = [], []
    for trajectory in trajectories:
        own = np.flatnonzero(owner_N == trajectory)
        keep = max(1, round(fraction * len(own)))
        rows.append(own if keep == len(own) else np.sort(rng.choice(own, keep, replace=False)))
        factors.append(np.full(keep, len(own) / keep, dtype=np.float32))
    return np.concatenate(rows), np.concatenate(factors)


def _accumulate(
    policy: VlaPolicy, part: ChunkBatch, scale_N11: Tensor, temperature: float, config: LearnerConfig
) -> tuple[dict[str, float], float]:
    """Forward and backward of one micro-batch; gradients add up to the mean over the mini-batch's trajectories."""
    device = policy.device
    logits = policy.network(PolicyInputs.cat(part.inputs_N).to(device))
    log_probs = decoding.log_probs(logits, part.indices_NKA.to(device).long(), temperature)
    old = part.log_probs_NKA.to(device)
    weights = (part.weights_NKA * scale_N11).to(device)
    loss, metrics = clipped_loss(log_probs, old, part.advantages_N11.to(device), weights, config.loss)
    loss.backward()
    with torch.no_grad():
        metrics |= {"loss": loss.detach(), "entropy": (decoding.entropy(logits, temperature) * weights).sum()}
        counts = (weights > 0) & part.is_fresh_N.to(device)[:, None, None]
        gap = float(((log_probs - old).abs() * counts).max()) if part.is_fresh_N.any() else math.nan
    return {name: float(value) for name, value in metrics.items()}, gap
