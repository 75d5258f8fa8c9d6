"""What `make bench-ros` writes; the figures themselves are no matter of tests."""

import json
from collections import Counter

import pytest

from piper_bringup.ros import bench, bench_jitter, bench_overhead, bench_recorder
from piper_bringup.ros.bench import BenchConfig, main
from piper_bringup.ros.bench_jitter import JitterConfig
from vla_policy.errors import VlaError

pytestmark = pytest.mark.ros


@pytest.fixture
def measured(monkeypatch):
    """Figures in place of measurements; a test may change them."""
    found = {
        "piper": {"jitter_p99_ms": 0.5, "jitter_p999_ms": 1.5, "held": ""},
        "twin": {"jitter_p99_ms": 9.0, "jitter_p999_ms": 9.5, "held": ""},
        "fitted": {"overhead_p99_ms": 7.0},
        "raw": {"overhead_p99_ms": 11.0},
        "recorder": {"lost": 0},
    }
    monkeypatch.setattr(bench_jitter, "measure", lambda config: found[config.driver])
    monkeypatch.setattr(bench_overhead, "measure", lambda config: found[config.images])
    monkeypatch.setattr(bench_recorder, "measure", lambda config, folder: found["recorder"])
    return found


def test_the_summary_has_the_figures_on_top_and_how_they_were_measured(ros_domain, measured, tmp_path):
    assert main(BenchConfig(out=tmp_path, seconds=3.0, checkpoint=tmp_path)) == 0
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert {name: summary[name] for name in bench.LIMITS} == {
        "jitter_p99_ms": 0.5, "jitter_p999_ms": 1.5, "overhead_p99_ms": 7.0, "recorder_lost": 0,
    }  # fmt: skip
    assert summary["jitter"]["twin"]["jitter_p99_ms"] == 9.0
    assert summary["overhead"]["raw"]["overhead_p99_ms"] == 11.0
    assert summary["passed"] and summary["seconds"] == 3.0
    assert {"command", "commit", "hardware"} <= summary.keys()


def test_a_limit_that_is_missed_is_told(ros_domain, measured, tmp_path, capsys):
    measured["fitted"]["overhead_p99_ms"] = 12.5
    assert main(BenchConfig(out=tmp_path, checkpoint=tmp_path, parts=("overhead",))) == 1
    assert "overhead_p99_ms is 12.5, the limit is 10.0" in capsys.readouterr().out
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert not summary["passed"] and "jitter" not in summary


def test_a_robot_that_was_held_meanwhile_is_no_measurement(ros_domain, measured, tmp_path, capsys):
    measured["piper"]["held"] = "bus_silent: left arm"
    assert main(BenchConfig(out=tmp_path, checkpoint=tmp_path, parts=("jitter",))) == 1
    assert "driver piper: the robot was held: bus_silent: left arm" in capsys.readouterr().out


def test_a_measurement_of_nothing_is_refused():
    with pytest.raises(VlaError, match="at least one part"):
        BenchConfig(parts=())


def test_what_was_counted_earlier_is_left_out():
    counts = bench_jitter.counted_since({"h": "0.1:5 0.2:3"}, {"h": "0.1:4"}, "h")
    assert counts == Counter({0.1: 1, 0.2: 3})


def test_jitter_is_measured_while_a_policy_moves_emulated_arms(ros_domain, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(bench_jitter, "_SETTLING", 0.0)
    monkeypatch.setattr(bench_recorder, "HEIGHT", 144)
    monkeypatch.setattr(bench_recorder, "WIDTH", 192)
    bench_jitter.main(JitterConfig(checkpoint="hold", seconds=2.0, log=tmp_path / "log", out=tmp_path / "figures.json"))
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert figures["ticks"] > 0
    assert 0.0 <= figures["jitter_p99_ms"] <= figures["jitter_p999_ms"] <= figures["jitter_max_ms"]
    assert {"bus_gap_p99_ms", "chunks", "realtime", "overruns", "held"} <= figures.keys()
    assert "[robot" in (tmp_path / "log").read_text()
