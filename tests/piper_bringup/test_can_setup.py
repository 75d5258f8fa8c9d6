"""piper-can and its udev rules: on a folder that looks like /sys/class/net, with an `ip` that writes down its calls."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from piper_twin.robot import ARMS

CONFIG = Path(__file__).resolve().parents[2] / "ros2_ws" / "src" / "piper_bringup" / "config"
SCRIPT = CONFIG / "piper-can"
RULES = CONFIG / "99-piper-can.rules"
BASH = shutil.which("bash") or "bash"

IP = """#!/bin/sh
echo "$*" >>"$IP_CALLS"
case "$*" in
*restart-ms*) exit "${IP_RESTART_FAILS:-0}" ;;
*"down"*) exit "${IP_FAILS:-0}" ;;
*"-details"*)
    echo "    can state ERROR-ACTIVE restart-ms 100"
    echo "      bitrate ${IP_BITRATE:-1000000} sample-point 0.750" ;;
esac
"""


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """An adapter called can_left on a USB port, an Ethernet interface, and a recording `ip` in front of the path."""
    usb = tmp_path / "devices" / "usb1" / "1-2"
    interface = usb / "1-2:1.0"
    interface.mkdir(parents=True)
    (usb / "serial").write_text("0042003A\n")
    (usb / "devpath").write_text("2\n")
    net = tmp_path / "net"
    for name, kind in (("can_left", "280"), ("eth0", "1")):
        (net / name / "statistics").mkdir(parents=True)
        (net / name / "type").write_text(kind + "\n")
        (net / name / "statistics" / "rx_packets").write_text("7\n")
    (net / "can_left" / "device").symlink_to(interface)
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "ip").write_text(IP)
    (tools / "ip").chmod(0o755)
    calls = tmp_path / "calls"
    calls.touch()
    monkeypatch.setenv("PIPER_CAN_NET", str(net))
    monkeypatch.setenv("IP_CALLS", str(calls))
    monkeypatch.setenv("PATH", f"{tools}{os.pathsep}{os.environ['PATH']}")
    return calls


def piper_can(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([BASH, str(SCRIPT), *words], capture_output=True, text=True, check=False)


def test_up_sets_the_only_bitrate_an_arm_knows_before_the_interface_is_up(machine):
    result = piper_can("up", "can_left")
    assert result.returncode == 0, result.stderr
    settings = [line for line in machine.read_text().splitlines() if line.startswith("link set")]
    assert settings == [
        "link set dev can_left down",
        "link set dev can_left type can bitrate 1000000 restart-ms 100",
        "link set dev can_left txqueuelen 32",
        "link set dev can_left up",
    ]


def test_up_does_without_a_restart_where_the_driver_has_none(machine, monkeypatch):
    monkeypatch.setenv("IP_RESTART_FAILS", "2")
    assert piper_can("up", "can_left").returncode == 0
    assert "link set dev can_left type can bitrate 1000000\n" in machine.read_text()


def test_up_complains_of_another_bitrate(machine, monkeypatch):
    del machine
    monkeypatch.setenv("IP_BITRATE", "500000")
    result = piper_can("up", "can_left")
    assert result.returncode == 1
    assert "500000" in result.stderr


def test_up_says_that_it_must_be_root(machine, monkeypatch):
    monkeypatch.setenv("IP_FAILS", "2")
    result = piper_can("up", "can_left")
    assert result.returncode == 1
    assert "root" in result.stderr
    assert "bitrate 1000000" not in machine.read_text()


@pytest.mark.parametrize("name", ["can_right", "eth0"])
def test_up_touches_nothing_that_is_no_can_interface(machine, name):
    result = piper_can("up", name)
    assert result.returncode == 1
    assert name in result.stderr
    assert machine.read_text() == ""


def test_without_names_both_arms_are_meant(machine):
    result = piper_can("up")
    assert result.returncode == 1, "can_right is not there"
    assert "can_right" in result.stderr
    assert "can_left up" in machine.read_text()


def test_adapters_are_listed_with_their_serial_number_and_other_interfaces_are_not(machine):
    del machine
    result = piper_can("adapters")
    assert result.returncode == 0, result.stderr
    assert "can_left" in result.stdout and "serial=0042003A" in result.stdout and "usb=1-2" in result.stdout
    assert "eth0" not in result.stdout


def test_a_silent_bus_is_no_success(machine):
    del machine
    result = piper_can("status", "can_left")
    assert result.returncode == 1
    assert "ERROR-ACTIVE" in result.stdout and "silent" in result.stderr


def test_the_rules_name_each_arm_once_by_serial_number_and_bring_it_up():
    rules = [line for line in RULES.read_text().splitlines() if line and not line.startswith("#")]
    assert len(rules) == len(ARMS)
    for arm, rule in zip(ARMS, rules, strict=True):
        keys = re.findall(r'(\w+(?:\{\w+\})?)(==|\+=|=)"([^"]*)"', rule)
        assert ", ".join(f'{key}{operator}"{value}"' for key, operator, value in keys) == rule
        settings = {key: value for key, _, value in keys}
        assert settings["NAME"] == f"can_{arm}"
        assert settings["RUN"].endswith(f"piper-can up can_{arm}")
        assert "ATTRS{serial}" in settings and "KERNELS" not in settings


def test_the_script_may_be_run():
    assert os.access(SCRIPT, os.X_OK)
