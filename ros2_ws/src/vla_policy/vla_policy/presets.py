"""The sizes of network there are. A preset is a function of the robot; change one with `dataclasses.replace`."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from vla_policy.config import VlaConfig
from vla_policy.embodiment import Embodiment
from vla_policy.openvla.config import ImagePipeline, OpenVlaConfig, TowerConfig


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
    """About 28 M parameters, 128 px, 32 tokens a camera: trains on one GPU in minutes."""
    return VlaConfig(
        camera_names=embodiment.camera_names,
        image_size=128,
        vision_channels=(64, 128),
        num_vision_residuals=3,
        num_image_tokens=32,
        hidden_size=512,
        num_layers=8,
        num_heads=8,
        intermediate_size=1408,
        chunk_length=8,
        action_dim=embodiment.num_joints,
        state_dim=embodiment.num_joints,
    )


def openvla_7b(embodiment: Embodiment) -> OpenVlaConfig:
    """OpenVLA-OFT's 7.5 B parameters, 224 px, 256 tokens a camera, for a robot of ours; wants a GPU of 24 GB to answer.

    Published checkpoints need no preset: `VlaPolicy.load` reads theirs. Images are scaled to 224 px and not cropped,
    for our data sets are not either.
    """
    return OpenVlaConfig(
        camera_names=embodiment.camera_names,
        image_size=224,
        dinov2=TowerConfig(width=1024, num_blocks=24, mlp_width=4096, patch_size=14, num_registers=4),
        siglip=TowerConfig(width=1152, num_blocks=27, mlp_width=4304, patch_size=14),
        hidden_size=4096,
        num_layers=32,
        num_heads=32,
        num_kv_heads=32,
        intermediate_size=11008,
        chunk_length=8,
        action_dim=embodiment.num_joints,
        state_dim=embodiment.num_joints,
        action_frame="relative",
        decoding="expectation",
        images=ImagePipeline(lanczos=True),
    )


def openvla_tiny(embodiment: Embodiment) -> OpenVlaConfig:
    """The same design with the vocabulary, and else next to nothing: for trying commands on a CPU."""
    return dataclasses.replace(
        openvla_7b(embodiment),
        image_size=28,
        dinov2=TowerConfig(width=32, num_blocks=3, mlp_width=64, patch_size=14, num_registers=4),
        siglip=TowerConfig(width=48, num_blocks=3, mlp_width=80, patch_size=14),
        hidden_size=32,
        num_layers=2,
        num_heads=2,
        num_kv_heads=2,
        intermediate_size=48,
    )


OPENVLA_PRESETS: dict[str, Callable[[Embodiment], OpenVlaConfig]] = {
    "openvla_7b": openvla_7b,
    "openvla_tiny": openvla_tiny,
}
"""Those of the published design, to be had with random weights."""
PRESETS: dict[str, Callable[[Embodiment], VlaConfig]] = {"tiny": tiny, "small": small}
"""Those that are trained from nothing."""
