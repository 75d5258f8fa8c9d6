"""The gradient step of GRPO over collected groups."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from vla_policy import decoding
from vla_policy.inputs import PolicyInputs
from vla_policy.policy import VlaPolicy
from vla_rl_trainer.grpo import LossConfig, clipped_loss, group_advantages, token_weights
from vla_rl_trainer.trajectory import Group


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class LearnerConfig:
    """Optimisation."""

    learning_rate: float = 1e-4
    weight_decay: float = 0.01
    max_grad_norm: float = 1.0
    num_minibatches: int = 4
    """Optimiser steps an epoch; each sees its share of the trajectories."""
    num_epochs: int = 1
    micro_batch: int = 64
    """Chunks a forward and backward pass; bounds memory, changes no result."""
    chunk_fraction: float = 1.0
    """Share of each trajectory's chunks that is back-propagated, drawn at random and weighted up: an unbiased, cheaper
    gradient (chunk masking)."""
    shuffle: bool = True
    """Mix the trajectories before they are cut into mini-batches; the paper keeps their order."""
    loss: LossConfig = LossConfig()


@dataclasses.dataclass(slots=True, eq=False)
class ChunkBatch:
    """Chunks of several trajectories as tensors (N chunks)."""

    inputs: PolicyInputs
    indices_NKA: Tensor
    log_probs_NKA: Tensor
    advantages_N11: Tensor
    weights_NKA: Tensor
    """Sum to 1 over each trajectory's valid tokens."""
    trajectory_N: np.ndarray

    def __getitem__(self, rows: Tensor) -> ChunkBatch:
        """Some of the chunks."""
        return ChunkBatch(
            self.inputs[rows],
            self.indices_NKA[rows],
            self.log_probs_NKA[rows],
            self.advantages_N11[rows],
            self.weights_NKA[rows],
            self.trajectory_N[rows.numpy()],
        )


def gather(groups: Sequence[Group]) -> ChunkBatch:
    """Lay the groups' trajectories out as chunks with advantages and weights."""
    inputs, indices, log_probs, advantages, weights, owner = [], [], [], [], [], []
    count = 0
    for group in groups:
        members = [trajectory for trajectory in group.trajectories if not trajectory.dropped]
        for trajectory, advantage in zip(members, group_advantages(group.rewards), strict=True):
            inputs += trajectory.inputs
            indices += trajectory.indices
            log_probs += trajectory.log_probs
            length, actions = trajectory.indices[0].shape
            weight = torch.from_numpy(token_weights(trajectory.steps, length))
            weights.append(weight.expand(-1, -1, actions) / actions)
            advantages += [advantage] * len(trajectory.steps)
            owner += [count] * len(trajectory.steps)
            count += 1
    return ChunkBatch(
        PolicyInputs.cat(inputs),
        torch.stack(indices),
        torch.stack(log_probs),
        torch.tensor(advantages, dtype=torch.float32)[:, None, None],
        torch.cat(weights),
        np.array(owner),
    )


def make_optimizer(policy: VlaPolicy, config: LearnerConfig) -> torch.optim.AdamW:
    """AdamW over all parameters."""
    return torch.optim.AdamW(
        policy.network.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay, betas=(0.9, 0.999)
    )


def update(
    policy: VlaPolicy,
    optimizer: torch.optim.Optimizer,
    groups: Sequence[Group],
    temperature: float,
    config: LearnerConfig,
    rng: np.random.Generator,
) -> dict[str, float]:
    """One pass (or several) of clipped policy gradient over the groups.

    Returns:
        Metrics; `sampler_learner_gap` is the largest difference between log-probabilities as sampled and as the
        learner computes them before its first step, 0 but for rounding when the groups are fresh.
    """
    batch = gather(groups)
    count = int(batch.trajectory_N.max()) + 1
    totals: dict[str, float] = dict.fromkeys(("loss", "approx_kl", "clipfrac", "entropy", "grad_norm"), 0.0)
    gap = 0.0
    num_updates = 0
    for epoch in range(config.num_epochs):
        order = rng.permutation(count) if config.shuffle else np.arange(count)
        for share in np.array_split(order, config.num_minibatches):
            rows, factors = _chunk_rows(batch.trajectory_N, share, config.chunk_fraction, rng)
            optimizer.zero_grad(set_to_none=True)
            for first in range(0, len(rows), config.micro_batch):
                part = batch[torch.from_numpy(rows[first : first + config.micro_batch])]
                scale = torch.from_numpy(factors[first : first + config.micro_batch])[:, None, None] / len(share)
                metrics, part_gap = _accumulate(policy, part, scale, temperature, config)
                if num_updates == 0:
                    gap = max(gap, part_gap)
                for name, value in metrics.items():
                    totals[name] += value
            norm = torch.nn.utils.clip_grad_norm_(policy.network.parameters(), config.max_grad_norm)
            totals["grad_norm"] += float(norm)
            optimizer.step()
            num_updates += 1
        del epoch
    return {name: value / num_updates for name, value in totals.items()} | {"sampler_learner_gap": gap}


def _chunk_rows(owner_N: np.ndarray, trajectories: np.ndarray, fraction: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
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
    logits = policy.network(part.inputs.to(device))
    indices = part.indices_NKA.to(device).long()
    log_probs = decoding.log_probs(logits, indices, temperature)
    old = part.log_probs_NKA.to(device)
    weights = (part.weights_NKA * scale_N11).to(device)
    loss, metrics = clipped_loss(log_probs, old, part.advantages_N11.to(device), weights, config.loss)
    loss.backward()
    with torch.no_grad():
        metrics |= {"loss": loss, "entropy": (decoding.entropy(logits, temperature) * weights).sum()}
        gap = float(((log_probs - old).abs() * (weights > 0)).max())
    return {name: float(value) for name, value in metrics.items()}, gap
