"""From streams with rates and gaps of their own to one row a control period, and what that costs each camera.

A row at time t is made of whatever is nearest to t, before or after it. The action of a row is what the arms were told
one period later: as in the twin, an action is the target that is reached at the end of its period.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from vla_policy.errors import VlaError

# N = messages of a stream, T = rows
Times = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]

_GAP = 1.5
"""Usual intervals between two frames from which on at least one is missing."""
_IDLE = 2e-3
"""What is told to move by less stands still [rad], [m]: the noise of a held arm."""
_ROUNDING = 1e-6
"""Stamps are nanoseconds, times seconds in floating point [s]."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class StreamReport:
    """How well a stream serves the rows."""

    num_messages: int
    period: float
    """Usual time between two messages [s]."""
    num_gaps: int
    """Longer intervals."""
    num_missing: int
    """Messages that would fill the gaps."""
    longest_gap: float
    """[s]; 0 without gaps."""
    worst_age: float
    """Largest distance in time of a row from its message [s]."""
    num_far: int
    """Rows farther than half a period from their message."""
    far_share: float
    """The same, of all rows."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Alignment:
    """Which message of each stream each row is made of."""

    times_T: Times
    """[s]."""
    rows: Mapping[str, Indices]
    """Stream to the indices of its messages (T,)."""
    reports: Mapping[str, StreamReport]


def align(
    streams: Mapping[str, Times], period: float, *, reference: str, actions: str, max_age: float, owner: str
) -> Alignment:
    """Choose the rows and what they are made of.

    Args:
        streams: Name to the times (N,) of its messages, ascending [s].
        period: Between two rows [s].
        reference: Stream whose first frame is the first row: a camera with the rows' own rate is then met exactly.
        actions: Stream that each row takes one period later.
        max_age: Largest distance of a row from its message [s].
        owner: For errors ("bag x").

    Raises:
        VlaError: a stream is empty, they hardly overlap, or one is interrupted for longer than `max_age`.
    """
    if empty := [name for name, times in streams.items() if not len(times)]:
        raise VlaError(f"{owner} holds no message of {', '.join(empty)}; record it again with all of them running")
    times_T = _grid(streams, period, reference, actions, owner)
    rows: dict[str, Indices] = {}
    reports: dict[str, StreamReport] = {}
    for name, times_N in streams.items():
        due_T = times_T + period if name == actions else times_T
        rows[name] = nearest(times_N, due_T)
        age_T = np.abs(times_N[rows[name]] - due_T)
        reports[name] = _report(times_N, age_T)
        if age_T.max() > max_age:
            at = times_T[int(age_T.argmax())] - times_T[0]
            raise VlaError(
                f"{owner} lacks {name} for {age_T.max():.2f} s around {at:.1f} s of its episode; record it again, or "
                f"accept it with --max-age {np.ceil(10 * age_T.max()) / 10:.1f}"
            )
    return Alignment(times_T=times_T, rows=rows, reports=reports)


def num_idle_rows(actions_TA: npt.NDArray[np.floating]) -> int:
    """Rows before the one in which the arms are first told to move; 0 for arms that never are."""
    moved_T = (np.abs(actions_TA - actions_TA[0]) > _IDLE).any(axis=1)
    return max(0, int(moved_T.argmax()) - 1)


def nearest(times_N: Times, wanted_T: Times) -> Indices:
    """Index of the message nearest to each wanted time; the earlier of two as near."""
    after_T = np.clip(np.searchsorted(times_N, wanted_T), 1, max(1, len(times_N) - 1))
    before_T = after_T - 1
    if len(times_N) == 1:
        return before_T
    is_later_T = times_N[after_T] - wanted_T < wanted_T - times_N[before_T] - _ROUNDING
    return np.where(is_later_T, after_T, before_T)


def _grid(streams: Mapping[str, Times], period: float, reference: str, actions: str, owner: str) -> Times:
    """Times of the rows: from the moment on that everything is there, to the last action."""
    shifted = {name: times - period if name == actions else times for name, times in streams.items()}
    begin, last = max(times[0] for times in shifted.values()), min(times[-1] for times in shifted.values())
    frames = streams[reference][streams[reference] >= begin - _ROUNDING]
    first = float(frames[0]) if len(frames) else begin
    count = int(np.floor((last - first + _ROUNDING) / period)) + 1
    if count < 1:
        spans = ", ".join(f"{name} {times[0]:.2f} .. {times[-1]:.2f} s" for name, times in streams.items())
        raise VlaError(f"{owner} has no moment at which all was there ({spans}); were the clocks the same?")
    return first + period * np.arange(count, dtype=np.float64)


def _report(times_N: Times, age_T: Times) -> StreamReport:
    intervals = np.diff(times_N)
    usual = float(np.median(intervals)) if len(intervals) else 0.0
    gaps = intervals[intervals > _GAP * usual] if usual > 0.0 else intervals[:0]
    is_far_T = age_T > 0.5 * usual + _ROUNDING
    return StreamReport(
        num_messages=len(times_N),
        period=usual,
        num_gaps=len(gaps),
        num_missing=int(np.round(gaps / usual - 1.0).sum()) if len(gaps) else 0,
        longest_gap=float(gaps.max(initial=0.0)),
        worst_age=float(age_T.max()),
        num_far=int(is_far_T.sum()),
        far_share=float(is_far_T.mean()),
    )
