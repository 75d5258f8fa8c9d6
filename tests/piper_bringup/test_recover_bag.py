"""Whatever a killed recorder leaves becomes a bag again."""

import shutil
import signal
import subprocess
import sys
import time

import pytest
from rosbags.rosbag2 import CompressionFormat, CompressionMode, Reader, StoragePlugin, Writer

from piper_bringup.recording.bag_files import DISCARDED, BagFolder, unfinished
from piper_bringup.recording.damaged_mcap import whole_messages
from piper_bringup.recording.episode_bag import STRING, TYPES, EpisodeBag, Stream
from piper_bringup.recover_bag import RecoverConfig, main, recover
from vla_policy import topics
from vla_policy.episode_info import EpisodeInfo
from vla_policy.errors import VlaError

INFO = EpisodeInfo(instruction="press the bell", task="", embodiment="{}", software="3cb6913")
STREAM = Stream(topic="/words", type=STRING)
START = 1_763_800_000_000_000_000


def word(number):
    return bytes(TYPES.serialize_cdr(TYPES.types[STRING](data=f"word {number} " + "x" * 1000), STRING))


def begun(bags, num_words=10):
    """An episode as it stands on the disk while it is recorded, and the folder's owner."""
    folder = BagFolder.create(bags, "press the bell")
    bag = EpisodeBag(folder.bag, INFO, START, max_queue=10**9, jpeg_quality=90)
    for number in range(num_words):
        bag.put(STREAM, START + number * 10**8, word(number))
        bag.flush()
    [file] = folder.bag.glob("*.mcap")
    while sum(1 for _ in whole_messages(file)) <= num_words:
        time.sleep(0.001)
    return folder, bag


def killed(bags, num_words=10):
    """The same, without its recorder."""
    folder, bag = begun(bags, num_words)
    kept = folder.path.with_name("kept")
    shutil.copytree(folder.path, kept)
    bag.close(INFO, START)
    folder.remove()
    kept.rename(folder.path)
    return folder.path


def words_in(bag):
    with Reader(bag) as reader:
        chosen = [connection for connection in reader.connections if connection.topic == STREAM.topic]
        return [(stamp, data) for _, stamp, data in reader.messages(chosen)] if chosen else []


RECORDER = """
import sys, time
from piper_twin.robot import DUAL_PIPER
from piper_bringup.recording.episode_bag import EpisodeBag, Stream, TYPES
from piper_bringup.recording.bag_files import BagFolder
from vla_policy.episode_info import EpisodeInfo
from pathlib import Path

def record(folder, count):
    info = EpisodeInfo(instruction="press the bell", task="", embodiment="{}", software="")
    bag = EpisodeBag(folder.bag, info, 0, max_queue=10**9, jpeg_quality=90)
    data = bytes(TYPES.serialize_cdr(TYPES.types["std_msgs/msg/String"](data="x" * 1000), "std_msgs/msg/String"))
    for number in range(count):
        bag.put(Stream(topic="/words", type="std_msgs/msg/String"), number, data)
        bag.flush()
    return bag, info

folder = BagFolder.create(Path(sys.argv[1]), "first")
bag, info = record(folder, 5)
bag.close(info, 10)
folder.keep("success")
second = record(BagFolder.create(Path(sys.argv[1]), "second"), 3000)
while second[0]._queue.qsize():
    time.sleep(0.01)
print("written", flush=True)
time.sleep(60)
"""


