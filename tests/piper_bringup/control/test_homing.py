"""Going home: straight, slowly, and not further than home."""

import numpy as np
import pytest

from piper_bringup.control.homing import POSTURE, SPEED, is_home, way_home


def test_the_way_ends_at_home_and_is_never_fast():
    away = POSTURE.copy()
    away[[0, 9, 13]] += 1.0, -0.4, -0.05
    chunk = way_home(away, now=7.0)
    assert chunk.stamp == 7.0
    np.testing.assert_allclose(chunk.actions[-1], POSTURE, atol=1e-6)
    speeds = np.abs(np.diff(chunk.actions, axis=0, prepend=away[None])) / chunk.period
    assert speeds.max() <= 1.5 * SPEED + 1e-3, "a smooth start and end make the middle half as fast again"
    assert speeds[0].max() < 0.2 * SPEED
    assert len(chunk.actions) * chunk.period == pytest.approx(1.0 / SPEED)
    assert not is_home(away)
    assert is_home(chunk.actions[-1])


def test_home_is_one_row_away_from_home():
    assert len(way_home(POSTURE, now=0.0).actions) == 1
