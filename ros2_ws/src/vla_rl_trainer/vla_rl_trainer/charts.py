"""Drawings of a report as inline SVG: a line chart and an interval on a scale. Colours come from the page's style."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from html import escape

Point = tuple[float, float]
NUM_COLOURS = 5
"""The page defines --c0 .. --c4."""

_WIDTH, _HEIGHT = 330.0, 190.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 46.0, 8.0, 8.0, 24.0
_SMOOTH_FROM = 30
"""Lines with more points than this also get a running mean."""


def line_chart(lines: Mapping[str, Sequence[Point]], percent: bool = False, x_label: str = "") -> str:
    """Draw lines over a common x axis.

    Args:
        lines: Name to points; points that are not finite are left out. Long lines are drawn pale, with their
            running mean in full colour.
        percent: True when y is a share between 0 and 1, to be written as 0 to 100 %.
        x_label: What x counts.

    Returns:
        An `<svg>` element.
    """
    finite = {
        name: [p for p in points if math.isfinite(p[0]) and math.isfinite(p[1])] for name, points in lines.items()
    }
    every = [point for points in finite.values() for point in points]
    if not every:
        return (
            f'<svg viewBox="0 0 {_WIDTH:g} {_HEIGHT:g}"><text x="50%" y="50%" text-anchor="middle">no data</text></svg>'
        )
    x_range = _padded([x for x, _ in every])
    y_ticks = [0.0, 0.25, 0.5, 0.75, 1.0] if percent else ticks(*_padded([y for _, y in every]), 4)
    y_range = (y_ticks[0], y_ticks[-1])

    def place(point: Point) -> Point:
        across = (point[0] - x_range[0]) / (x_range[1] - x_range[0])
        up = (point[1] - y_range[0]) / (y_range[1] - y_range[0])
        return _LEFT + across * (_WIDTH - _LEFT - _RIGHT), _HEIGHT - _BOTTOM - up * (_HEIGHT - _TOP - _BOTTOM)

    parts = [f'<svg viewBox="0 0 {_WIDTH:g} {_HEIGHT:g}" role="img" aria-label="{escape(", ".join(lines))}">']
    for tick in y_ticks:
        y = place((x_range[0], tick))[1]
        text = f"{tick:.0%}" if percent else short_number(tick)
        parts.append(f'<path d="M{_LEFT:g} {y:.1f}H{_WIDTH - _RIGHT:g}" stroke="var(--grid)"/>')
        parts.append(f'<text x="{_LEFT - 7:g}" y="{y + 4:.1f}" text-anchor="end">{text}</text>')
    for tick in ticks(*x_range, 4):
        x = place((tick, y_range[0]))[0]
        if x_range[0] <= tick <= x_range[1] and x < _WIDTH - _RIGHT - 6.5 * len(x_label) - 8:
            parts.append(f'<text x="{x:.1f}" y="{_HEIGHT - 6:g}" text-anchor="middle">{short_number(tick)}</text>')
    parts.append(f'<text x="{_WIDTH - _RIGHT:g}" y="{_HEIGHT - 6:g}" text-anchor="end">{escape(x_label)}</text>')
    for number, points in enumerate(finite.values()):
        parts += _line([place(point) for point in points], f"var(--c{number % NUM_COLOURS})")
    return "".join(parts) + "</svg>"


def interval_bar(value: float, low: float, high: float) -> str:
    """Draw a share between 0 and 1 as a dot, its interval as a bar.

    Returns:
        An `<svg>` element.
    """
    width, middle = 260.0, 11.0

    def across(share: float) -> float:
        return 5.0 + min(max(share, 0.0), 1.0) * (width - 10.0)

    spread = max(across(high) - across(low), 1.0)
    return (
        f'<svg viewBox="0 0 {width:g} 22" role="img" aria-label="{value:.1%}, interval {low:.1%} to {high:.1%}">'
        f'<rect x="5" y="{middle - 2:g}" width="{width - 10:g}" height="4" rx="2" fill="var(--track)"/>'
        f'<rect x="{across(low):.1f}" y="{middle - 5:g}" width="{spread:.1f}" height="10" '
        'rx="5" fill="var(--c0)" opacity="0.32"/>'
        f'<circle cx="{across(value):.1f}" cy="{middle:g}" r="4.5" fill="var(--c0)"/></svg>'
    )


def ticks(low: float, high: float, wanted: int) -> list[float]:
    """Round numbers that enclose `low` to `high` in about `wanted` steps of 1, 2 or 5 times a power of ten."""
    rough = (high - low) / wanted
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [number * step for number in range(first, last + 1)]


def short_number(value: float) -> str:
    """A tick label: 0.05, 12, 3.5k, 2e-05."""
    size = abs(value)
    if size >= 1e6 or 0 < size < 1e-3:
        return f"{value:.2g}"
    if size >= 1e4:
        return f"{value / 1000:g}k"
    return f"{round(value, 6):g}"


def running_mean(points: Sequence[Point], window: int) -> list[Point]:
    """Each y averaged with its neighbours, `window` points in all, fewer at the ends."""
    half = window // 2
    sums = [0.0, *itertools.accumulate(y for _, y in points)]
    averaged = []
    for number, (x, _) in enumerate(points):
        first, end = max(0, number - half), min(len(points), number + half + 1)
        averaged.append((x, (sums[end] - sums[first]) / (end - first)))
    return averaged


def smoothed(points: Sequence[Point]) -> list[Point]:
    """What the eye should follow: the running mean of a long line, a short one as it is."""
    if len(points) <= _SMOOTH_FROM:
        return list(points)
    return running_mean(points, max(5, len(points) // 12))


def _padded(values: Sequence[float]) -> tuple[float, float]:
    """Range of the values, widened when it is a single point."""
    low, high = min(values), max(values)
    if high - low > 1e-9 * max(abs(low), abs(high), 1e-12):
        return low, high
    margin = abs(low) * 0.1 or 0.5
    return low - margin, high + margin


def _line(points: Sequence[Point], colour: str) -> list[str]:
    if len(points) == 1:
        return [f'<circle cx="{points[0][0]:.1f}" cy="{points[0][1]:.1f}" r="3" fill="{colour}"/>']
    pale = [_path(points, colour, 1.0, 0.28)] if len(points) > _SMOOTH_FROM else []
    return [*pale, _path(smoothed(points), colour, 1.8, 1.0)]


def _path(points: Sequence[Point], colour: str, width: float, opacity: float) -> str:
    steps = "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
    return (
        f'<path d="M{steps}" fill="none" stroke="{colour}" stroke-width="{width}" opacity="{opacity}" '
        'stroke-linejoin="round" stroke-linecap="round"/>'
    )
