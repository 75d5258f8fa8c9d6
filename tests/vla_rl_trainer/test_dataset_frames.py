import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vla_policy.errors import VlaError
from vla_rl_trainer.dataset import EpisodeData, FrameTable
from vla_rl_trainer.dataset.images import decode_image, encode_png, square_images
from vla_rl_trainer.dataset.statistics import image_histogram, image_statistics, vector_statistics

CAMERAS = ("head", "wrist")


def episode(length=3, first=0.0, instruction="ring the bell", side=4, cameras=CAMERAS):
    """Action t is (first + t, -(first + t)); the image of camera c is filled with 10 c + t."""
    steps = np.arange(length, dtype=np.float32)[:, None]
    shade = np.arange(length, dtype=np.uint8)[:, None, None, None] + np.zeros((1, side, side, 3), np.uint8)
    return EpisodeData(
        images={camera: shade + np.uint8(10 * number) for number, camera in enumerate(cameras)},
        state=np.concatenate([steps, steps, steps], axis=1),
        action=np.concatenate([first + steps, -first - steps], axis=1),
        instruction=instruction,
        success=True,
        seed=None,
        task="click_bell",
    )


def test_episodes_follow_each_other_and_know_their_ends():
    table = FrameTable.from_episodes([episode(3), episode(2, 10.0, "press the bell"), episode(1)], CAMERAS, None)
    assert len(table) == 6
    assert table.images_NCHW3.shape == (6, 2, 4, 4, 3)
    assert table.episode_N.tolist() == [0, 0, 0, 1, 1, 2]
    assert table.end_N.tolist() == [3, 3, 3, 5, 5, 6]
    assert table.instructions == ["ring the bell", "press the bell"]
    assert table.instructions_of([0, 3, 5]) == ["ring the bell", "press the bell", "ring the bell"]
    assert table.action_MA.dtype == table.state_NS.dtype == np.float32


def test_the_camera_axis_takes_the_order_asked_for():
    table = FrameTable.from_episodes([episode()], ("wrist", "head"), None)
    assert table.images_NCHW3[1, :, 0, 0, 0].tolist() == [11, 1]


def test_a_chunk_begins_with_the_frame_and_repeats_the_last_action_past_the_end():
    table = FrameTable.from_episodes([episode(3), episode(2, 10.0)], CAMERAS, None)
    chunks = table.chunks([1, 2, 3], 3)
    assert chunks.shape == (3, 3, 2)
    assert chunks[:, :, 0].tolist() == [[1, 2, 2], [2, 2, 2], [10, 11, 11]]


