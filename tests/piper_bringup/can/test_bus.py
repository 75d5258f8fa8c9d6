"""A CAN bus without kernel CAN: who hears whom, in one process and between several."""

import os
import signal
import subprocess
import sys
import time

import can
import pytest

from piper_bringup.can import bus as can_bus
from piper_bringup.can.bus import LoopbackBus
from piper_bringup.can.registry import DIRECTORY_VARIABLE, BusOff


@pytest.fixture(autouse=True)
def directory(tmp_path, monkeypatch):
    """Sockets of this test meet each other alone."""
    monkeypatch.setenv(DIRECTORY_VARIABLE, str(tmp_path))
    can_bus.register()
    return tmp_path


@pytest.fixture
def join():
    """Opens sockets that are closed after the test."""
    opened = []

    def join(channel="can_left", **settings):
        opened.append(LoopbackBus(channel, **settings))
        return opened[-1]

    yield join
    for bus in opened:
        bus.shutdown()


def frame(identifier=0x155, data=bytes(range(8)), **fields):
    return can.Message(arbitration_id=identifier, data=data, is_extended_id=False, **fields)


def received(bus):
    """Identifiers of all that has arrived."""
    found = []
    while message := bus.recv(0):
        found.append(message.arbitration_id)
    return found


OTHER_PROCESS = """
import sys, can
from piper_bringup.can import bus as can_bus
can_bus.register()
bus = can.Bus(channel=sys.argv[1], interface="piper_loopback")
print("ready", flush=True)
for message in bus:
    message.arbitration_id += 1
    bus.send(message)
"""


@pytest.fixture
def echo():
    """A process on a channel that answers every frame with the next identifier."""
    started = []

    def echo(channel):
        command = [sys.executable, "-c", OTHER_PROCESS, channel]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        started.append(process)
        assert process.stdout.readline() == "ready\n"
        return process

    yield echo
    for process in started:
        process.kill()
        process.wait()
        process.stdout.close()


def test_python_can_opens_it_by_name_with_the_settings_of_the_piper_sdk():
    settings = {"bitrate": 1000000, "receive_own_messages": False, "local_loopback": False}
    with can.Bus(channel="can_left", interface="piper_loopback", **settings) as bus:
        assert isinstance(bus, LoopbackBus)
        assert "can_left" in str(bus)


def test_a_frame_arrives_as_it_was_sent_with_its_time(join):
    sender, receiver = join(), join()
    sent = frame(data=b"\x01\x02\x03")
    sender.send(sent)
    message = receiver.recv(1.0)
    assert message.equals(sent, timestamp_delta=None, check_direction=False, check_channel=False)
    assert abs(time.time() - message.timestamp) < 1.0
    extended = can.Message(arbitration_id=0x1ABCDEFF, is_extended_id=True, is_remote_frame=True, dlc=4)
    sender.send(extended)
    assert receiver.recv(1.0).equals(extended, timestamp_delta=None, check_direction=False, check_channel=False)


def test_frames_sent_together_arrive_in_order(join):
    sender, receiver = join(), join()
    sender.send_all([frame(identifier) for identifier in range(600)])
    assert received(receiver) == list(range(600))


def test_the_sender_hears_itself_only_when_asked(join):
    deaf, vain = join(), join(receive_own_messages=True)
    deaf.send(frame(1))
    assert received(deaf) == []
    vain.send(frame(2))
    own = vain.recv(0), vain.recv(0)
    assert [(message.arbitration_id, message.is_rx) for message in own] == [(1, False), (2, False)]


def test_without_local_loopback_sockets_of_the_same_process_hear_nothing_but_other_nodes_do(join):
    sender, neighbour, arm = join(local_loopback=False), join(), join(node="arm")
    sender.send(frame(1))
    assert (received(neighbour), received(arm)) == ([], [1])
    arm.send(frame(2))
    message = sender.recv(0)
    assert (message.arbitration_id, message.is_rx) == (2, True)


def test_channels_are_apart(join):
    left, right, sender = join("can_left"), join("can_right"), join("can_right")
    sender.send(frame(7))
    assert (received(left), received(right)) == ([], [7])


