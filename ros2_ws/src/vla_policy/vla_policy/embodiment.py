"""What a policy must know of a robot: joints, grippers, cameras, control period.

An embodiment is a value: it is passed in, saved beside every checkpoint and dataset, and compared before anything
moves. Radians, metres and seconds throughout.
"""

from __future__ import annotations

import dataclasses
import json
from typing import Any

from vla_policy.errors import VlaError


class EmbodimentMismatch(VlaError):
    """A checkpoint, dataset or bag was made for another robot."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Joint:
    """One entry of the state and action vector: a revolute joint [rad] or a gripper opening [m]."""

    name: str
    lower: float
    """Lowest position, [rad] or [m]."""
    upper: float
    """Highest position, [rad] or [m]."""
    max_velocity: float
    """[rad/s] or [m/s]."""
    max_acceleration: float
    """[rad/s^2] or [m/s^2]."""
    is_gripper: bool = False
    """True for a total gripper opening in metres, 0 = closed."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Camera:
    """One camera: the images a policy sees are `(height, width, 3)` uint8 RGB."""

    name: str
    height: int
    """[px]."""
    width: int
    """[px]."""
    fovy: float
    """Vertical field of view [rad]."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Embodiment:
    """A robot as a policy sees it. State and action vectors are `joints` in order."""

    name: str
    joints: tuple[Joint, ...]
    cameras: tuple[Camera, ...]
    control_period: float
    """Time between two commands [s]."""

    @property
    def num_joints(self) -> int:
        """Length of the state and action vectors."""
        return len(self.joints)

    @property
    def joint_names(self) -> tuple[str, ...]:
        """Names in the order of the state and action vectors."""
        return tuple(joint.name for joint in self.joints)

    @property
    def camera_names(self) -> tuple[str, ...]:
        """Names in the order the network reads the images."""
        return tuple(camera.name for camera in self.cameras)

    def to_json(self) -> str:
        """The text stored as `embodiment.json` beside checkpoints and datasets."""
        return json.dumps(dataclasses.asdict(self), indent=2)

    @staticmethod
    def from_json(text: str) -> Embodiment:
        """Read what `to_json` wrote.

        Raises:
            VlaError: the text is not an embodiment.
        """
        try:
            fields: dict[str, Any] = json.loads(text)
            joints = tuple(Joint(**joint) for joint in fields.pop("joints"))
            cameras = tuple(Camera(**camera) for camera in fields.pop("cameras"))
            return Embodiment(joints=joints, cameras=cameras, **fields)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise VlaError(
                f"embodiment.json cannot be read ({error}); restore it from the original checkpoint"
            ) from error

    def require_same(self, other: Embodiment, owner: str) -> None:
        """Refuse `other`, which belongs to `owner` ("checkpoint runs/x"), unless it is this robot.

        Raises:
            EmbodimentMismatch: names the first joint, camera or period that differs.
        """
        if self.joint_names != other.joint_names:
            raise EmbodimentMismatch(f"{owner} has joints {other.joint_names}, the robot has {self.joint_names}")
        if self.camera_names != other.camera_names:
            raise EmbodimentMismatch(f"{owner} has cameras {other.camera_names}, the robot has {self.camera_names}")
        for mine, theirs in zip(self.joints + self.cameras, other.joints + other.cameras, strict=True):
            if mine != theirs:
                raise EmbodimentMismatch(f"{owner} describes {theirs}, the robot has {mine}")
        if self.control_period != other.control_period:
            raise EmbodimentMismatch(
                f"{owner} has a control period of {other.control_period} s, the robot {self.control_period} s"
            )
