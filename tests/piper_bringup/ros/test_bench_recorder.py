"""The measurement itself: it records an episode and counts what came."""

import json

import pytest

from piper_bringup.ros import bench_recorder
from piper_bringup.ros.bench_recorder import BenchConfig, main

pytestmark = pytest.mark.ros


def test_every_message_of_a_short_episode_is_counted(ros_domain, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(bench_recorder, "HEIGHT", 48)
    monkeypatch.setattr(bench_recorder, "WIDTH", 64)
    out = tmp_path / "figures.json"
    assert main(BenchConfig(seconds=0.5, published="jpeg", folder=tmp_path / "bags", out=out)) == 0
    figures = json.loads(out.read_text())
    assert {name: each["sent"] for name, each in figures["streams"].items()} == {
        "/joint_states": 100, "/joint_commands": 100, "head": 15, "left_wrist": 15, "right_wrist": 15,
    }  # fmt: skip
    assert figures["lost"] == 0
    assert json.loads(capsys.readouterr().out) == figures
    assert [path.name for path in (tmp_path / "bags").iterdir()] == ["episode_000000_bench_success"]
