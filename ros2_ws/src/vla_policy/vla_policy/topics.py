"""Names of the ROS graph, the same in simulation and on the robot; plain text, so that bags are read without ROS."""

from __future__ import annotations

JOINT_STATES = "/joint_states"
"""sensor_msgs/JointState, measured."""
JOINT_COMMANDS = "/joint_commands"
"""sensor_msgs/JointState, what was really sent to the motors."""
ACTION_CHUNK = "/action_chunk"
"""trajectory_msgs/JointTrajectory; header stamp = when its first row begins: the time of the observation, or of sending
where the robot stood still in between."""
PROPOSED_CHUNK = "/action_chunk/proposed"
"""trajectory_msgs/JointTrajectory, for eyes only: what a policy in the shadow or up for approval would do."""
INSTRUCTION = "/instruction"
"""std_msgs/String, transient local."""
DIAGNOSTICS = "/diagnostics"
"""diagnostic_msgs/DiagnosticArray."""
EPISODE_INFO = "/episode/info"
"""std_msgs/String, in bags only: `vla_policy.episode_info` as JSON."""
CLOCK = "/clock"
"""rosgraph_msgs/Clock, of a simulation that does not keep real time."""

ENABLE = "/robot/enable"
STOP = "/robot/stop"
"""Latches: only release lets the robot move again."""
RELEASE = "/robot/release"
HOME = "/robot/home"
"""To the posture that episodes start from, slowly and with open grippers; answers when it is there."""
POLICY_RUN = "/policy/run"
"""std_srvs/SetBool; all other services are std_srvs/Trigger."""
POLICY_APPROVE = "/policy/approve"
TRIAL_READY = "/trial/ready"
"""The operator has put everything in its place; success and failure end the trial."""
TRIAL_SUCCESS = "/trial/success"
TRIAL_FAILURE = "/trial/failure"
EPISODE_START = "/episode/start"
EPISODE_SUCCESS = "/episode/success"
EPISODE_FAILURE = "/episode/failure"
EPISODE_DISCARD = "/episode/discard"
WORLD = "world"
"""Name of the node that offers what follows; task and seed of the next reset are its parameters."""
WORLD_EPISODE = "/world/episode"
"""std_msgs/String, transient local: task, seed, split and randomization of what is played, as JSON."""
WORLD_OBJECTS = "/world/objects"
"""sensor_msgs/MultiDOFJointState: where each object of the twin stands, by name; for eyes, not for policies."""
WORLD_RESET = "/world/reset"
"""Answers with the new world's instruction, which is also told on /instruction."""
WORLD_SUCCESS = "/world/success"
"""Answers true once the task has been solved since the last reset."""


def image(camera: str) -> str:
    """sensor_msgs/Image of a camera."""
    return f"/camera/{camera}/image_raw"


def fitted_image(camera: str) -> str:
    """sensor_msgs/Image: the same at the size of the embodiment's camera, as `camera_image.fit_image` makes it."""
    return f"/camera/{camera}/image_fitted"


def compressed(camera: str) -> str:
    """sensor_msgs/CompressedImage (JPEG) of a camera."""
    return f"/camera/{camera}/image_raw/compressed"


def camera_info(camera: str) -> str:
    """sensor_msgs/CameraInfo of a camera."""
    return f"/camera/{camera}/camera_info"
