import pytest

from piper_twin.wilson import disjoint, wilson_interval
from vla_policy.errors import VlaError


@pytest.mark.parametrize(
    ("successes", "episodes", "low", "high"),
    [
        (45, 100, 0.3561, 0.5476),
        (0, 10, 0.0, 0.2775),
        (10, 10, 0.7225, 1.0),
        (1, 1, 0.2065, 1.0),
        (91, 100, 0.8377, 0.9519),
    ],
)
def test_known_intervals_are_met(successes, episodes, low, high):
    assert wilson_interval(successes, episodes) == pytest.approx((low, high), abs=5e-5)


def test_without_episodes_nothing_is_known():
    assert wilson_interval(0, 0) == (0.0, 1.0)


def test_more_confidence_makes_a_wider_interval():
    narrow, wide = wilson_interval(45, 100, 0.8), wilson_interval(45, 100, 0.99)
    assert wide[0] < narrow[0] < narrow[1] < wide[1]


def test_no_success_and_every_success_touch_the_ends_exactly():
    assert all(wilson_interval(0, n)[0] == 0.0 and wilson_interval(n, n)[1] == 1.0 for n in range(1, 200))


@pytest.mark.parametrize(("successes", "episodes"), [(-1, 10), (11, 10), (0, -1)])
def test_impossible_counts_are_refused(successes, episodes):
    with pytest.raises(VlaError, match="cannot be"):
        wilson_interval(successes, episodes)


@pytest.mark.parametrize("confidence", [0.0, 1.0, 95.0])
def test_a_confidence_outside_0_to_1_is_refused(confidence):
    with pytest.raises(VlaError, match="between 0 and 1"):
        wilson_interval(1, 2, confidence)


def test_intervals_that_touch_are_not_disjoint():
    assert disjoint((0.1, 0.2), (0.3, 0.4))
    assert disjoint((0.3, 0.4), (0.1, 0.2))
    assert not disjoint((0.1, 0.3), (0.3, 0.4))
    assert not disjoint((0.1, 0.9), (0.3, 0.4))
