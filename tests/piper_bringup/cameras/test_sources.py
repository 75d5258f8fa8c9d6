"""Cameras: sources of every kind, and what becomes of one that is unplugged."""

import time

import numpy as np
import pytest
from PIL import Image as PillowImage

from piper_bringup.cameras import sources as cameras
from piper_bringup.cameras.capture import FIRST_PAUSE, LONGEST_PAUSE, Capture
from piper_bringup.cameras.config import CameraConfig
from piper_bringup.cameras.sources import CameraLost, DeviceSource, Frame, open_source
from vla_policy.errors import VlaError


def image_of(value: int) -> np.ndarray:
    return np.full((48, 64, 3), value, dtype=np.uint8)


class FakeSource:
    """Gives the frames of a list; None in it is a loss."""

    def __init__(self, frames):
        self.frames = list(frames)
        self.is_closed = False

    def read(self):
        frame = self.frames.pop(0) if self.frames else None
        if frame is None:
            raise CameraLost("pulled out")
        return frame

    def close(self):
        self.is_closed = True


class Opener:
    """Opens one source after the other; an error in the list is raised."""

    def __init__(self, *sources):
        self.sources = list(sources)

    def __call__(self, config):
        source = self.sources.pop(0)
        if isinstance(source, Exception):
            raise source
        return source


def frames(*times: float) -> list[Frame]:
    return [Frame(image_of(0), instant) for instant in times]


def capture_of(*sources, rate=10.0):
    delivered = []
    return Capture(CameraConfig(source="/dev/test", rate=rate), delivered.append, Opener(*sources)), delivered


def times_of(delivered: list[Frame]) -> list[float]:
    return [frame.time for frame in delivered]


def test_every_image_is_handed_on_with_the_time_it_was_taken():
    capture, delivered = capture_of(FakeSource(frames(1.0, 1.1, 1.2)))
    assert [capture.step() for _ in range(3)] == [0.0, 0.0, 0.0]
    assert times_of(delivered) == [1.0, 1.1, 1.2]
    assert capture.num_images == 3


def test_a_faster_device_is_thinned_out_to_the_rate_asked_for():
    capture, delivered = capture_of(FakeSource(frames(*(k / 30 for k in range(31)))), rate=10.0)
    for _ in range(31):
        capture.step()
    assert np.diff(times_of(delivered)) == pytest.approx(np.full(10, 0.1))


def test_jitter_of_a_device_at_the_rate_costs_no_image():
    jitter = np.random.default_rng(0).uniform(-0.003, 0.003, 100)
    capture, delivered = capture_of(FakeSource(frames(*(np.arange(100) / 30 + jitter))), rate=30.0)
    for _ in range(100):
        capture.step()
    assert len(delivered) == 100


def test_a_camera_that_is_pulled_out_is_closed_and_opened_again():
    first = FakeSource(frames(1.0))
    capture, delivered = capture_of(first, FakeSource(frames(5.0)))
    assert [capture.step() for _ in range(3)] == [0.0, FIRST_PAUSE, 0.0]
    assert first.is_closed
    assert times_of(delivered) == [1.0, 5.0]
    assert capture.num_losses == 1


def test_pauses_between_tries_grow_to_a_limit_and_begin_anew_after_success():
    gone = [CameraLost("not there") for _ in range(6)]
    capture, _ = capture_of(*gone, FakeSource(frames(1.0)), CameraLost("again"))
    pauses = [capture.step() for _ in range(6)]
    assert pauses == [0.5, 1.0, 2.0, 4.0, LONGEST_PAUSE, LONGEST_PAUSE]
    assert capture.step() == 0.0
    assert capture.step() == FIRST_PAUSE
    assert capture.num_losses == 1, "a camera that was never there is not lost"


def test_the_problem_says_what_is_wrong_and_since_when():
    capture, _ = capture_of(FakeSource(frames(10.0)), CameraLost("/dev/test is not there"))
    assert capture.problem(2.0, since=0.0) is None, "it may take a moment to open"
    assert capture.problem(4.0, since=0.0) == "silent for 4.0 s: not opened yet"
    capture.step()
    assert capture.problem(10.1, since=0.0) is None
    capture.step()
    assert capture.problem(13.5, since=0.0) == "silent for 3.5 s: pulled out"
    capture.step()
    assert capture.problem(14.5, since=0.0) == "silent for 4.5 s: /dev/test is not there"


def test_a_slow_camera_is_not_silent_between_two_images():
    capture, _ = capture_of(FakeSource(frames(10.0)), rate=0.5)
    capture.step()
    assert capture.problem(15.0, since=0.0) is None


def test_whoever_cannot_use_an_image_makes_the_camera_silent_and_says_why():
    def refuse(frame):
        raise VlaError("calibrated at another size")

    capture = Capture(CameraConfig(source="/dev/test"), refuse, Opener(FakeSource(frames(1.0, 2.0))))
    capture.step()
    assert capture.problem(3.5, since=0.0) == "silent for 3.5 s: calibrated at another size"