def test_filters_are_applied_and_can_be_changed(join):
    sender, receiver = join(), join(can_filters=[{"can_id": 0x2A0, "can_mask": 0x7F0}])
    sender.send_all([frame(0x2A5), frame(0x155), frame(0x2A8)])
    assert received(receiver) == [0x2A5, 0x2A8]
    receiver.set_filters([{"can_id": 0x155, "can_mask": 0x7FF, "extended": True}])
    sender.send(frame(0x155))
    assert received(receiver) == []
    receiver.set_filters(None)
    sender.send(frame(0x155))
    assert received(receiver) == [0x155]


def test_frames_that_do_not_pass_the_filter_do_not_prolong_waiting(join):
    sender, receiver = join(), join(can_filters=[{"can_id": 0x2A0, "can_mask": 0x7FF}])
    task = sender.send_periodic(frame(0x155), 0.005)
    start = time.monotonic()
    assert receiver.recv(0.05) is None
    task.stop()
    assert time.monotonic() - start < 2.0


def test_frames_of_other_buses_are_dropped(join):
    receiver = join()
    stranger = can_bus.socket.socket(can_bus.socket.AF_INET, can_bus.socket.SOCK_DGRAM)
    with stranger:
        port = receiver._port
        for datagram in (b"", b"hello", bytes(can_bus._HEADER.size + can_bus._RECORD.size)):
            stranger.sendto(datagram, ("127.0.0.1", port))
    assert receiver.recv(0.05) is None


def test_frames_that_are_not_classic_are_refused(join):
    bus = join()
    with pytest.raises(can.CanOperationError, match="no classic CAN frame"):
        bus.send(can.Message(arbitration_id=1, data=bytes(12), is_fd=True))


def test_processes_hear_each_other_and_two_channels_do_not_mix(join, echo):
    buses = {channel: join(channel, local_loopback=False) for channel in ("can_left", "can_right")}
    for channel in buses:
        echo(channel)
    for number, bus in enumerate(buses.values()):
        bus.send(frame(100 + 10 * number))
    answers = [bus.recv(5.0).arbitration_id for bus in buses.values()]
    assert answers == [101, 111]
    assert all(received(bus) == [] for bus in buses.values())


def test_a_killed_process_is_forgotten(join, echo, directory):
    bus, process = join(), echo("can_left")
    assert len(list((directory / "can_left").glob("[!.]*"))) == 2
    process.send_signal(signal.SIGKILL)
    process.wait()
    bus.send(frame())  # to a port nobody has: not an error, as on a bus
    join()
    bus.send(frame())
    assert len(list((directory / "can_left").glob("[!.]*"))) == 2


def test_sending_fails_while_the_channel_is_bus_off_and_works_after_it(join):
    sender, receiver, other = join(), join(), join("can_right")
    fault = BusOff("can_left")
    with pytest.raises(can.CanOperationError, match="bus-off"):
        sender.send(frame(1))
    other.send(frame(1))
    fault.end()
    sender.send(frame(2))
    assert received(receiver) == [2]


def test_a_closed_bus_raises_and_leaves_nothing_behind(directory):
    bus = LoopbackBus("can_left")
    bus.shutdown()
    bus.shutdown()
    assert list((directory / "can_left").iterdir()) == []
    with pytest.raises(can.CanOperationError, match="transmit"):
        LoopbackBus._transmit(bus, b"", 1)
    with pytest.raises(can.CanOperationError, match="receive"):
        bus.recv(0)


def test_a_directory_open_to_others_is_refused(directory):
    os.chmod(directory, 0o755)
    with pytest.raises(can.CanInitializationError, match="this user alone"):
        LoopbackBus("can_left")


def test_a_name_that_is_no_channel_is_refused():
    with pytest.raises(can.CanInitializationError, match="no channel name"):
        LoopbackBus("../can_left")


def test_channels_in_use_can_be_listed(join):
    join("can_left"), join("can_right")
    found = can.detect_available_configs(interfaces="piper_loopback")
    assert [config["channel"] for config in found] == ["can_left", "can_right"]
