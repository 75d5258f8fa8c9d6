"""The chunks of many trajectories side by side, cut into what one forward and backward pass takes.

Sequences of one pass have one length wherever they can: chunks are sorted by the length of their prompts, for padding
needs a mask, and the fastest attention takes none. Several processes take every n-th chunk each and do equally many
passes, because those that share their weights meet in every layer.

N chunks, K steps, A dimensions.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from vla_policy.inputs import PolicyInputs
from vla_rl_trainer.grpo import group_advantages, token_weights
from vla_rl_trainer.ranks import Ranks
from vla_rl_trainer.trajectory import Group


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
    if len({chunk.images_BCHW3.device for chunk in inputs}) > 1:  # what was read from a file is on the CPU
        inputs = [chunk.to("cpu") for chunk in inputs]
    return ChunkBatch(
        inputs,
        torch.stack(indices),
        torch.stack(log_probs),
        torch.tensor(advantages, dtype=torch.float32)[:, None, None],
        torch.cat(weights),
        np.array(owner),
        torch.tensor(fresh),
    )


def micro_batches(
    batch: ChunkBatch,
    trajectories: np.ndarray,
    micro_batch: int,
    chunk_fraction: float,
    rng: np.random.Generator,
    ranks: Ranks = Ranks(),  # noqa: B008  frozen
) -> Iterator[tuple[ChunkBatch, Tensor]]:
    """Cut the chunks of some trajectories into passes.

    Args:
        batch: Chunks of all trajectories.
        trajectories: Those to learn from.
        micro_batch: Chunks a pass.
        chunk_fraction: Share of each trajectory's chunks to take.
        rng: Draws the chunks; the same in all processes.
        ranks: Which process of how many this is; each gets chunks of its own.

    Yields:
        Chunks, and factors of shape (N, 1, 1) that turn sums over all of them, those of the other processes included,
        into means over trajectories. Passes without a chunk of their own have some of another process, at factor 0.
    """
    rows, factors = chunk_rows(batch.trajectory_N, trajectories, chunk_fraction, rng)
    order = np.argsort([batch.inputs_N[row].prompt_BL.shape[1] for row in rows], kind="stable")
    rows, factors = rows[order], factors[order] / len(trajectories)
    per_rank = -(-len(rows) // ranks.count)
    missing = per_rank * ranks.count - len(rows)
    rows = np.append(rows, np.repeat(rows[-1:], missing))[ranks.own :: ranks.count]
    factors = np.append(factors, np.zeros(missing, np.float32))[ranks.own :: ranks.count]
    scale_N11 = torch.from_numpy(factors)[:, None, None]
    for first in range(0, per_rank, micro_batch):
        here = slice(first, first + micro_batch)
        yield batch[rows[here]], scale_N11[here]


def chunk_rows(
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
