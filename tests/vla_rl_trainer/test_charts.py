import math
import xml.etree.ElementTree as ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vla_rl_trainer.charts import interval_bar, line_chart, running_mean, short_number, ticks

NUMBERS = st.floats(-1e9, 1e9, allow_nan=False)


@given(points=st.lists(st.tuples(NUMBERS, NUMBERS), max_size=40))
def test_any_line_becomes_well_formed_svg_without_nan(points):
    drawing = line_chart({"a < b": points})
    ElementTree.fromstring(drawing)
    assert "nan" not in drawing
    assert "inf" not in drawing


def test_points_that_are_not_finite_are_left_out():
    assert line_chart({"x": [(0, 1.0), (1, math.nan), (2, 3.0)]}) == line_chart({"x": [(0, 1.0), (2, 3.0)]})


def test_a_chart_without_points_says_so():
    assert "no data" in line_chart({"x": []})


def test_shares_are_drawn_on_a_scale_from_0_to_100_percent():
    drawing = line_chart({"x": [(0, 0.4), (1, 0.5)]}, percent=True)
    assert ">0%<" in drawing
    assert ">100%<" in drawing


def test_long_lines_are_drawn_pale_with_their_mean():
    assert line_chart({"x": [(i, i % 2) for i in range(60)]}).count("stroke-linejoin") == 2


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(0, 1, [0, 0.5, 1.0]), (0.2, 0.93, [0.2, 0.4, 0.6, 0.8, 1.0]), (0, 120, [0, 50, 100, 150])],
)
def test_ticks_are_round_and_enclose_the_range(low, high, expected):
    assert ticks(low, high, 4) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("value", "text"), [(0.30000000000000004, "0.3"), (15000, "15k"), (0, "0"), (2e-5, "2e-05"), (-0.5, "-0.5")]
)
def test_tick_labels_are_short(value, text):
    assert short_number(value) == text


def test_the_running_mean_of_a_constant_is_the_constant():
    points = [(float(i), 2.0) for i in range(10)]
    assert running_mean(points, 5) == points


def test_the_running_mean_takes_neighbours_on_both_sides():
    assert running_mean([(0, 0.0), (1, 3.0), (2, 6.0), (3, 0.0)], 3) == [(0, 1.5), (1, 3.0), (2, 3.0), (3, 3.0)]


def test_an_interval_bar_says_its_numbers_to_a_screen_reader():
    assert 'aria-label="45.0%, interval 35.6% to 54.8%"' in interval_bar(0.45, 0.3561, 0.5476)
