"""How long things take: a histogram that never grows, and the one a running policy keeps of its answers."""

from __future__ import annotations

import collections
import math

_SHORTEST = 1e-4
"""Upper edge of the first bucket [s]."""
_PER_DOUBLING = 16
"""Buckets from one duration to its double: a quantile is told to within 4.5 %."""
_NUM_BUCKETS = 18 * _PER_DOUBLING
"""The last bucket begins at about 26 s and has no end."""
_RECENT = 8
"""Answers by which the next one's duration is foreseen."""


class Histogram:
    """Durations, counted in buckets whose edges grow geometrically."""

    def __init__(self) -> None:
        self.count = 0
        self.longest = 0.0
        """[s]."""
        self._counts = [0] * _NUM_BUCKETS

    def add(self, duration: float) -> None:
        """Count a duration [s]; a negative one, from a clock that was set, counts as none."""
        self.count += 1
        self.longest = max(self.longest, duration)
        steps = math.ceil(_PER_DOUBLING * math.log2(duration / _SHORTEST)) if duration > _SHORTEST else 0
        self._counts[min(steps, _NUM_BUCKETS - 1)] += 1

    def quantile(self, share: float) -> float:
        """Duration that `share` of those counted do not exceed [s]; 0 before the first."""
        seen = 0
        for bucket, count in enumerate(self._counts):
            seen += count
            if seen and seen >= share * self.count:
                return min(_edge(bucket), self.longest)
        return 0.0

    def buckets(self) -> list[tuple[float, int]]:
        """Upper edge [s] and count of every bucket that is not empty."""
        return [(_edge(bucket), count) for bucket, count in enumerate(self._counts) if count]


class Latency:
    """What the answers of a policy took, part by part."""

    def __init__(self) -> None:
        self.parts = {name: Histogram() for name in ("observe", "inference", "publish", "overhead")}
        """observe: from the observation's stamp to the start of the inference; publish: from its end until the chunk
        was handed over; overhead: the two together, all but the model."""
        self._recent: collections.deque[float] = collections.deque(maxlen=_RECENT)

    def add(self, observe: float, inference: float, publish: float) -> None:
        """Count an answer; durations in [s]."""
        overhead = observe + publish
        for histogram, duration in zip(self.parts.values(), (observe, inference, publish, overhead), strict=True):
            histogram.add(duration)
        self._recent.append(inference + publish)

    def foreseen(self) -> float:
        """How long the next answer will take from the start of its inference [s]: as long as the slowest of late."""
        return max(self._recent, default=0.0)

    def values(self) -> dict[str, object]:
        """Everything as rows of a diagnostic, in milliseconds."""
        rows: dict[str, object] = {"latency_count": self.parts["inference"].count}
        for name, part in self.parts.items():
            told = {"p50": part.quantile(0.5), "p95": part.quantile(0.95), "p99": part.quantile(0.99)}
            rows |= {f"{name}_{key}_ms": _ms(value) for key, value in (told | {"max": part.longest}).items()}
        for name, part in self.parts.items():
            rows[f"{name}_histogram_ms"] = " ".join(f"{_ms(edge)}:{count}" for edge, count in part.buckets())
        return rows


def _edge(bucket: int) -> float:
    return _SHORTEST * 2.0 ** (bucket / _PER_DOUBLING)


def _ms(duration: float) -> str:
    return f"{duration * 1000:.3g}" if duration < 1.0 else f"{duration * 1000:.0f}"
