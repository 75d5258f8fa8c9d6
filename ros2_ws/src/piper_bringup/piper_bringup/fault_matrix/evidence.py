"""What was seen of the arms and of the graph around a fault, and what can be measured from it."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

SPAN = 0.2
"""Speeds are taken over this time [s]: the arms are asked every 20 ms, by a computer that is busy."""
MOVING = 0.02
"""Joints faster than this move [rad/s]."""
REST = 0.005
"""Joints that stand still stay within this [rad]."""
COUNTED = (
    *("disables", "gripper_disables", "resets", "falls", "stops", "zeroings"),
    *("beyond_limits", "too_fast", "start_jumps"),
)
"""What an emulated arm counts and a host must never cause."""


@dataclasses.dataclass(frozen=True, slots=True)
class Sample:
    """Both arms at one moment."""

    time: float
    """[s]."""
    joints: Array
    """Measured, of both arms, without grippers [rad], shape (12,)."""
    targets: Array
    """Heard last, the same."""
    has_torque: bool
    """Every joint and gripper."""


@dataclasses.dataclass(frozen=True, slots=True)
class Told:
    """One message on the diagnostics."""

    time: float
    """When it came [s]."""
    who: str
    text: str
    is_complaint: bool
    """A warning or an error."""
    state: str = ""
    """Of the robot, where it is the robot that tells."""


@dataclasses.dataclass(kw_only=True)
class Evidence:
    """Of one fault, from its beginning until the operator did something about it."""

    began: float
    """When it was injected [s]."""
    was_moving: bool
    samples: Sequence[Sample]
    """Since it began."""
    told: Sequence[Told]
    """Since it began."""
    answers: Sequence[tuple[bool, str]] = ()
    """To requests for torque, where the fault is to forbid it."""
    steps: Sequence[str] = ()
    """What the operator did then, in words."""
    moved_on: bool = False
    """Whether the arms moved again after it."""
    counted: Mapping[str, int] = dataclasses.field(default_factory=dict[str, int])
    """`COUNTED` of both arms, since before the fault until after the recovery."""


def at_rest_since(samples: Sequence[Sample]) -> float:
    """Since when no joint has been farther than `REST` from where it is in the end [s]; there must be a sample."""
    joints = np.array([sample.joints for sample in samples])
    away = np.flatnonzero(np.abs(joints - joints[-1]).max(axis=1) > REST)
    return samples[away[-1] + 1 if len(away) else 0].time


def drift(samples: Sequence[Sample], since: float) -> float:
    """How far a joint went from where it stood at `since` [rad]."""
    joints = np.array([sample.joints for sample in samples if sample.time >= since])
    return float(np.abs(joints - joints[0]).max())


def distance_from_target(sample: Sample) -> float:
    """Of the joint that is farthest from what it was told last [rad]."""
    return float(np.abs(sample.joints - sample.targets).max())


def is_moving(samples: Sequence[Sample]) -> bool:
    """Whether a joint has been faster than `MOVING` of late, all the time."""
    recent = [(then, now) for then, now in _pairs(samples) if then.time >= samples[-1].time - 2.0 * SPAN]
    return bool(recent) and all(
        np.abs(now.joints - then.joints).max() > MOVING * (now.time - then.time) for then, now in recent
    )


def _pairs(samples: Sequence[Sample]) -> list[tuple[Sample, Sample]]:
    """Every sample that has one `SPAN` before it, after that one."""
    pairs: list[tuple[Sample, Sample]] = []
    place = 0
    for now in samples:
        while now.time - samples[place + 1].time >= SPAN if place + 1 < len(samples) else False:
            place += 1
        if now.time - samples[place].time >= SPAN:
            pairs.append((samples[place], now))
    return pairs


def sample_of(time: float, arms: Mapping[str, Mapping[str, Any]]) -> Sample:
    """From what the emulator tells of its arms."""
    states = list(arms.values())

    def joined(key: str) -> Array:
        return np.array([value for state in states for value in state[key][:6]], np.float64)

    has_torque = all(itertools.chain.from_iterable(state["enabled"] for state in states))
    return Sample(time, joined("joints"), joined("targets"), has_torque)


def counted(arms: Mapping[str, Mapping[str, Any]]) -> dict[str, int]:
    """`COUNTED`, both arms together."""
    return {name: sum(int(state["counts"][name]) for state in arms.values()) for name in COUNTED}
