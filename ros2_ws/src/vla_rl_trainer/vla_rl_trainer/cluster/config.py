"""How a run is spread over a Ray cluster."""

from __future__ import annotations

import dataclasses

from vla_rl_trainer.config_checks import require_at_least


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ClusterConfig:
    """Where a run samples; without rollouts, in the process that learns."""

    num_rollouts: int = 0
    """Policies that sample beside each other, each with worlds of its own; 0: no cluster."""
    address: str | None = None
    """Of the cluster, such as auto or 10.0.0.1:6379; by default Ray is started on this machine for the run."""
    max_staleness: int = 0
    """Steps by which the policy that samples may be behind the one that learns. 0: they take turns; from 1 on the next
    groups are sampled while the learner learns from the last."""
    gpus_per_rollout: float = 0.0
    """Of a rollout's policy; 0.5 shares a card, 0 is a CPU."""
    cpus_per_worlds: int = 1
    """Cores of a rollout's worlds: as many simulation processes, unless --num-workers says otherwise."""
    worlds_on: str | None = None
    """Resource that nodes offer which may run worlds (`ray start --resources '{"worlds": 8}'`); any node by default."""

    def __post_init__(self) -> None:
        """Refuse what cannot be placed."""
        require_at_least(self, 0, "num_rollouts", "max_staleness")
        require_at_least(self, 0.0, "gpus_per_rollout")
        require_at_least(self, 1, "cpus_per_worlds")


MAY_DIFFER = tuple(f"cluster.{name}" for name in ("address", "gpus_per_rollout", "cpus_per_worlds", "worlds_on"))
"""Fields of a command with a `cluster: ClusterConfig` that change nothing about its results."""
