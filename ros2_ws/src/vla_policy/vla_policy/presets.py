"""The sizes of network we train. A preset is a function of the robot; change one with `dataclasses.replace`."""

from __future__ import annotations

from collections.abc import Callable

from vla_policy.config import VlaConfig
from vla_policy.embodiment import Embodiment


def tiny(embodiment: Embodiment) -> VlaConfig:
    """About 1.1 M parameters, 64 px, 16 tokens a camera: trains on two CPU cores in minutes."""
    return VlaConfig(
        camera_names=embodiment.camera_names,
        image_size=64,
        vision_channels=(24, 48),
        num_vision_residuals=1,
        num_image_tokens=16,
        hidden_size=128,
        num_layers=4,
        num_heads=4,
        intermediate_size=384,
        chunk_length=8,
        action_dim=embodiment.num_joints,
        state_dim=embodiment.num_joints,
    )


def small(embodiment: Embodiment) -> VlaConfig:
    """About 28 M parameters, 128 px, 64 tokens a camera: trains on one GPU in minutes."""
    return VlaConfig(
        camera_names=embodiment.camera_names,
        image_size=128,
        vision_channels=(64, 128),
        num_vision_residuals=3,
        num_image_tokens=64,
        hidden_size=512,
        num_layers=8,
        num_heads=8,
        intermediate_size=1408,
        chunk_length=8,
        action_dim=embodiment.num_joints,
        state_dim=embodiment.num_joints,
    )


PRESETS: dict[str, Callable[[Embodiment], VlaConfig]] = {"tiny": tiny, "small": small}
