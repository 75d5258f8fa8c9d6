"""What sampling groups cost, and what was thrown away of it."""

from __future__ import annotations

import dataclasses
import math


@dataclasses.dataclass(slots=True)
class CollectStatistics:
    """What one collection cost and threw away."""

    num_groups: int = 0
    """Groups started."""
    num_surplus: int = 0
    """Groups kept from the step before."""
    num_episodes: int = 0
    """Episodes that count; dropped ones do not."""
    num_successes: int = 0
    num_first_episodes: int = 0
    """Episodes of first parts; later ones are run in groups that turned out mixed, and say less of the policy."""
    num_first_successes: int = 0
    num_steps: int = 0
    """Control steps simulated for them, and for dropped ones."""
    num_chunks: int = 0
    num_stopped: int = 0
    """Groups stopped after their first half."""
    num_all_solved: int = 0
    num_all_failed: int = 0
    num_outside_bounds: int = 0
    """Mixed groups with too low or too high a success rate."""
    num_lost: int = 0
    """Groups of which a broken simulation left fewer than two members."""
    num_stale: int = 0
    """Groups thrown away because the policy that sampled them is too old."""
    num_dropped_episodes: int = 0
    """Episodes lost to a broken simulation."""
    hit_group_limit: bool = False

    @property
    def success_rate(self) -> float:
        """Of the policy on the worlds drawn, whether their groups were kept or stopped; NaN when nothing ran."""
        return self.num_first_successes / self.num_first_episodes if self.num_first_episodes else math.nan