def test_a_kill_loses_no_finished_episode_and_leaves_the_running_one_recoverable(tmp_path):
    child = subprocess.Popen([sys.executable, "-c", RECORDER, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    with child:
        assert child.stdout.readline() == "written\n"
        with pytest.raises(VlaError, match="is being recorded"):
            recover(tmp_path)
        child.send_signal(signal.SIGKILL)
    assert len(words_in(tmp_path / "episode_000000_first_success")) == 5
    [found] = recover(tmp_path)
    assert found.bag == tmp_path / "episode_000001_second_unknown"
    assert len(words_in(found.bag)) >= 2999, "all but what the last flush may have caught half way"
    assert not unfinished(tmp_path)


def test_a_recovered_bag_tells_what_was_known_at_the_start_and_holds_the_same_bytes(tmp_path):
    [found] = recover(killed(tmp_path))
    assert words_in(found.bag) == [(START + number * 10**8, word(number)) for number in range(10)]
    assert (found.num_messages, found.duration) == (11, pytest.approx(0.9))
    with Reader(found.bag) as reader:
        assert EpisodeInfo.of(reader.storage.metadata.custom, "bag") == INFO
        latched = {c.topic: c.ext.offered_qos_profiles[0].durability.name for c in reader.connections}
    assert latched == {topics.EPISODE_INFO: "TRANSIENT_LOCAL", "/words": "VOLATILE"}


def test_wherever_the_file_ends_whole_messages_come_back_and_no_half_ones(tmp_path):
    source = killed(tmp_path / "bags")
    [file] = source.glob("*/*.mcap")
    whole = file.read_bytes()
    wanted = [message.data for message in whole_messages(file)]
    assert len(wanted) == 11
    counts = []
    for size in [*range(8, 200, 7), *range(200, len(whole), 101), len(whole)]:
        file.write_bytes(whole[:size])
        found = [message.data for message in whole_messages(file)]
        assert found == wanted[: len(found)]
        counts.append(len(found))
    assert counts == sorted(counts)
    assert (counts[0], counts[-1]) == (0, 11)


def test_chunks_that_are_compressed_come_back_too(tmp_path):
    writer = Writer(tmp_path / "bag", version=9, storage_plugin=StoragePlugin.MCAP)
    writer.set_compression(CompressionMode.STORAGE, CompressionFormat.ZSTD)
    with writer:
        connection = writer.add_connection("/words", STRING, typestore=TYPES)
        for number in range(2500):
            writer.write(connection, START + number, word(number))
    file = tmp_path / "bag" / "bag.mcap"
    data = file.read_bytes()
    file.write_bytes(data[: data.rindex(b"\x28\xb5\x2f\xfd") + 100])  # within the last zstd frame
    messages = list(whole_messages(file))
    assert [message.data for message in messages] == [word(number) for number in range(len(messages))]
    assert 1000 < len(messages) < 2500


def test_an_episode_killed_after_its_outcome_keeps_it(tmp_path):
    for outcome, name in (
        ("success", "episode_000000_press_the_bell_success"),
        (DISCARDED, "episode_000001_press_the_bell"),
    ):
        folder, bag = begun(tmp_path)
        bag.close(EpisodeInfo(**INFO.custom_data() | {"outcome": outcome}), START)
        folder.leave()
        [found] = recover(folder.path)
        assert found.bag.name == name
        assert len(words_in(found.bag)) == 10


def test_an_episode_without_a_message_leaves_nothing(tmp_path):
    path = killed(tmp_path)
    [file] = path.glob("*/*.mcap")
    file.write_bytes(file.read_bytes()[:50])
    [found] = recover(tmp_path)
    assert str(found) == f"{path} held no message and was removed"
    assert not list(tmp_path.iterdir())
    BagFolder.create(tmp_path, "killed at once").leave()
    assert recover(tmp_path)[0].bag is None


def test_a_recovery_that_was_killed_can_be_done_again(tmp_path):
    path = killed(tmp_path)
    (path / "recovered" / path.name).mkdir(parents=True)
    [found] = recover(tmp_path)
    assert len(words_in(found.bag)) == 10


def test_a_bag_of_another_recorder_is_recovered_beside_itself(tmp_path):
    with Writer(tmp_path / "foreign", version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        connection = writer.add_connection("/words", STRING, typestore=TYPES)
        for number in range(10):
            writer.write(connection, START + number, word(number))
    file = tmp_path / "foreign" / "foreign.mcap"
    with pytest.raises(VlaError, match="is whole, nothing is to be recovered"):
        recover(tmp_path / "foreign")
    data = file.read_bytes()
    file.write_bytes(data[:6000])
    [found] = recover(tmp_path / "foreign")
    assert found.bag == tmp_path / "foreign_recovered"
    assert words_in(found.bag) == [(START + number, word(number)) for number in range(5)]
    assert file.read_bytes() == data[:6000]
    assert recover(file)[0].bag == tmp_path / "foreign" / "foreign_recovered"


def test_what_holds_nothing_to_recover_is_refused(tmp_path):
    with pytest.raises(VlaError, match=r"holds no unfinished episode and no \.mcap file"):
        recover(tmp_path)
    (tmp_path / "bag.mcap").write_bytes(b"anything")
    with pytest.raises(VlaError, match="is no MCAP file"):
        recover(tmp_path)


def test_the_command_prints_a_line_a_bag(tmp_path, capsys):
    killed(tmp_path)
    main(RecoverConfig(folder=tmp_path))
    assert capsys.readouterr().out == f"{tmp_path / 'episode_000000_press_the_bell_unknown'}: 11 messages, 0.9 s\n"
