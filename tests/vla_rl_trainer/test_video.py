import io

import av
import numpy as np
import pytest

from vla_policy.errors import VlaError
from vla_rl_trainer.video import encode_mp4, tile_cameras


def frames(length=5, height=16, width=24, value=200):
    return np.full((length, height, width, 3), value, dtype=np.uint8)


def decode(data):
    with av.open(io.BytesIO(data)) as container:
        stream = container.streams.video[0]
        return (
            stream.codec_context.name,
            float(stream.average_rate),
            np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(stream)]),
        )


def test_a_video_plays_back_with_its_length_rate_and_colours():
    codec, rate, played = decode(encode_mp4(frames(), fps=25))
    assert (codec, rate, played.shape) == ("h264", 25.0, (5, 16, 24, 3))
    assert abs(played.astype(int) - 200).max() <= 3


def test_odd_sides_are_filled_up_with_black():
    _, _, played = decode(encode_mp4(frames(height=17, width=25), fps=12.5))
    assert played.shape[1:] == (18, 26, 3)


@pytest.mark.parametrize("wrong", [frames(0), frames().astype(float), frames()[..., 0]])
def test_what_is_no_video_is_refused(wrong):
    with pytest.raises(VlaError, match="uint8 RGB frames"):
        encode_mp4(wrong, fps=25)


def test_cameras_stand_side_by_side_in_order():
    tiled = tile_cameras({"head": frames(value=10), "wrist": frames(height=12, width=12, value=20)}, gap=4)
    assert tiled.shape == (5, 16, 24 + 4 + 12, 3)
    assert (tiled[:, :, :24] == 10).all()
    assert (tiled[:, :, 24:28] == 0).all()
    assert (tiled[:, 2:14, 28:] == 20).all()


def test_magnified_pixels_stay_sharp():
    image = np.arange(2 * 2 * 3, dtype=np.uint8).reshape(1, 2, 2, 3)
    magnified = tile_cameras({"head": image}, magnify=3)
    assert magnified.shape == (1, 6, 6, 3)
    assert (magnified[:, 1::3, 1::3] == image).all()


def test_cameras_of_unlike_length_are_refused():
    with pytest.raises(VlaError, match=r"one length, got \[4, 5\]"):
        tile_cameras({"head": frames(5), "wrist": frames(4)})
