"""Durations are counted once and told to within a bucket."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vla_policy.latency import Histogram, Latency


def filled(durations):
    histogram = Histogram()
    for duration in durations:
        histogram.add(duration)
    return histogram


def test_an_empty_histogram_tells_zeros():
    histogram = Histogram()
    assert (histogram.count, histogram.longest, histogram.quantile(0.99), histogram.buckets()) == (0, 0.0, 0.0, [])


@given(st.lists(st.floats(1e-4, 20.0), min_size=1, max_size=200), st.sampled_from([0.5, 0.95, 0.99, 1.0]))
def test_quantiles_are_right_to_within_four_and_a_half_percent(durations, share):
    exact = np.quantile(durations, share, method="inverted_cdf")
    assert exact * 0.999 <= filled(durations).quantile(share) <= exact * 1.0451


@given(st.lists(st.floats(-1.0, 1e6), max_size=100))
def test_every_duration_is_counted_in_one_bucket(durations):
    histogram = filled(durations)
    assert sum(count for _, count in histogram.buckets()) == histogram.count == len(durations)


def test_no_quantile_exceeds_the_longest():
    histogram = filled([0.0101, 0.0102])
    assert histogram.quantile(0.99) == histogram.longest == 0.0102


def test_the_next_answer_is_foreseen_to_take_as_long_as_the_slowest_of_late():
    latency = Latency()
    assert latency.foreseen() == 0.0
    for inference in (0.5, *[0.02] * 6, 0.03):
        latency.add(observe=0.01, inference=inference, publish=0.001)
    assert latency.foreseen() == pytest.approx(0.501)
    latency.add(observe=0.01, inference=0.02, publish=0.001)
    assert latency.foreseen() == pytest.approx(0.031)


def test_overhead_is_everything_but_the_model():
    latency = Latency()
    latency.add(observe=0.004, inference=0.5, publish=0.002)
    values = latency.values()
    assert float(str(values["overhead_max_ms"])) == pytest.approx(6)
    assert float(str(values["inference_p99_ms"])) == pytest.approx(500)
    assert values["latency_count"] == 1
    assert str(values["inference_histogram_ms"]).endswith(":1")
