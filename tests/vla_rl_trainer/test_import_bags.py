"""Bags become the episodes they were recorded from; what cannot be imported says why."""

import dataclasses
import io
import json
import shutil

import numpy as np
import pytest
from PIL import Image as PillowImage
from rosbags.rosbag2 import Reader, StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore

from piper_bringup.recording.recorder import Recorder, RecorderConfig
from vla_policy import topics
from vla_policy.embodiment import Camera, Embodiment, Joint
from vla_policy.episode_info import EpisodeInfo
from vla_policy.errors import VlaError
from vla_rl_trainer import import_bags as module
from vla_rl_trainer.command import run_command
from vla_rl_trainer.dataset import Dataset
from vla_rl_trainer.import_bags import REPORT, ImportConfig, find_bags, import_bags, main

TYPES = get_typestore(Stores.ROS2_JAZZY)
JOINTS, IMAGE, JPEG = "sensor_msgs/msg/JointState", "sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage"
ROBOT = Embodiment(
    name="two_joints",
    joints=tuple(
        Joint(name=name, lower=-1.5, upper=1.5, max_velocity=3.0, max_acceleration=5.0) for name in ("elbow", "gripper")
    ),
    cameras=tuple(Camera(name=name, height=16, width=16, fovy=1.0) for name in ("head", "wrist")),
    control_period=0.04,
)
INFO = EpisodeInfo(
    instruction="press the bell", task="click_bell", embodiment=ROBOT.to_json(), software="3cb6913", outcome="success"
)
ROWS = 12
START = 1_763_800_000_000_000_000
PERIOD = 40_000_000


