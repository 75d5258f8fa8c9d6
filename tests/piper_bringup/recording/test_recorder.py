"""Episodes: what they need to start, what ends them, what stands in their bags."""

import dataclasses
import io
import json
import threading

import numpy as np
import pytest
from PIL import Image as PillowImage
from rosbags.highlevel import AnyReader
from rosbags.rosbag2 import Reader

from piper_bringup.recording import episode_bag
from piper_bringup.recording.bag_files import DISCARDED, unfinished
from piper_bringup.recording.episode_bag import COMPRESSED, IMAGE, STRING, TYPES
from piper_bringup.recording.recorder import Recorder, RecorderConfig
from vla_policy import topics
from vla_policy.embodiment import Camera, Embodiment, Joint
from vla_policy.episode_info import EpisodeInfo
from vla_policy.errors import VlaError

ROBOT = Embodiment(
    name="one_joint",
    joints=(Joint(name="elbow", lower=-1.5, upper=1.5, max_velocity=3.0, max_acceleration=5.0),),
    cameras=(Camera(name="head", height=8, width=8, fovy=1.0),),
    control_period=0.04,
)
JOINTS = "sensor_msgs/msg/JointState"
PIXELS = np.linspace(0, 255, 48 * 64 * 3).reshape(48, 64, 3).astype(np.uint8)
START = 1_763_800_000_000_000_000


