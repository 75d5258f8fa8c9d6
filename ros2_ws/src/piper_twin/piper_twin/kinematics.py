"""Forward kinematics of one Piper from its DH table, in numpy, for any number of poses at once."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from piper_twin.robot import DH_TABLE

Array = npt.NDArray[np.float64]


def flange_pose(joints: Array) -> Array:
    """Pose of the flange (link6) in the arm's base frame.

    Args:
        joints: Joint positions [rad], shape (..., 6), new zero convention (firmware >= S-V1.6-3).

    Returns:
        Homogeneous transforms, shape (..., 4, 4), [m].
    """
    joints = np.asarray(joints, dtype=np.float64)
    pose = np.broadcast_to(np.eye(4), (*joints.shape[:-1], 4, 4))
    for number, row in enumerate(DH_TABLE):
        pose = pose @ _modified_dh(row.a, row.alpha, row.d, joints[..., number] + row.theta)
    return pose


def _modified_dh(a: float, alpha: float, d: float, theta: Array) -> Array:
    cos_t, sin_t = np.cos(theta), np.sin(theta)
    cos_a, sin_a = np.cos(alpha), np.sin(alpha)
    transform = np.zeros((*theta.shape, 4, 4))
    transform[..., 0, 0], transform[..., 0, 1], transform[..., 0, 3] = cos_t, -sin_t, a
    transform[..., 1, 0], transform[..., 1, 1] = sin_t * cos_a, cos_t * cos_a
    transform[..., 1, 2], transform[..., 1, 3] = -sin_a, -sin_a * d
    transform[..., 2, 0], transform[..., 2, 1] = sin_t * sin_a, cos_t * sin_a
    transform[..., 2, 2], transform[..., 2, 3] = cos_a, cos_a * d
    transform[..., 3, 3] = 1.0
    return transform
