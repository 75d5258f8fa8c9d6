"""A robot, a data set and a network small enough that a test takes milliseconds."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest

from vla_policy.embodiment import Camera, Embodiment, Joint
from vla_policy.normalization import DatasetStatistics, Statistics
from vla_policy.types import Observation


def _joint(name: str, is_gripper: bool) -> Joint:
    upper = 0.07 if is_gripper else 1.5
    lower = 0.0 if is_gripper else -1.5
    return Joint(name=name, lower=lower, upper=upper, max_velocity=3.0, max_acceleration=5.0, is_gripper=is_gripper)


@pytest.fixture(scope="session")
def robot() -> Embodiment:
    """Two joints and a gripper, two cameras."""
    return Embodiment(
        name="two_joints",
        joints=(_joint("shoulder", False), _joint("elbow", False), _joint("gripper", True)),
        cameras=tuple(Camera(name=name, height=16, width=16, fovy=1.0) for name in ("head", "wrist")),
        control_period=0.04,
    )


@pytest.fixture(scope="session")
def statistics() -> DatasetStatistics:
    """Relative joint targets of +-0.5 rad, openings of 0..0.07 m."""
    low, high = np.array([-0.5, -0.4, 0.0]), np.array([0.5, 0.6, 0.07])
    spread = np.linspace(low, high, 101)
    return DatasetStatistics(
        action=Statistics.of(spread),
        proprio=Statistics.of(np.linspace([-1.5, -1.5, 0.0], [1.5, 1.5, 0.07], 101)),
        num_transitions=101,
        num_trajectories=1,
    )


@pytest.fixture(scope="session")
def observe(robot: Embodiment) -> Callable[[int], Sequence[Observation]]:
    """Random observations, the same ones every time."""

    def make(count: int) -> list[Observation]:
        rng = np.random.default_rng(7)
        words = ("press the bell", "lift the red cube", "push it left")
        return [
            Observation(
                images={name: rng.integers(0, 256, (16, 16, 3), np.uint8) for name in robot.camera_names},
                state=rng.uniform([-1, -1, 0], [1, 1, 0.07]).astype(np.float32),
                instruction=words[number % len(words)],
                stamp=float(number),
            )
            for number in range(count)
        ]

    return make


@pytest.fixture(scope="session")
def config(robot: Embodiment):
    """A network of ten thousand parameters."""
    from vla_policy.config import VlaConfig

    return VlaConfig(
        camera_names=robot.camera_names,
        image_size=8,
        vision_channels=(8, 16),
        num_image_tokens=4,
        hidden_size=32,
        num_layers=2,
        num_heads=2,
        intermediate_size=48,
        chunk_length=2,
        action_dim=3,
        state_dim=3,
        text_vocab_size=320,
        max_prompt_tokens=32,
    )


@pytest.fixture
def policy(config, robot, statistics):
    """A fresh policy of that size."""
    from vla_policy.policy import VlaPolicy
    from vla_policy.prompt import train_tokenizer

    tokenizer = train_tokenizer(["press the bell", "lift the red cube"], vocab_size=config.text_vocab_size)
    return VlaPolicy.create(config, robot, statistics, tokenizer, seed=0)