def header(stamp):
    time = TYPES.types["builtin_interfaces/msg/Time"](sec=stamp // 10**9, nanosec=stamp % 10**9)
    return TYPES.types["std_msgs/msg/Header"](stamp=time, frame_id="head")


def joints(stamp, values, names=("elbow", "gripper")):
    message = TYPES.types[JOINTS](
        header=header(stamp), name=list(names), position=np.asarray(values, float), velocity=np.array([]),
        effort=np.array([]),
    )  # fmt: skip
    return JOINTS, message


def image(stamp, pixels, encoding="rgb8"):
    height, width = pixels.shape[:2]
    ordered = pixels[..., ::-1] if encoding == "bgr8" else pixels
    padded = np.zeros((height, 3 * width + 5), np.uint8)
    padded[:, : 3 * width] = ordered.reshape(height, -1)
    return IMAGE, TYPES.types[IMAGE](
        header=header(stamp), height=height, width=width, encoding=encoding, is_bigendian=0, step=3 * width + 5,
        data=padded.reshape(-1),
    )  # fmt: skip


def jpeg(stamp, pixels):
    buffer = io.BytesIO()
    PillowImage.fromarray(pixels).save(buffer, format="JPEG", quality=95)
    data = np.frombuffer(buffer.getvalue(), np.uint8)
    return JPEG, TYPES.types[JPEG](header=header(stamp), format="bgr8; jpeg compressed bgr8", data=data)


@dataclasses.dataclass
class Synthetic:
    """An episode, and the messages a graph would have sent of it."""

    images: dict[str, np.ndarray]
    state: np.ndarray
    action: np.ndarray
    height: int = 16
    width: int = 16

    @classmethod
    def make(cls, seed=0, height=16, width=16):
        rng = np.random.default_rng(seed)
        y, x = np.mgrid[0:height, 0:width]
        shades = np.stack([x * 255 // width, y * 255 // height, 0 * x], axis=-1)
        images = {
            name: np.stack([(shades + 10 * row + 90 * number) % 256 for row in range(ROWS)]).astype(np.uint8)
            for number, name in enumerate(ROBOT.camera_names)
        }
        state, action = rng.normal(size=(2, ROWS, 2)).astype(np.float32)
        return cls(images, state, action, height, width)

    def messages(self, camera=image, names=("elbow", "gripper")):
        """Topic, stamp and message, joints at 200 Hz and images at 25 Hz, in the order of the stamps."""
        columns = [("elbow", "gripper").index(name) for name in names if name in ("elbow", "gripper")]
        found = []
        for tick in range(ROWS * 8 + 1):
            stamp, row = START + tick * PERIOD // 8, min(tick // 8, ROWS - 1)
            state = self.state[row] + (tick % 8)
            found.append((topics.JOINT_STATES, stamp, *joints(stamp, state[columns], names)))
            if tick:
                command = self.action[(tick - 1) // 8] + (-tick % 8)
                found.append((topics.JOINT_COMMANDS, stamp, *joints(stamp, command[columns], names)))
            if tick % 8 == 0 and tick < 8 * ROWS:
                for name, frames in self.images.items():
                    kind, message = camera(stamp, frames[row])
                    topic = topics.compressed(name) if kind == JPEG else topics.image(name)
                    found.append((topic, stamp, kind, message))
        return found


def write(path, messages, info=INFO, storage=StoragePlugin.MCAP):
    """A bag as our recorder leaves it, or without `info` as ros2 bag record does."""
    with Writer(path, version=9, storage_plugin=storage) as writer:
        connections = {}
        for topic, stamp, kind, message in messages:
            if topic not in connections:
                connections[topic] = writer.add_connection(topic, kind, typestore=TYPES)
            writer.write(connections[topic], stamp + 1_000_000, TYPES.serialize_cdr(message, kind))
        for key, value in (info.custom_data() if info else {}).items():
            writer.set_custom_data(key, value)
    return path


def string(text):
    return "std_msgs/msg/String", TYPES.types["std_msgs/msg/String"](data=text)


def imported(tmp_path, *bags, **changes):
    config = ImportConfig(bags=bags, out=tmp_path / "data", **changes)
    done, left_out = import_bags(config, ROBOT)
    return Dataset(tmp_path / "data", ROBOT), done, left_out


def assert_same(episode, synthetic):
    np.testing.assert_array_equal(episode.state, synthetic.state)
    np.testing.assert_array_equal(episode.action, synthetic.action)
    for name, frames in synthetic.images.items():
        np.testing.assert_array_equal(episode.images[name], frames)


@pytest.mark.parametrize("storage", list(StoragePlugin))
@pytest.mark.parametrize("encoding", ["rgb8", "bgr8"])
def test_a_bag_comes_back_as_the_episode_it_was_written_from(tmp_path, storage, encoding):
    synthetic = Synthetic.make()
    messages = synthetic.messages(lambda stamp, pixels: image(stamp, pixels, encoding))
    dataset, [report], left_out = imported(tmp_path, write(tmp_path / "bag", messages, storage=storage))
    episode = dataset.episode(0)
    assert_same(episode, synthetic)
    assert (episode.instruction, episode.task, episode.success, episode.seed) == (
        "press the bell", "click_bell", True, None,
    )  # fmt: skip
    assert (report.num_frames, left_out) == (ROWS, [])
    assert all(each.worst_age < 1e-6 for each in report.streams.values())


def test_what_the_recorder_records_is_what_is_imported(tmp_path):
    synthetic = Synthetic.make(1)
    config = RecorderConfig(folder=tmp_path / "bags", images="raw", task="click_bell")
    recorder = Recorder(config, ROBOT, "3cb6913", free=lambda _: 10**12)
    messages = synthetic.messages()
    recorder.take(
        topics.INSTRUCTION, bytes(TYPES.serialize_cdr(string("press the bell")[1], "std_msgs/msg/String")), 0, 0
    )
    for topic, stamp, kind, message in messages[:4]:  # alive before the start
        recorder.take(topic, bytes(TYPES.serialize_cdr(message, kind)), stamp, 0.0)
    recorder.take(topics.JOINT_COMMANDS, bytes(TYPES.serialize_cdr(messages[4][3], JOINTS)), START, 0.0)
    recorder.start(START, 0.0)
    for topic, stamp, kind, message in messages:
        recorder.take(topic, bytes(TYPES.serialize_cdr(message, kind)), stamp, 0.0)
    bag = recorder.end("success", START)
    dataset, _, left_out = imported(tmp_path, tmp_path / "bags")
    assert not left_out
    assert_same(dataset.episode(0), synthetic)
    assert dataset.episode(0).task == "click_bell"
    [file] = bag.glob("*.mcap")
    shutil.rmtree(tmp_path / "data")
    assert_same(imported(tmp_path, file)[0].episode(0), synthetic)


def test_jpeg_images_of_any_size_are_cut_to_the_middle_square(tmp_path):
    synthetic = Synthetic.make(height=48, width=64)
    dataset, _, _ = imported(tmp_path, write(tmp_path / "bag", synthetic.messages(jpeg)))
    frames = dataset.episode(0).images["head"]
    assert frames.shape == (ROWS, 16, 16, 3)
    middle = synthetic.images["head"][:, :, 8:56].reshape(ROWS, 16, 3, 16, 3, 3).astype(float).mean(axis=(2, 4))
    assert np.abs(frames - middle).mean() < 12


def test_exact_images_are_preferred_where_a_bag_has_both(tmp_path):
    synthetic = Synthetic.make()
    messages = synthetic.messages() + synthetic.messages(jpeg)
    dataset, _, _ = imported(tmp_path, write(tmp_path / "bag", messages))
    np.testing.assert_array_equal(dataset.episode(0).images["head"], synthetic.images["head"])


def test_joints_are_found_by_name_and_messages_by_stamp_not_by_arrival(tmp_path):
    synthetic = Synthetic.make()
    messages = synthetic.messages(names=("gripper", "elbow"))
    np.random.default_rng(0).shuffle(messages)
    late = [(topic, START, kind, message) for topic, _, kind, message in messages]
    assert_same(imported(tmp_path, write(tmp_path / "bag", late))[0].episode(0), synthetic)


def test_messages_without_stamps_are_ordered_by_arrival(tmp_path):
    synthetic = Synthetic.make()
    messages = synthetic.messages()
    for *_, message in messages:
        message.header.stamp.sec = message.header.stamp.nanosec = 0
    assert_same(imported(tmp_path, write(tmp_path / "bag", messages))[0].episode(0), synthetic)


def test_a_bag_of_ros2_bag_record_is_imported_once_its_outcome_is_told(tmp_path):
    synthetic = Synthetic.make()
    messages = [(topics.INSTRUCTION, START, *string("lift it")), *synthetic.messages()]
    bag = write(tmp_path / "bag", messages, info=None)
    with pytest.raises(VlaError, match="has the outcome unknown; tell it with --outcome success"):
        imported(tmp_path, bag)
    episode = imported(tmp_path, bag, outcome="success")[0].episode(0)
    assert (episode.instruction, episode.task, episode.success) == ("lift it", "lift it", True)


def test_an_instruction_that_the_bag_lacks_can_be_given(tmp_path):
    bag = write(tmp_path / "bag", Synthetic.make().messages(), info=None)
    with pytest.raises(VlaError, match="does not tell what the robot was told; say it with --instruction"):
        imported(tmp_path, bag, outcome="success")
    dataset, _, _ = imported(tmp_path, bag, outcome="success", instruction="lift it")
    assert dataset.episode(0).instruction == "lift it"


def test_failures_are_left_out_unless_asked_for(tmp_path):
    messages = Synthetic.make().messages()
    write(tmp_path / "bags" / "a_success", messages)
    write(tmp_path / "bags" / "b_failure", messages, dataclasses.replace(INFO, outcome="failure"))
    dataset, done, [left_out] = imported(tmp_path, tmp_path / "bags")
    assert [each.bag for each in done] == [str(tmp_path / "bags" / "a_success")]
    assert left_out.reason.endswith("b_failure has the outcome failure; --include failure takes it")
    shutil.rmtree(dataset.path)
    dataset, _, _ = imported(tmp_path, tmp_path / "bags", include=("failure",))
    assert dataset.success_E.tolist() == [True, False]


def other_robot(**changes):
    return dataclasses.replace(INFO, embodiment=dataclasses.replace(ROBOT, **changes).to_json())


@pytest.mark.parametrize(
    ("info", "names", "message"),
    [
        (other_robot(control_period=0.05), ("elbow", "gripper"), "bag .*/bag has a control period of 0.05 s"),
        (other_robot(cameras=ROBOT.cameras[:1]), ("elbow", "gripper"), r"has cameras \('head',\), the robot has"),
        (INFO, ("elbow", "wrist"), "/joint_states lacks gripper; two_joints has them: another robot"),
    ],
)
def test_a_bag_of_another_robot_is_refused_by_name(tmp_path, info, names, message):
    messages = Synthetic.make().messages() if "gripper" in names else []
    if not messages:
        messages = [(topics.JOINT_STATES, START, *joints(START, [0.0, 0.0], names))]
    with pytest.raises(VlaError, match=message):
        imported(tmp_path, write(tmp_path / "bag", messages, info))


def test_a_bag_whose_end_is_missing_names_its_remedy(tmp_path):
    bag = write(tmp_path / "bag", Synthetic.make().messages())
    [file] = bag.glob("*.mcap")
    file.write_bytes(file.read_bytes()[:-5000])
    with pytest.raises(VlaError, match=r"is unfinished or cut off .*python -m piper_bringup.recover_bag .*/bag"):
        imported(tmp_path, bag)
    (bag / "metadata.yaml").unlink()
    with pytest.raises(VlaError, match="recover_bag"):
        imported(tmp_path, bag)


def test_an_unfinished_episode_among_finished_ones_is_told(tmp_path):
    write(tmp_path / "bags" / "episode_000000_a_success", Synthetic.make().messages())
    (tmp_path / "bags" / ".episode_000001_b.recording").mkdir()
    (tmp_path / "bags" / "discarded" / "episode_000002_c").mkdir(parents=True)
    _, done, [left_out] = imported(tmp_path, tmp_path / "bags")
    assert len(done) == 1
    assert "is unfinished; save it with python -m piper_bringup.recover_bag" in left_out.reason


@pytest.mark.parametrize(
    ("leave_out", "message"),
    [
        (topics.image("wrist"), "holds no message of wrist"),
        (topics.JOINT_COMMANDS, "holds no message of /joint_commands"),
    ],
)
def test_a_missing_topic_is_named(tmp_path, leave_out, message):
    messages = [each for each in Synthetic.make().messages() if each[0] != leave_out]
    with pytest.raises(VlaError, match=message):
        imported(tmp_path, write(tmp_path / "bag", messages))


def test_images_that_cannot_be_read_are_named(tmp_path):
    messages = Synthetic.make().messages()
    for *_, kind, message in messages:
        if kind == IMAGE:
            message.encoding = "16UC1"
    with pytest.raises(VlaError, match="/camera/head/image_raw has '16UC1' images; record one of rgb8, bgr8, or JPEG"):
        imported(tmp_path, write(tmp_path / "bag", messages))


def test_the_report_in_the_dataset_tells_what_each_camera_missed(tmp_path, capsys, monkeypatch):
    messages = [
        each
        for each in Synthetic.make().messages()
        if not (each[0] == topics.image("wrist") and each[1] in (START + 4 * PERIOD, START + 5 * PERIOD))
    ]
    write(tmp_path / "bags" / "a", messages)
    write(tmp_path / "bags" / "b", messages, dataclasses.replace(INFO, outcome="failure"))
    monkeypatch.setattr(module, "DUAL_PIPER", ROBOT)
    main(ImportConfig(bags=(tmp_path / "bags",), out=tmp_path / "data"))
    content = json.loads((tmp_path / "data" / REPORT).read_text())
    wrist = content["imported"][0]["streams"]["wrist"]
    assert (wrist["num_missing"], wrist["num_gaps"], wrist["num_far"]) == (2, 1, 2)
    assert wrist["worst_age"] == pytest.approx(0.04)
    assert content["imported"][0]["streams"]["head"]["num_missing"] == 0
    assert [each["bag"] for each in content["left_out"]] == [str(tmp_path / "bags" / "b")]
    printed = " ".join(capsys.readouterr().out.split())
    assert "120 ms" in printed
    assert "left out: bag" in printed
    assert "1 of 2 bags, 12 frames" in printed
    assert Dataset(tmp_path / "data", ROBOT).num_frames == ROWS


def test_nothing_is_written_when_no_bag_can_be_imported(tmp_path):
    bag = write(tmp_path / "bag", Synthetic.make().messages(), dataclasses.replace(INFO, outcome="failure"))
    with pytest.raises(VlaError, match=r"none of 1 bags can be imported:\n  bag .* has the outcome failure"):
        imported(tmp_path, bag)
    assert [path.name for path in tmp_path.iterdir()] == ["bag"]


def test_bags_are_found_once_and_what_is_none_is_refused(tmp_path):
    bag = write(tmp_path / "bags" / "a", Synthetic.make().messages())
    assert find_bags((bag, tmp_path / "bags", bag)) == [bag]
    with pytest.raises(VlaError, match="does not exist; check its name"):
        find_bags((tmp_path / "none",))
    (tmp_path / "empty").mkdir()
    with pytest.raises(VlaError, match="is no bag and holds none"):
        find_bags((tmp_path / "empty",))


def test_the_command_takes_bags_before_its_options(tmp_path, monkeypatch):
    bag = write(tmp_path / "bag", Synthetic.make().messages())
    monkeypatch.setattr(module, "DUAL_PIPER", ROBOT)
    monkeypatch.setattr("sys.argv", ["import_bags", str(bag), "--out", str(tmp_path / "data")])
    with pytest.raises(SystemExit) as end:
        run_command(main, ImportConfig)
    assert end.value.code == 0
    assert Dataset(tmp_path / "data", ROBOT).num_episodes == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [({"bags": ()}, "no bag was given"), ({"max_age": 0.0}, "max_age is 0.0; give more than 0")],
)
def test_what_cannot_be_imported_is_refused(tmp_path, change, message):
    with pytest.raises(VlaError, match=message):
        ImportConfig(**{"bags": (tmp_path,), "out": tmp_path / "data"} | change)


def test_the_synthetic_bag_is_one_that_readers_know(tmp_path):
    with Reader(write(tmp_path / "bag", Synthetic.make().messages())) as reader:
        assert reader.message_count == 2 * 8 * ROWS + 1 + 2 * ROWS
