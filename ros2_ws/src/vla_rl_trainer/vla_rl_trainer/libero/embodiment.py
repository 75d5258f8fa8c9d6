"""LIBERO's robot as a policy sees it: one Panda arm that takes small motions of its hand, and two cameras.

State: position of the hand [m], its rotation as axis times angle [rad], opening of the gripper [m]. Action: change of
the first six, scaled to [-1, 1], and the gripper, -1 to open and 1 to close. Actions are used as they come: a policy
for this robot has `action_frame="absolute"`, because they are differences already.
"""

from __future__ import annotations

import math

from vla_policy.embodiment import Camera, Embodiment, Joint

CONTROL_PERIOD = 0.05
"""[s]."""
STATE_SIZE = 7
ACTION_SIZE = 7
_SCALES = {"x": 0.05, "y": 0.05, "z": 0.05, "rotation_x": 0.5, "rotation_y": 0.5, "rotation_z": 0.5}
"""What an action of 1 asks for: [m], [rad]."""

LIBERO_PANDA = Embodiment(
    name="libero_panda",
    joints=(
        *(
            Joint(
                name=name,
                lower=-1.0,
                upper=1.0,
                max_velocity=scale / CONTROL_PERIOD,
                max_acceleration=scale / CONTROL_PERIOD**2,
            )
            for name, scale in _SCALES.items()
        ),
        Joint(name="gripper", lower=-1.0, upper=1.0, max_velocity=0.2, max_acceleration=4.0, is_gripper=True),
    ),
    cameras=(
        Camera(name="agentview", height=256, width=256, fovy=math.radians(45.0)),
        Camera(name="robot0_eye_in_hand", height=256, width=256, fovy=math.radians(75.0)),
    ),
    control_period=CONTROL_PERIOD,
)
