"""Which policy, on which device: a checkpoint, or one of the baselines by name."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np

from vla_policy.baselines import HoldPolicy, RandomPolicy, ReplayPolicy
from vla_policy.embodiment import Embodiment
from vla_policy.errors import VlaError
from vla_policy.types import Observation, Policy

_NUM_WARM_UPS = 3
"""Answers until a network is up to speed; measured: from the second one on, on a CPU."""
_REPLAY = "replay:"


@dataclasses.dataclass(frozen=True, kw_only=True)
class PolicySource:
    """Where a policy comes from."""

    checkpoint: str
    """Checkpoint folder; or a policy without a network: hold, random, or replay:FILE.npy with one row of joint targets
    a control period."""
    embodiment: Path | None = None
    """embodiment.json of the robot: a checkpoint made for another one is refused. By default it is believed that the
    robot is the checkpoint's; joint names and image sizes are still checked as they arrive."""
    device: str = "cpu"
    """Where the network runs, such as cuda."""
    decoding: Literal["checkpoint", "expectation", "argmax", "sample"] = "checkpoint"
    """How actions are chosen among the bins: as the checkpoint says, or so."""
    threads: int = 1
    """CPU threads of the network; 0: as many as there are cores. More than one only where cores are idle: waiting for
    each other, two threads took six times as long as one on two busy cores."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class LoadedPolicy:
    """A policy that is ready to be asked."""

    policy: Policy
    embodiment: Embodiment
    warm_up: Callable[[], None]
    """Brings it up to speed; to be called on the thread that asks it."""


def load_policy(source: PolicySource) -> LoadedPolicy:
    """Find or make the policy.

    Raises:
        VlaError: there is none, it is damaged, or it was made for another robot; the message says what differs.
    """
    robot = _robot(source.embodiment) if source.embodiment else None
    if source.checkpoint in ("hold", "random") or source.checkpoint.startswith(_REPLAY):
        if robot is None:
            raise VlaError(f"policy '{source.checkpoint}' knows no robot; give its embodiment.json as `embodiment`")
        return LoadedPolicy(policy=_baseline(source.checkpoint, robot), embodiment=robot, warm_up=lambda: None)
    return _load_checkpoint(source, robot)


def _robot(path: Path) -> Embodiment:
    try:
        return Embodiment.from_json(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise VlaError(f"{path} cannot be read ({error}); give the embodiment.json of the robot") from error


def _baseline(name: str, robot: Embodiment) -> Policy:
    if name == "hold":
        return HoldPolicy(robot)
    if name == "random":
        return RandomPolicy(robot)
    file = name.removeprefix(_REPLAY)
    try:
        return ReplayPolicy(np.load(file, allow_pickle=False), robot)
    except (OSError, ValueError) as error:
        raise VlaError(f"{file} cannot be replayed ({error}); save joint targets with numpy.save") from error


def _load_checkpoint(source: PolicySource, robot: Embodiment | None) -> LoadedPolicy:
    import torch  # takes seconds, and the baselines do without

    from vla_policy.allocator import keep_freed_memory
    from vla_policy.policy import VlaPolicy

    keep_freed_memory()
    if source.threads:
        torch.set_num_threads(source.threads)
    decoding = None if source.decoding == "checkpoint" else source.decoding
    try:
        torch.empty(0, device=source.device)
    except (RuntimeError, AssertionError) as error:  # the latter: torch was built without it
        raise VlaError(f"device '{source.device}' cannot be used ({error}); choose another") from error
    policy = VlaPolicy.load(source.checkpoint, source.device, robot, decoding)
    blank = _blank(policy.embodiment, max(policy.embodiment.num_joints, policy.config.state_dim))

    def warm_up() -> None:
        for _ in range(_NUM_WARM_UPS):
            policy.infer([blank])

    return LoadedPolicy(policy=policy, embodiment=policy.embodiment, warm_up=warm_up)


def _blank(robot: Embodiment, state_dim: int) -> Observation:
    """An observation that looks like any other to a network."""
    images = {camera.name: np.zeros((camera.height, camera.width, 3), np.uint8) for camera in robot.cameras}
    return Observation(images=images, state=np.zeros(state_dim, np.float32), instruction="wait", stamp=0.0)
