"""What of a policy learns: all of it in one process, all of it shared by several, or adapters."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch

from vla_policy.errors import VlaError
from vla_policy.openvla import memory
from vla_policy.openvla.reckoning import training_bytes
from vla_policy.origin import AdapterSize
from vla_policy.policy import VlaPolicy
from vla_rl_trainer import ranks, sharding
from vla_rl_trainer.config_checks import require_at_least
from vla_rl_trainer.optimizer import adamw


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class LoraConfig:
    """Adapters (LoRA) in place of all weights, for networks of seven billion on one GPU."""

    rank: int = 0
    """Numbers a row of a weight may change by; 32 is OpenVLA-OFT's choice. 0: no adapters, all weights are trained."""
    alpha: float = 16.0
    """The change of a weight is multiplied by alpha / rank."""
    whole: tuple[str, ...] = ()
    """Parts that are trained whole beside the adapters: projector, proprio_projector, head."""

    def __post_init__(self) -> None:
        """Refuse what cannot be trained."""
        require_at_least(self, 0, "rank")
        _ = self.size

    @property
    def size(self) -> AdapterSize | None:
        """None where all weights are trained."""
        return AdapterSize(rank=self.rank, alpha=self.alpha, whole=self.whole) if self.rank else None


def choose(policy: VlaPolicy, lora: LoraConfig, recomputes: bool, **settings: Any) -> torch.optim.AdamW:
    """Choose what of a policy learns; from then on `policy.network` does, and `policy.whole` answers and is saved.

    Args:
        policy: To be trained.
        lora: Adapters, or none.
        recomputes: Whether the backward pass computes activations again.
        settings: Of AdamW.

    Raises:
        VlaError: the checkpoint has other adapters, or memory does not suffice; nothing was changed then.
    """
    size = lora.size
    if policy.adapted is not None and policy.adapted.size != size:
        own = policy.adapted.size
        raise VlaError(
            f"{policy.folder} holds adapters of rank {own.rank} and alpha {own.alpha:g}; go on with them (lora.rank "
            f"{own.rank}, lora.alpha {own.alpha:g}), or merge them first: python -m vla_policy.openvla.merge"
        )
    _require_memory(policy, size)
    if size is not None and policy.adapted is None:
        policy.adapt(size)
    if size is None and ranks.here().count > 1:
        sharding.shard(policy)
    policy.network.recompute(recomputes)
    return adamw(policy.network, **settings)


def _require_memory(policy: VlaPolicy, size: AdapterSize | None) -> None:
    """Refuse before minutes are spent what would end in a crash; adapters take next to nothing."""
    weights = [weight for weight in policy.network.parameters() if weight.requires_grad]
    if size is not None or not weights:
        return
    count, bytes_a_weight = sum(weight.numel() for weight in weights), weights[0].element_size()
    wanted = training_bytes(count, count, bytes_a_weight, ranks.here().count)
    more = sum(wanted.values()) - wanted["weights"]
    free = memory.available(policy.device)
    if more > free:
        raise VlaError(
            f"training all {count / 1e9:.1f} billion weights needs {more / 1e9:.0f} GB beside them on "
            f"'{policy.device}', {free / 1e9:.0f} GB are free; train adapters (--learner.lora.rank 32, "
            f"2 GB), or share the work among GPUs: torchrun --nproc-per-node {_ranks_needed(count, free)} -m ..."
        )


def _ranks_needed(count: int, free: int) -> int:
    """GPUs that would do; a tenth of the free memory is left for activations."""
    return max(2, -(-16 * count // max(1, int(0.9 * free))))