def header(stamp):
    time = TYPES.types["builtin_interfaces/msg/Time"](sec=stamp // 10**9, nanosec=stamp % 10**9)
    return TYPES.types["std_msgs/msg/Header"](stamp=time, frame_id="head")


def string(text):
    return bytes(TYPES.serialize_cdr(TYPES.types[STRING](data=text), STRING))


def joints(stamp, value):
    message = TYPES.types[JOINTS](
        header=header(stamp), name=["elbow"], position=np.array([value]), velocity=np.array([]), effort=np.array([])
    )
    return bytes(TYPES.serialize_cdr(message, JOINTS))


def image(stamp, pixels=PIXELS, encoding="rgb8"):
    height, width = pixels.shape[:2]
    message = TYPES.types[IMAGE](
        header=header(stamp), height=height, width=width, encoding=encoding, is_bigendian=0,
        step=pixels.nbytes // height, data=pixels.reshape(-1).view(np.uint8),
    )  # fmt: skip
    return bytes(TYPES.serialize_cdr(message, IMAGE))


class Station:
    """A recorder that hears everything it needs, and a disk."""

    def __init__(self, bags, **config):
        self.free = 100e9
        self.now, self.stamp = 10.0, START
        config = {"folder": bags, "instruction": "press the bell"} | config
        self.recorder = Recorder(RecorderConfig(**config), ROBOT, "3cb6913", free=lambda _: self.free)
        self.sent: dict[str, list[bytes]] = {}

    def hear(self, *, leave_out=(), image=image):
        self.now, self.stamp = self.now + 0.1, self.stamp + 100_000_000
        value = self.now / 100
        for topic, data in {
            topics.JOINT_STATES: joints(self.stamp, value),
            topics.JOINT_COMMANDS: joints(self.stamp, -value),
            topics.image("head"): image(self.stamp),
        }.items():
            if topic not in leave_out:
                self.sent.setdefault(topic, []).append(data)
                self.recorder.take(topic, data, self.stamp, self.now)

    def start(self):
        self.hear()
        self.sent.clear()
        return self.recorder.start(self.stamp, self.now)

    def end(self, outcome="success"):
        return self.recorder.end(outcome, self.stamp)


@pytest.fixture
def station(tmp_path):
    made = Station(tmp_path / "bags")
    yield made
    made.recorder.close(made.stamp)


def content(bag):
    """Topic to the bytes on it."""
    found = {}
    with Reader(bag) as reader:
        for connection, _, data in reader.messages():
            found.setdefault(connection.topic, []).append(data)
    return found


def info_of(bag):
    with Reader(bag) as reader:
        return EpisodeInfo.of(reader.storage.metadata.custom, "bag")


def test_messages_stand_in_the_bag_as_the_bytes_they_came_as(tmp_path):
    station = Station(tmp_path, images="raw")
    assert station.start() == "episode_000000_press_the_bell"
    for _ in range(20):
        station.hear()
    bag = station.end()
    found = content(bag)
    assert {topic: found[topic] for topic in station.sent} == station.sent
    assert sum(map(len, found.values())) == 60 + 2, "and the info twice"


def test_a_bag_tells_instruction_robot_software_and_outcome(tmp_path):
    station = Station(tmp_path, task="click_bell")
    station.start()
    bag = station.end("failure")
    assert bag.name == "episode_000000_click_bell_failure"
    assert info_of(bag) == EpisodeInfo(
        instruction="press the bell", task="click_bell", embodiment=ROBOT.to_json(), software="3cb6913",
        outcome="failure",
    )  # fmt: skip
    told = [json.loads(TYPES.deserialize_cdr(data, STRING).data) for data in content(bag)[topics.EPISODE_INFO]]
    assert [each["outcome"] for each in told] == ["unknown", "failure"]
    assert not station.recorder.problem


def test_images_are_stored_as_jpeg_that_shows_them(station):
    station.start()
    station.hear()
    found = content(station.end())
    assert topics.image("head") not in found
    [data] = found[topics.compressed("head")]
    message = TYPES.deserialize_cdr(data, COMPRESSED)
    assert message.header.stamp.sec * 10**9 + message.header.stamp.nanosec == station.stamp
    shown = np.asarray(PillowImage.open(io.BytesIO(message.data.tobytes())))
    assert np.abs(shown.astype(int) - PIXELS).mean() < 4


def test_colours_keep_their_order_and_other_encodings_stay_raw(station):
    jpeg = episode_bag.to_jpeg(image(START, PIXELS[..., ::-1].copy(), "bgr8"), 90)
    assert bytes(jpeg)[40:] == bytes(episode_bag.to_jpeg(image(START), 90))[40:], "all but the name of the encoding"
    grey = TYPES.deserialize_cdr(episode_bag.to_jpeg(image(START, PIXELS[..., 0].copy(), "mono8"), 90), COMPRESSED)
    assert np.asarray(PillowImage.open(io.BytesIO(grey.data.tobytes()))).shape == (48, 64)
    station.start()
    depth = np.zeros((48, 64), np.uint16)
    station.hear(image=lambda stamp: image(stamp, depth, "16UC1"))
    found = content(station.end())
    assert found[topics.image("head")] == station.sent[topics.image("head")]


def test_a_cameras_own_jpeg_topic_is_taken_unchanged(station):
    station.recorder.watch(["head"])
    assert topics.image("head") not in station.recorder.streams
    data = bytes(episode_bag.to_jpeg(image(START), 50))
    station.recorder.take(topics.compressed("head"), data, station.stamp, station.now + 0.1)
    station.start()
    station.recorder.watch([])
    assert topics.compressed("head") in station.recorder.streams, "a running episode keeps its topics"
    station.recorder.take(topics.compressed("head"), data, station.stamp, station.now)
    assert content(station.end())[topics.compressed("head")] == [data]


def test_the_newest_instruction_counts_and_stands_at_the_start_of_every_episode(station):
    for text in ("lift the bottle", "stack the bowls"):
        station.recorder.take(topics.INSTRUCTION, string(text), station.stamp, station.now)
    for name in ("episode_000000_stack_the_bowls_success", "episode_000001_stack_the_bowls_success"):
        station.start()
        bag = station.end()
        assert bag.name == name
        assert info_of(bag).instruction == "stack the bowls"
        assert content(bag)[topics.INSTRUCTION] == [string("stack the bowls")]


def test_discarded_episodes_are_moved_aside_not_deleted(station):
    station.start()
    station.hear()
    bag = station.end(DISCARDED)
    assert bag.parent.name == "discarded"
    assert len(content(bag)[topics.JOINT_STATES]) == 1


def test_what_is_silent_is_named_and_nothing_starts(station):
    everything = [topics.JOINT_STATES, topics.JOINT_COMMANDS, topics.image("head")]
    with pytest.raises(VlaError, match=f"cannot record: {', '.join(everything)} silent"):
        station.recorder.start(station.stamp, station.now)
    station.hear(leave_out=[topics.JOINT_COMMANDS])
    with pytest.raises(VlaError, match="cannot record: /joint_commands silent; start what publishes"):
        station.recorder.start(station.stamp, station.now)
    station.hear()
    with pytest.raises(VlaError, match="silent"):
        station.recorder.start(station.stamp, station.now + 1.1)


def test_an_episode_needs_an_instruction_and_disk_space(tmp_path):
    station = Station(tmp_path, instruction=None)
    with pytest.raises(VlaError, match="nobody has told the task; publish it on /instruction"):
        station.start()
    station.recorder.take(topics.INSTRUCTION, string("lift it"), station.stamp, station.now)
    station.free = 1.9e9
    with pytest.raises(VlaError, match=r"1.9 GB are free in .*, 2.0 are needed; free some space"):
        station.start()
    assert not list(tmp_path.iterdir())


def test_episodes_do_not_overlap_and_end_once(station):
    station.start()
    with pytest.raises(VlaError, match="episode_000000_press_the_bell is being recorded; end it by success"):
        station.recorder.start(station.stamp, station.now)
    station.end()
    with pytest.raises(VlaError, match="no episode is being recorded"):
        station.end()


def test_a_topic_that_falls_silent_ends_the_episode_and_keeps_what_is_there(station):
    station.start()
    for _ in range(9):
        station.hear(leave_out=[topics.image("head")])
        station.recorder.check(station.stamp, station.now)
    assert station.recorder.problem is None
    for _ in range(3):
        station.hear(leave_out=[topics.image("head")])
        station.recorder.check(station.stamp, station.now)
    assert station.recorder.problem == (
        "/camera/head/image_raw fell silent; episode_000000_press_the_bell_unknown holds what came before"
    )
    with pytest.raises(VlaError, match="no episode is being recorded: /camera/head/image_raw fell silent"):
        station.end()
    [bag] = station.recorder._config.folder.iterdir()
    assert info_of(bag).reason == "/camera/head/image_raw fell silent"
    assert len(content(bag)[topics.JOINT_STATES]) == 11
    station.start()
    assert station.recorder.problem is None


def test_a_disk_that_gets_full_ends_the_episode_in_time(station):
    station.start()
    station.hear()
    station.free = 0.4e9
    station.recorder.check(station.stamp, station.now)
    assert station.recorder.problem.startswith("only 0.4 GB of disk are left; episode_000000")
    [bag] = station.recorder._config.folder.iterdir()
    assert len(content(bag)[topics.JOINT_STATES]) == 1


def test_a_disk_that_refuses_leaves_the_episode_to_be_recovered(station, monkeypatch):
    station.start()

    def refuse(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(station.recorder._episode.bag._writer, "write", refuse)
    station.hear()
    with pytest.raises(VlaError, match=r"could not be finished .*No space left.*recover_bag"):
        station.end()
    assert len(unfinished(station.recorder._config.folder)) == 1
    assert "No space left" in station.recorder.problem


def test_messages_the_disk_is_too_slow_for_are_counted_and_told(tmp_path, monkeypatch):
    station = Station(tmp_path, queue_mb=2, images="raw")
    station.start()
    writer, works_again = station.recorder._episode.bag._writer, threading.Event()
    write = writer.write
    monkeypatch.setattr(writer, "write", lambda *message: works_again.wait(5) and write(*message))
    large = np.zeros((480, 640, 3), np.uint8)  # two of them are 1.8 MB
    for _ in range(5):
        station.hear(image=lambda stamp: image(stamp, large))
    assert station.recorder.values(station.now)["dropped"] == 3
    works_again.set()
    bag = station.end()
    assert "lacks messages that the disk was too slow for (/camera/head/image_raw: 3)" in station.recorder.problem
    assert info_of(bag).dropped == "/camera/head/image_raw: 3"
    assert len(content(bag)[topics.image("head")]) == 2
    assert len(content(bag)[topics.JOINT_STATES]) == 5


def test_diagnostics_tell_what_goes_on(station):
    assert station.recorder.values(station.now)["missing"] == "/joint_states, /joint_commands, /camera/head/image_raw"
    station.start()
    station.hear()
    values = station.recorder.values(station.now)
    assert values["episode"] == "episode_000000_press_the_bell"
    assert (values["messages"], values["dropped"], values["missing"], values["free_gb"]) == (3, 0, "", 100.0)


def test_a_recorder_that_is_stopped_finishes_its_episode(station):
    station.start()
    station.hear()
    assert station.recorder.close(station.stamp) is None
    [bag] = station.recorder._config.folder.iterdir()
    assert info_of(bag).reason == "the recorder was stopped"


def test_every_reader_of_rosbag2_can_read_the_bag(station):
    station.start()
    station.hear()
    with AnyReader([station.end()]) as reader:
        values = [
            reader.deserialize(data, connection.msgtype).position[0]
            for connection, _, data in reader.messages()
            if connection.topic == topics.JOINT_COMMANDS
        ]
    assert values == pytest.approx([-station.now / 100])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"jpeg_quality": 0}, "jpeg_quality is 0; give 1 to 100"),
        ({"topic_timeout": 0.0}, "must be positive"),
        ({"stop_free_gb": 3.0}, "stop_free_gb is 3.0 and min_free_gb 2.0"),
    ],
)
def test_what_cannot_be_meant_is_refused(change, message):
    with pytest.raises(VlaError, match=message):
        dataclasses.replace(RecorderConfig(), **change)