@given(lengths=st.lists(st.integers(1, 6), min_size=1, max_size=4), chunk=st.integers(1, 9))
def test_no_chunk_reaches_into_another_episode(lengths, chunk):
    episodes = [episode(length, 100.0 * number, side=1) for number, length in enumerate(lengths)]
    table = FrameTable.from_episodes(episodes, CAMERAS, None)
    chunks = table.chunks(np.arange(len(table)), chunk)
    assert (chunks[:, :, 0] // 100 == table.episode_N[:, None]).all()
    assert (np.diff(chunks[:, :, 0], axis=1) >= 0).all()


def test_tables_one_after_the_other_equal_one_table():
    episodes = [episode(3), episode(2, 10.0, "press the bell"), episode(4, 20.0)]
    parts = [FrameTable.from_episodes(part, CAMERAS, None) for part in (episodes[:1], episodes[1:])]
    joined, whole = FrameTable.concatenate(parts), FrameTable.from_episodes(episodes, CAMERAS, None)
    assert joined.instructions == whole.instructions
    for name in ("images_NCHW3", "state_NS", "action_MA", "episode_N", "end_N", "instruction_N"):
        np.testing.assert_array_equal(getattr(joined, name), getattr(whole, name))


MEASURED = """
import numpy as np
from pathlib import Path
from vla_rl_trainer.dataset import FrameTable

def table():
    images = np.ones((16, 1, 512, 1024, 3), np.uint8)
    rows, none = np.zeros((16, 2), np.float32), np.zeros(16, np.int64)
    return FrameTable(cameras=("head",), images_NCHW3=images, state_NS=rows, action_MA=rows, action_N=np.arange(16),
                      end_N=none + 16, episode_N=none, instructions=["ring"], instruction_N=none)

def peak():
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) / 1024

before = peak()
tables = [table() for _ in range(8)]
held = peak()
joined = FrameTable.concatenate(tables)
print(held - before, peak() - held, len(joined), len(tables), int(joined.images_NCHW3.sum()))
"""


def test_joining_tables_takes_the_memory_of_one_more_not_of_all_again():
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    answer = subprocess.run(
        [sys.executable, "-c", MEASURED], env=environment, capture_output=True, text=True, check=True
    )
    held, more, num_frames, num_left, total = (float(word) for word in answer.stdout.split())  # [MiB]
    assert held == pytest.approx(8 * 24, rel=0.1)
    assert more < 1.5 * 24
    assert (num_frames, num_left, total) == (8 * 16, 0, 8 * 24 * 2**20)


def test_tables_of_unlike_sizes_are_not_mixed():
    small, large = (FrameTable.from_episodes([episode(side=side)], CAMERAS, None) for side in (2, 4))
    with pytest.raises(VlaError, match="cannot be mixed"):
        FrameTable.concatenate([small, large])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: FrameTable.from_episodes([], CAMERAS, None), "no episodes to train on; collect"),
        (lambda: FrameTable.concatenate([]), "no frames to train on; collect"),
        (lambda: FrameTable.from_episodes([episode(cameras=("head",))], CAMERAS, None), "camera wrist is missing"),
        (lambda: FrameTable.from_episodes([episode(side=2), episode(side=4)], CAMERAS, None), "set one size"),
        (lambda: FrameTable.from_episodes([episode()], CAMERAS, 0), "not positive"),
        (lambda: FrameTable.from_episodes([episode()], CAMERAS, None).chunks([0], 0), "not positive"),
    ],
)
def test_what_cannot_be_trained_on_is_refused(make, message):
    with pytest.raises(VlaError, match=message):
        make()


def test_a_size_that_divides_evenly_gives_the_mean_of_each_block():
    images = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 3), dtype=np.uint8)
    means = images.reshape(2, 2, 4, 2, 4, 3).mean(axis=(2, 4))
    assert np.abs(square_images(images, 2) - means).max() <= 0.5 + 1e-9


def test_wide_images_lose_their_sides():
    images = np.zeros((1, 4, 8, 3), dtype=np.uint8)
    images[:, :, 2:6] = 255
    assert (square_images(images, 4) == 255).all()
    assert (square_images(images, 3) == 255).all()
    assert square_images(images, 6).shape == (1, 6, 6, 3)


def test_png_bytes_are_lossless_and_other_bytes_refused():
    image = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    data = encode_png(image)
    np.testing.assert_array_equal(decode_image(data, "x"), image)
    for broken in (b"", b"GIF89a", data[: len(data) // 2]):
        with pytest.raises(VlaError, match="x holds an image that cannot be read"):
            decode_image(broken, "x")


def test_vector_statistics_are_those_of_numpy():
    values = np.random.default_rng(0).normal(size=(101, 2))
    got = vector_statistics(values)
    np.testing.assert_allclose(got["mean"], values.mean(axis=0))
    np.testing.assert_allclose(got["std"], values.std(axis=0))
    np.testing.assert_allclose(got["q01"], np.sort(values, axis=0)[1])
    np.testing.assert_allclose(got["max"], values.max(axis=0))
    assert got["count"] == [101]


def test_image_statistics_are_exact_and_shaped_as_lerobot_has_them():
    images = np.random.default_rng(0).integers(3, 200, (6, 9, 9, 3), dtype=np.uint8)
    got = image_statistics(image_histogram(images), 6)
    channel = images[..., 1] / 255.0
    assert np.shape(got["mean"]) == (3, 1, 1)
    assert got["mean"][1][0][0] == pytest.approx(channel.mean())
    assert got["std"][1][0][0] == pytest.approx(channel.std())
    assert (got["min"][1][0][0], got["max"][1][0][0]) == (channel.min(), channel.max())
    assert got["q50"][1][0][0] == pytest.approx(np.quantile(channel, 0.5, method="inverted_cdf"))
    assert got["count"] == [6]