def test_a_thread_plays_a_folder_over_and_over(tmp_path):
    for value in (10, 20, 30):
        PillowImage.fromarray(image_of(value)).save(tmp_path / f"{value}.png")
    delivered = []
    capture = Capture(CameraConfig(source=str(tmp_path), rate=200.0), delivered.append, open_source)
    begin = time.monotonic()
    capture.start()
    while len(delivered) < 7 and time.monotonic() < begin + 5.0:
        time.sleep(0.002)
    capture.close()
    assert [int(frame.image[0, 0, 0]) for frame in delivered[:7]] == [10, 20, 30, 10, 20, 30, 10]
    assert all(begin <= frame.time <= time.monotonic() for frame in delivered)


def test_a_video_is_played_in_colour_and_over_and_over(tmp_path):
    import av

    path = tmp_path / "red.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=30)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for _ in range(3):
            frame = av.VideoFrame.from_ndarray(
                np.tile(np.array([200, 20, 20], dtype=np.uint8), (48, 64, 1)), format="rgb24"
            )
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    source = open_source(CameraConfig(source=str(path), rate=500.0))
    for _ in range(7):
        np.testing.assert_allclose(source.read().image.mean(axis=(0, 1)), [200, 20, 20], atol=15)
    source.close()


@pytest.mark.parametrize(("name", "told"), [("gone.mp4", "is not there"), ("empty", "holds no images")])
def test_a_source_that_is_not_there_is_named(tmp_path, name, told):
    (tmp_path / "empty").mkdir()
    with pytest.raises(CameraLost, match=told):
        open_source(CameraConfig(source=str(tmp_path / name)))


def test_a_file_that_is_no_video_is_named(tmp_path):
    (tmp_path / "x.mp4").write_text("no video")
    with pytest.raises(CameraLost, match=r"x\.mp4 is no video"):
        open_source(CameraConfig(source=str(tmp_path / "x.mp4")))


class FakeOpenCv:
    """As much of cv2 as a device needs; `log` is what was asked of it."""

    CAP_V4L2, CAP_PROP_FOURCC, CAP_PROP_FPS, CAP_PROP_POS_MSEC = 200, 6, 5, 0
    CAP_PROP_FRAME_WIDTH, CAP_PROP_FRAME_HEIGHT, COLOR_BGR2RGB = 3, 4, 4

    class VideoWriter:
        fourcc = staticmethod(lambda *letters: "".join(letters))

    def __init__(self, width=640, height=480, stamp=0.0):
        self.sizes, self.stamp, self.settings, self.is_there = {3: width, 4: height}, stamp, {}, True

    def VideoCapture(self, source, backend):
        assert backend == self.CAP_V4L2
        return self

    def isOpened(self):
        return self.is_there

    def set(self, key, value):
        self.settings[key] = value

    def get(self, key):
        return 1000.0 * self.stamp if key == self.CAP_PROP_POS_MSEC else self.sizes[key]

    def grab(self):
        return self.is_there

    def retrieve(self):
        return True, np.array([[[1, 2, 3]]], dtype=np.uint8)

    def cvtColor(self, image, code):
        assert code == self.COLOR_BGR2RGB
        return image[..., ::-1]

    def release(self):
        self.is_there = False


@pytest.fixture
def opencv(monkeypatch):
    def use(fake):
        monkeypatch.setattr(cameras, "_opencv", lambda: fake)
        return fake

    return use


def test_a_device_is_asked_for_its_size_and_rate_as_motion_jpeg(opencv):
    fake = opencv(FakeOpenCv())
    DeviceSource(CameraConfig(source="/dev/test", rate=25.0))
    assert fake.settings == {fake.CAP_PROP_FOURCC: "MJPG", 3: 640, 4: 480, fake.CAP_PROP_FPS: 25.0}


@pytest.mark.parametrize(("age", "believed"), [(0.05, True), (-0.5, False), (1e6, False)])
def test_the_kernels_stamp_is_taken_where_it_is_by_our_clock(opencv, age, believed):
    now = time.monotonic()
    opencv(FakeOpenCv(stamp=now - age))
    frame = DeviceSource(CameraConfig(source="/dev/test")).read()
    np.testing.assert_array_equal(frame.image, [[[3, 2, 1]]])
    assert (frame.time == pytest.approx(now - age, abs=1e-3)) == believed
    assert believed or now <= frame.time <= time.monotonic()


def test_a_device_without_that_size_is_refused_with_the_command_that_lists_them(opencv):
    opencv(FakeOpenCv(width=1280))
    with pytest.raises(CameraLost, match=r"gives 1280 x 480 px instead of 640 x 480.*--list-formats-ext"):
        DeviceSource(CameraConfig(source="/dev/test"))


def test_a_device_that_is_pulled_out_says_so(opencv):
    fake = opencv(FakeOpenCv())
    source = DeviceSource(CameraConfig(source="/dev/test"))
    fake.is_there = False
    with pytest.raises(CameraLost, match="gives no images; check its cable"):
        source.read()
