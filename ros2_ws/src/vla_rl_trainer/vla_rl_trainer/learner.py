"""The gradient step of GRPO over collected groups."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Sequence
from itertools import zip_longest

import numpy as np
import torch
from torch import Tensor

from vla_policy import decoding
from vla_policy.inputs import PolicyInputs
from vla_policy.policy import VlaPolicy
from vla_rl_trainer import ranks, sharding
from vla_rl_trainer.chunk_batch import ChunkBatch, gather, micro_batches
from vla_rl_trainer.config_checks import require_above, require_at_least, require_at_most
from vla_rl_trainer.grpo import LossConfig, clipped_loss
from vla_rl_trainer.optimizer import clip_gradient
from vla_rl_trainer.out_of_memory import advised
from vla_rl_trainer.surplus import pack, unpack
from vla_rl_trainer.trainable import LoraConfig, choose
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
    reuse_log_probs: bool = True
    """Old log-probabilities are those of sampling; else they are computed once more before the update, as published."""
    shuffle: bool = True
    """Mix the trajectories before they are cut into mini-batches; the paper keeps their order."""
    loss: LossConfig = dataclasses.field(default_factory=LossConfig)
    lora: LoraConfig = dataclasses.field(default_factory=LoraConfig)
    recompute: bool = False
    """Compute activations again in the backward pass instead of keeping them: a third more work, a tenth of the
    memory."""

    def __post_init__(self) -> None:
        """Refuse what cannot be optimised with."""
        require_at_least(self, 1, "num_minibatches", "num_epochs", "micro_batch")
        require_at_least(self, 0.0, "weight_decay")
        require_above(self, 0.0, "learning_rate", "adam_beta2", "max_grad_norm", "chunk_fraction")
        require_at_most(self, 1.0, "chunk_fraction")
        require_at_most(self, 0.9999, "adam_beta2")


def make_optimizer(policy: VlaPolicy, config: LearnerConfig) -> torch.optim.AdamW:
    """Choose what of a policy learns, as `config.lora` says, and step it by AdamW.

    Raises:
        VlaError: the checkpoint has other adapters, or memory does not suffice.
    """
    return choose(
        policy,
        config.lora,
        config.recompute,
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

    Where several processes share a run, each hands in the groups it sampled, and the gradient is that of all.

    Args:
        policy: Learns in place.
        optimizer: Of its network.
        groups: Informative groups; without any, nothing is done.
        temperature: The groups were sampled at.
        config: Optimisation.
        rng: Mixes trajectories and draws chunks; the same in all processes.
        policy_version: Number of the policy as it is now; groups of another number are stale.

    Returns:
        Metrics, none without groups. `sampler_learner_gap` is the largest difference between log-probabilities as
        sampled and as the learner computes them, over the fresh groups in the first mini-batch, before the first
        step: 0 but for rounding; NaN when none of them is fresh. `staleness` is the groups' mean age in versions.

    Raises:
        VlaError: the GPU's memory does not suffice; says which setting to lower, and to what.
    """
    groups = _everyones(groups)
    if not groups:
        return {}
    batch = gather(groups, policy_version)
    batch = batch if config.reuse_log_probs else _looked_at_again(policy, batch, temperature, config.micro_batch)
    count = int(batch.trajectory_N.max()) + 1
    steps: list[_Step] = []
    for _ in range(config.num_epochs):
        order = rng.permutation(count) if config.shuffle else np.arange(count)
        for share in np.array_split(order, min(config.num_minibatches, count)):
            parts = micro_batches(batch, share, config.micro_batch, config.chunk_fraction, rng, ranks.here())
            steps.append(_step(policy, optimizer, parts, temperature, config))
    sharding.refresh(policy)
    totals = {name: torch.stack([step.sums[name] for step in steps]).sum() for name in steps[0].sums}
    gap = max(ranks.gather(float(steps[0].gap)))
    return {name: value / len(steps) for name, value in ranks.add_up_numbers(totals).items()} | {
        "grad_norm": float(np.mean([step.grad_norm for step in steps])),
        "sampler_learner_gap": gap if gap >= 0.0 else math.nan,
        "staleness": float(np.mean([policy_version - group.policy_version for group in groups])),
    }


@torch.no_grad()
def _looked_at_again(policy: VlaPolicy, batch: ChunkBatch, temperature: float, micro_batch: int) -> ChunkBatch:
    """The same chunks with log-probabilities of the policy that learns."""
    device, found = policy.device, []
    for first in range(0, len(batch.trajectory_N), micro_batch):
        part = batch[np.arange(first, min(first + micro_batch, len(batch.trajectory_N)))]
        inputs = PolicyInputs.cat(part.inputs_N).to(device)
        found.append(policy.log_probs(inputs, part.indices_NKA.to(device).long(), temperature).cpu())
    return dataclasses.replace(batch, log_probs_NKA=torch.cat(found))


@dataclasses.dataclass(slots=True, eq=False)
class _Step:
    """One step of the optimiser; tensors of one number, on the device: asking for them would wait for it."""

    sums: dict[str, Tensor]
    gap: Tensor
    """Negative where no chunk was fresh."""
    grad_norm: float


def _step(
    policy: VlaPolicy,
    optimizer: torch.optim.Optimizer,
    parts: Iterable[tuple[ChunkBatch, Tensor]],
    temperature: float,
    config: LearnerConfig,
) -> _Step:
    """Add up the gradients of one mini-batch and take a step."""
    optimizer.zero_grad(set_to_none=True)
    found = [_accumulate(policy, part, scale_N11, temperature, config) for part, scale_N11 in parts]
    sharding.add_up_gradients(policy, optimizer)
    norm = clip_gradient(optimizer, config.max_grad_norm)
    optimizer.step()
    sums = {name: torch.stack([metrics[name] for metrics, _ in found]).sum() for name in found[0][0]}
    return _Step(sums, torch.stack([gap for _, gap in found]).max(), norm)


def _everyones(groups: Sequence[Group]) -> Sequence[Group]:
    """The groups of all processes, in turn: what lies side by side was sampled at the same time."""
    if ranks.here().count == 1:
        return groups
    found = [unpack(content) for content in ranks.gather_bytes(pack(groups))]
    return [group for row in zip_longest(*found) for group in row if group is not None]


def _accumulate(
    policy: VlaPolicy, part: ChunkBatch, scale_N11: Tensor, temperature: float, config: LearnerConfig
) -> tuple[dict[str, Tensor], Tensor]:
    """Forward and backward of one micro-batch; gradients add up to the mean over the mini-batch's trajectories."""
    device = policy.device
    with advised(policy, "--learner.micro-batch", config.micro_batch):
        logits = policy.network(PolicyInputs.cat(part.inputs_N).to(device))
        log_probs = decoding.log_probs(logits, part.indices_NKA.to(device).long(), temperature)
        old = part.log_probs_NKA.to(device)
        weights = (part.weights_NKA * scale_N11).to(device)
        loss, metrics = clipped_loss(log_probs, old, part.advantages_N11.to(device), weights, config.loss)
        (loss * sharding.gradient_factor(policy)).backward()
    with torch.no_grad():
        metrics |= {"loss": loss.detach(), "entropy": (decoding.entropy(logits, temperature) * weights).sum()}
        counts = (weights > 0) & part.is_fresh_N.to(device)[:, None, None]
        gap = torch.where(counts, (log_probs - old).abs(), -math.inf).max()
    return metrics, gap
