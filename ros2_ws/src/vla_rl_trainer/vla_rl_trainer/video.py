"""Videos for reports: several cameras side by side, H.264 in memory."""

from __future__ import annotations

import io
from collections.abc import Mapping
from fractions import Fraction

import av
import numpy as np
import numpy.typing as npt

from vla_policy.errors import VlaError

# T = frames, H = height, W = width
Frames = npt.NDArray[np.uint8]


def encode_mp4(frames_THW3: Frames, fps: float, crf: int = 23) -> bytes:
    """H.264 that every browser plays.

    Args:
        frames_THW3: RGB frames, at least one. Odd sizes get a black row or column, which the pixel format needs.
        fps: Frames a second.
        crf: Quality of x264; lower is better and larger.

    Returns:
        A complete mp4 file.
    """
    if frames_THW3.dtype != np.uint8 or frames_THW3.ndim != 4 or frames_THW3.shape[-1] != 3 or not len(frames_THW3):
        raise VlaError(f"a video needs uint8 RGB frames (T, H, W, 3), got {frames_THW3.dtype} {frames_THW3.shape}")
    height, width = frames_THW3.shape[1:3]
    frames_THW3 = np.pad(frames_THW3, ((0, 0), (0, height % 2), (0, width % 2), (0, 0)))
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=Fraction(fps).limit_denominator(1000))
        stream.width, stream.height, stream.pix_fmt = frames_THW3.shape[2], frames_THW3.shape[1], "yuv420p"
        stream.options = {"crf": str(crf), "preset": "medium"}
        for frame_HW3 in frames_THW3:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(frame_HW3), format="rgb24")))
        container.mux(stream.encode())
    return buffer.getvalue()


def tile_cameras(images: Mapping[str, Frames], gap: int = 4, magnify: int = 1) -> Frames:
    """Put the cameras side by side, in the mapping's order, on a dark ground.

    Args:
        images: Camera name to frames (T, H, W, 3); all with the same T, heights may differ.
        gap: Dark columns between two cameras [px].
        magnify: Whole-number enlargement, so that small images are not blurred by the player.

    Returns:
        Frames (T, max H, sum W + gaps, 3).
    """
    lengths = {len(frames) for frames in images.values()}
    if len(lengths) != 1:
        raise VlaError(f"cameras to be shown side by side need one length, got {sorted(lengths)} frames")
    height = max(frames.shape[1] for frames in images.values())
    panes: list[Frames] = []
    for frames_THW3 in images.values():
        missing = height - frames_THW3.shape[1]
        panes.append(np.pad(frames_THW3, ((0, 0), (missing // 2, missing - missing // 2), (0, gap), (0, 0))))
    tiled = np.concatenate(panes, axis=2)
    tiled = tiled[:, :, : tiled.shape[2] - gap] if gap else tiled
    return tiled.repeat(magnify, axis=1).repeat(magnify, axis=2)
