"""Chunks as robot_node gets them: through messages, whose names and times can be wrong as well."""

# pyright: basic
# ROS messages carry no types.

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from trajectory_msgs.msg import JointTrajectory

from piper_twin.robot import DUAL_PIPER
from vla_policy.errors import VlaError
from vla_policy.ros import convert
from vla_policy.types import ActionChunk

_NAMES = DUAL_PIPER.joint_names


def _reorder(message: JointTrajectory, rng: np.random.Generator) -> None:
    """Another order with the same names: no mistake."""
    order = rng.permutation(len(_NAMES))
    message.joint_names = [_NAMES[index] for index in order]
    for point in message.points:
        point.positions = [point.positions[index] for index in order]


def _rename(message: JointTrajectory, rng: np.random.Generator) -> None:
    message.joint_names[int(rng.integers(len(_NAMES)))] = str(rng.choice(("elbow", "", *_NAMES)))


def _drop_name(message: JointTrajectory, rng: np.random.Generator) -> None:
    message.joint_names = message.joint_names[: int(rng.integers(len(_NAMES)))]


def _shorten(message: JointTrajectory, rng: np.random.Generator) -> None:
    point = message.points[int(rng.integers(len(message.points)))]
    point.positions = point.positions[: int(rng.integers(len(_NAMES)))]


def _shift(message: JointTrajectory, rng: np.random.Generator) -> None:
    message.points[int(rng.integers(len(message.points)))].time_from_start.sec += int(rng.choice((-1, 1, 1000)))


def _empty(message: JointTrajectory, rng: np.random.Generator) -> None:
    del rng
    message.points = []


_CHANGES: Sequence[Callable[[JointTrajectory, np.random.Generator], None]] = (
    _reorder, _rename, _drop_name, _shorten, _shift, _empty,
)  # fmt: skip


def through_message(chunk: ActionChunk, rng: np.random.Generator) -> ActionChunk | str:
    """The chunk that arrives when one is sent, perhaps damaged on the way; a text tells why it could not be read."""
    sendable = np.ndim(chunk.stamp) == 0 and np.isfinite(chunk.stamp) and 0.0 <= chunk.stamp < 2**31
    if not (sendable and 0.0 < chunk.period < 2**20 and chunk.actions.ndim == 2 and chunk.actions.shape[1]):
        return chunk
    names = _NAMES[: chunk.actions.shape[1]]
    message = convert.chunk_message(chunk, names)
    if len(message.points) > 0 and len(names) == len(_NAMES):
        _CHANGES[int(rng.integers(len(_CHANGES)))](message, rng)
    try:
        return convert.to_chunk(message, DUAL_PIPER)
    except VlaError as error:
        return str(error)
