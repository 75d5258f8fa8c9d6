"""LIBERO's robot as OpenVLA sees it, for folders that do not say which robot they move."""

from __future__ import annotations

import math

from vla_policy.embodiment import Camera, Embodiment, Joint

_CAMERAS = (
    Camera(name="agentview", height=256, width=256, fovy=math.radians(45.0)),
    Camera(name="wrist", height=256, width=256, fovy=math.radians(75.0)),
)
_DELTAS = ("x", "y", "z", "roll", "pitch", "yaw", "gripper")


def libero(num_cameras: int = 1) -> Embodiment:
    """One arm moved by steps of its hand: LIBERO's own numbers in [-1, 1], neither radians nor metres.

    Args:
        num_cameras: 1 for the agent's view alone, as SimpleVLA-RL; 2 with the wrist's, as OpenVLA-OFT.
    """
    return Embodiment(
        name="libero",
        joints=tuple(
            Joint(name=name, lower=-1.0, upper=1.0, max_velocity=math.inf, max_acceleration=math.inf)
            for name in _DELTAS
        ),
        cameras=_CAMERAS[:num_cameras],
        control_period=0.05,
    )
