"""How sure a success rate is: Wilson's score interval, which stays inside 0..1 and works at 0 % and 100 %."""

from __future__ import annotations

import math
from statistics import NormalDist

from vla_policy.errors import VlaError


def wilson_interval(successes: int, episodes: int, confidence: float = 0.95) -> tuple[float, float]:
    """Interval that covers the true success rate with probability `confidence`.

    Args:
        successes: Number of solved episodes.
        episodes: Number of episodes; with 0 nothing is known and the answer is (0, 1).
        confidence: Between 0 and 1, both excluded.

    Returns:
        Lower and upper bound, both in 0..1.

    Raises:
        VlaError: counts that cannot be, or a confidence outside (0, 1).
    """
    if not 0 <= successes <= episodes:
        raise VlaError(f"{successes} successes in {episodes} episodes cannot be; count both from the same episodes")
    if not 0.0 < confidence < 1.0:
        raise VlaError(f"confidence {confidence} is not between 0 and 1; 0.95 is customary")
    if episodes == 0:
        return 0.0, 1.0
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    rate = successes / episodes
    shrink = 1.0 + z * z / episodes
    centre = (rate + z * z / (2 * episodes)) / shrink
    half_width = z / shrink * math.sqrt(rate * (1.0 - rate) / episodes + z * z / (4 * episodes * episodes))
    lower = 0.0 if successes == 0 else max(0.0, centre - half_width)
    upper = 1.0 if successes == episodes else min(1.0, centre + half_width)
    return lower, upper


def disjoint(a: tuple[float, float], b: tuple[float, float]) -> bool:
    """True when two (low, high) intervals share no point."""
    return a[1] < b[0] or b[1] < a[0]
