"""ROS messages and our types, in both directions; nothing that is not in the messages is known here."""

from __future__ import annotations

import array
import io
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from builtin_interfaces.msg import Duration, Time
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from PIL import Image as PillowImage
from sensor_msgs.msg import CameraInfo, CompressedImage, JointState
from sensor_msgs.msg import Image as ImageMessage
from std_msgs.msg import Header
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

from vla_policy.embodiment import Camera, Embodiment
from vla_policy.errors import VlaError
from vla_policy.types import ActionChunk, Image, Vector

JPEG_QUALITY = 90
"""Of 100; artefacts stay below the noise of a webcam."""

_CHANNELS = {"rgb8": slice(None), "bgr8": slice(None, None, -1)}
"""Encoding to the order in which its channels are red, green, blue."""


def to_time(seconds: float) -> Time:
    """Seconds since the epoch (or since the simulation began) as a stamp."""
    nanoseconds = round(seconds * 1e9)
    return Time(sec=nanoseconds // 1_000_000_000, nanosec=nanoseconds % 1_000_000_000)


def to_seconds(stamp: Time | Duration) -> float:
    """A stamp or duration in seconds."""
    return stamp.sec + stamp.nanosec * 1e-9


def image_message(image: Image, camera: str, stamp: float) -> ImageMessage:
    """An RGB image, shape (height, width, 3)."""
    height, width, _ = image.shape
    message = ImageMessage(header=_header(camera, stamp), height=height, width=width, encoding="rgb8", step=3 * width)
    # 0.05 ms this way; assigning an array or a memoryview copies element by element: 30 to 50 ms.
    buffer = array.array("B")
    buffer.frombytes(np.ascontiguousarray(image).data.cast("B"))
    message.data = buffer
    return message


def to_image(message: ImageMessage) -> Image:
    """The RGB image of a message, shape (height, width, 3).

    Raises:
        VlaError: the encoding is neither rgb8 nor bgr8, or the data are too short.
    """
    channels = _CHANNELS.get(message.encoding)
    if channels is None:
        raise VlaError(
            f"camera {message.header.frame_id} sends '{message.encoding}' images; "
            f"set its driver to one of {', '.join(_CHANNELS)}"
        )
    rows = np.frombuffer(message.data, np.uint8)
    if message.step < 3 * message.width or rows.size != message.height * message.step:
        raise VlaError(
            f"camera {message.header.frame_id} sends {rows.size} bytes for {message.height} x {message.width} px"
        )
    pixels = rows.reshape(message.height, message.step)[:, : 3 * message.width]
    return pixels.reshape(message.height, message.width, 3)[..., channels]


def jpeg_message(image: Image, camera: str, stamp: float) -> CompressedImage:
    """The same image as a JPEG, about a twentieth of the bytes."""
    buffer = io.BytesIO()
    PillowImage.fromarray(image).save(buffer, format="JPEG", quality=JPEG_QUALITY)
    return CompressedImage(header=_header(camera, stamp), format="rgb8; jpeg compressed", data=buffer.getvalue())


def camera_info_message(camera: Camera, stamp: float) -> CameraInfo:
    """A pinhole without distortion that has the camera's field of view; pixels are square."""
    focal = 0.5 * camera.height / np.tan(0.5 * camera.fovy)
    matrix = [focal, 0.0, 0.5 * camera.width, 0.0, focal, 0.5 * camera.height, 0.0, 0.0, 1.0]
    return CameraInfo(
        header=_header(camera.name, stamp),
        height=camera.height,
        width=camera.width,
        distortion_model="plumb_bob",
        d=[0.0] * 5,
        k=matrix,
        r=[1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0],
        p=[*matrix[:3], 0.0, *matrix[3:6], 0.0, *matrix[6:], 0.0],
    )


def joint_state_message(names: Sequence[str], positions: npt.NDArray[np.floating], stamp: float) -> JointState:
    """Joint positions [rad], gripper openings [m]."""
    return JointState(header=_header("", stamp), name=list(names), position=positions.astype(float).tolist())


def to_state(message: JointState, embodiment: Embodiment) -> Vector:
    """Positions in the embodiment's order, shape (num_joints,).

    Raises:
        VlaError: a joint is missing (named), or names and positions differ in number.
    """
    return _in_order(message.name, np.asarray(message.position, np.float32)[None], embodiment, "/joint_states")[0]


def chunk_message(chunk: ActionChunk, names: Sequence[str]) -> JointTrajectory:
    """An action chunk; row i is due `i * period` after the observation it answers."""
    points = [
        JointTrajectoryPoint(positions=row.astype(float).tolist(), time_from_start=_duration(index * chunk.period))
        for index, row in enumerate(chunk.actions)
    ]
    return JointTrajectory(header=_header("", chunk.stamp), joint_names=list(names), points=points)


def to_chunk(message: JointTrajectory, embodiment: Embodiment) -> ActionChunk:
    """The action chunk of a message, joints in the embodiment's order.

    Raises:
        VlaError: it is empty, a joint is missing or doubled, rows have other lengths, or times are not evenly spaced.
    """
    points = message.points
    if not points:
        raise VlaError("an action chunk without points arrived")
    if any(len(point.positions) != len(message.joint_names) for point in points):
        raise VlaError(f"an action chunk names {len(message.joint_names)} joints, but its points have other lengths")
    times = np.array([to_seconds(point.time_from_start) for point in points])
    period = float(times[1] - times[0]) if len(times) > 1 else embodiment.control_period
    if period <= 0.0 or not np.allclose(times, period * np.arange(len(times)), atol=1e-6):
        raise VlaError("the points of an action chunk are not evenly spaced from 0 s on")
    rows = np.array([point.positions for point in points], np.float32)
    actions = _in_order(message.joint_names, rows, embodiment, "/action_chunk")
    return ActionChunk(actions=actions, period=period, stamp=to_seconds(message.header.stamp))


def _in_order(
    names: Sequence[str], rows: npt.NDArray[np.float32], embodiment: Embodiment, source: str
) -> npt.NDArray[np.float32]:
    """Columns in the embodiment's order."""
    if len(set(names)) != len(names) or rows.shape[1] != len(names):
        raise VlaError(f"{source}: {rows.shape[1]} values for the names {', '.join(names)}")
    column_of = {name: column for column, name in enumerate(names)}
    if missing := [name for name in embodiment.joint_names if name not in column_of]:
        raise VlaError(f"{source} lacks {', '.join(missing)}; the robot has {', '.join(embodiment.joint_names)}")
    if unknown := sorted(column_of.keys() - set(embodiment.joint_names)):
        raise VlaError(f"{source} names {', '.join(unknown)}, which this robot does not have")
    return rows[:, [column_of[name] for name in embodiment.joint_names]]


def diagnostic(
    name: str, problem: str | None, values: dict[str, object], stamp: float, note: str | None = None
) -> DiagnosticArray:
    """One status: an error that tells the problem, a warning that tells what else is to be noted, or OK."""
    level = DiagnosticStatus.ERROR if problem else DiagnosticStatus.WARN if note else DiagnosticStatus.OK
    status = DiagnosticStatus(
        level=level,
        name=name,
        message=problem or note or "ok",
        values=[KeyValue(key=key, value=str(value)) for key, value in values.items()],
    )
    return DiagnosticArray(header=_header("", stamp), status=[status])


def _header(frame: str, stamp: float) -> Header:
    return Header(stamp=to_time(stamp), frame_id=frame)


def _duration(seconds: float) -> Duration:
    nanoseconds = round(seconds * 1e9)
    return Duration(sec=nanoseconds // 1_000_000_000, nanosec=nanoseconds % 1_000_000_000)
