"""The measurement from camera to chunk; its figures are no matter of tests."""

import pytest
import rclpy

from piper_bringup.ros import bench_overhead
from piper_bringup.ros.bench import untrained
from piper_bringup.ros.bench_overhead import BenchConfig, measure, overheads
from vla_policy.errors import VlaError

pytestmark = pytest.mark.ros


def test_every_chunk_is_less_its_own_inference():
    answers = [(1.0, 1.004, 1.054), (2.0, 2.003, 2.103), (3.0, 3.002, 3.052)]
    figures = overheads([(1.0, 1.056), (2.0000001, 2.104)], answers)
    assert figures["chunks"] == 2
    assert figures["overhead_max_ms"] == pytest.approx(6.0)
    assert figures["overhead_p50_ms"] == pytest.approx(5.0)
    assert figures["inference_max_ms"] == pytest.approx(100.0)
    assert figures["way_back_max_ms"] == pytest.approx(2.0)
    assert figures["observe_max_ms"] == pytest.approx(4.0)


def test_a_measurement_without_answers_says_so():
    with pytest.raises(VlaError, match="measure for longer"):
        overheads([(5.0, 5.1)], [(1.0, 1.1, 1.2)])


@pytest.mark.parametrize("images", ["fitted", "raw"])
def test_the_node_is_run_and_its_overhead_told(ros_domain, tmp_path, monkeypatch, images):
    monkeypatch.setattr(bench_overhead, "_SETTLING", 0.5)
    monkeypatch.setattr(bench_overhead, "HEIGHT", 144)
    monkeypatch.setattr(bench_overhead, "WIDTH", 192)
    rclpy.init()
    try:
        figures = measure(BenchConfig(checkpoint=untrained(tmp_path / "checkpoint"), seconds=1.0, images=images))
    finally:
        rclpy.shutdown()
    assert figures["chunks"] > 0
    assert 0.0 < figures["observe_p50_ms"] < figures["overhead_p99_ms"]
    assert figures["overhead_max_ms"] <= figures["observe_max_ms"] + figures["way_back_max_ms"] + 0.001
