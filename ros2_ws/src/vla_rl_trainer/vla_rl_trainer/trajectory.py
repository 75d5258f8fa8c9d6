"""What a rollout leaves behind: one entry a chunk, pixels as uint8, log-probabilities as sampled."""

from __future__ import annotations

import dataclasses

from torch import Tensor

from piper_twin.episode import Episode
from vla_policy.inputs import PolicyInputs, Row


@dataclasses.dataclass(slots=True, eq=False)
class Trajectory:
    """One episode of one policy. C = chunks so far."""

    episode: Episode
    _seen: list[PolicyInputs | Row] = dataclasses.field(default_factory=list)
    indices: list[Tensor] = dataclasses.field(default_factory=list)
    """Action bins drawn at each chunk, uint8 (K, A)."""
    log_probs: list[Tensor] = dataclasses.field(default_factory=list)
    """Their log-probabilities when drawn, float32 (K, A)."""
    steps: list[int] = dataclasses.field(default_factory=list)
    """Control steps of each chunk that count."""
    success: bool = False
    dropped: bool = False
    """The simulation broke down: neither a success nor a failure."""
    signals: set[str] = dataclasses.field(default_factory=set)
    """What was seen to happen: grasped, lifted, pushed."""
    refused: int = 0
    """Actions the guard refused."""

    @property
    def inputs(self) -> list[PolicyInputs]:
        """What the policy saw at each chunk, batches of one, pixels where they were drawn; none unless recorded."""
        return [seen.alone() if isinstance(seen, Row) else seen for seen in self._seen]

    @property
    def num_steps(self) -> int:
        """Control steps that count."""
        return sum(self.steps)

    def record(self, seen: PolicyInputs | Row, indices: Tensor, log_probs: Tensor) -> None:
        """Keep what the learner needs of one chunk, where it is.

        Pixels of a batch in the host's memory are copied: a part would keep the whole of it alive, and with it the
        pixels of every group that is dropped. Of a batch on a GPU its row is kept, for want of time rather than memory.
        """
        if isinstance(seen, PolicyInputs) and seen.images_BCHW3.device.type == "cpu":
            seen = dataclasses.replace(seen, images_BCHW3=seen.images_BCHW3.clone())
        self._seen.append(seen)
        self.indices.append(indices)
        self.log_probs.append(log_probs)

    def forget(self) -> None:
        """Free what was recorded; nobody will learn from it."""
        self._seen, self.indices, self.log_probs = [], [], []


@dataclasses.dataclass(slots=True, eq=False)
class Group:
    """Trajectories of one world, to be compared with each other."""

    episode: Episode
    trajectories: list[Trajectory] = dataclasses.field(default_factory=list)
    policy_version: int = 0
    """Number of the policy that sampled all of them; surplus groups are older than the policy that learns from them."""

    @property
    def members(self) -> list[Trajectory]:
        """The trajectories that count."""
        return [trajectory for trajectory in self.trajectories if not trajectory.dropped]

    @property
    def rewards(self) -> list[float]:
        """1 for success, 0 for failure, of the trajectories that count."""
        return [float(trajectory.success) for trajectory in self.members]
