"""How messages travel.

Publishers are reliable, so that a recorder loses nothing; whoever wants the newest only subscribes best effort.
"""

from __future__ import annotations

from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy


def _profile(depth: int, *, reliable: bool = True, latched: bool = False) -> QoSProfile:
    return QoSProfile(
        history=HistoryPolicy.KEEP_LAST,
        depth=depth,
        reliability=ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT,
        durability=DurabilityPolicy.TRANSIENT_LOCAL if latched else DurabilityPolicy.VOLATILE,
    )


STREAM = _profile(30)
"""Images: a second of them."""
FAST_STREAM = _profile(400)
"""Joint states and commands: two seconds of them."""
NEWEST = _profile(1, reliable=False)
"""A subscriber that wants the newest message only."""
COMMAND = _profile(1)
"""Action chunks: an older one is worth nothing."""
LATCHED = _profile(1, latched=True)
"""The instruction: told to whoever joins later, too."""
EVENTS = _profile(20)
"""Diagnostics."""
