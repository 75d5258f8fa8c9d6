"""The measurement of the policy node; its figures are no matter of tests."""

from collections import Counter

import pytest
import rclpy

from vla_policy.errors import VlaError
from vla_policy.ros import bench_policy_node
from vla_policy.ros.bench_policy_node import BenchConfig, counted_since, measure, quantiles

pytestmark = pytest.mark.ros


def test_what_was_counted_earlier_is_left_out():
    counts = counted_since({"h": "0.1:5 0.2:3"}, {"h": "0.1:4"}, "h")
    assert counts == Counter({0.1: 1, 0.2: 3})
    assert quantiles("overhead", counts) == {
        "overhead_p50_ms": 0.2, "overhead_p99_ms": 0.2, "overhead_max_ms": 0.2,
    }  # fmt: skip


def test_a_measurement_without_answers_says_so():
    with pytest.raises(VlaError, match="measure for longer"):
        quantiles("overhead", counted_since({"h": "0.1:5"}, {"h": "0.1:5"}, "h"))


def test_the_node_is_run_and_its_overhead_told(ros_domain, policy, tmp_path, monkeypatch):
    monkeypatch.setattr(bench_policy_node, "_SETTLING", 1.2)
    monkeypatch.setattr(bench_policy_node, "HEIGHT", 48)
    monkeypatch.setattr(bench_policy_node, "WIDTH", 64)
    policy.save(tmp_path / "checkpoint")
    rclpy.init()
    try:
        figures = measure(BenchConfig(checkpoint=tmp_path / "checkpoint", seconds=1.0))
    finally:
        rclpy.shutdown()
    assert figures["chunks"] > 0
    assert 0.0 < figures["observe_p50_ms"] <= figures["overhead_p99_ms"] <= figures["total_p99_ms"]
