"""Statistics of a data set, and the map between real units and [-1, 1] that they define.

The file format and the arithmetic are OpenVLA's (`dataset_statistics.json`), so that published files work unchanged.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from vla_policy.errors import VlaError
from vla_policy.types import Vector

Scheme = Literal["bounds", "bounds_q99"]
"""Which range becomes [-1, 1]: min to max, or the 1st to the 99th percentile."""
SCHEMES: tuple[str, ...] = get_args(Scheme)

_EPSILON = 1e-8
_FIELDS = ("mean", "std", "min", "max", "q01", "q99")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Statistics:
    """Spread of one kind of vector over a data set; every field has shape (size,)."""

    mean: Vector
    std: Vector
    min: Vector
    max: Vector
    q01: Vector
    """1st percentile."""
    q99: Vector
    """99th percentile."""
    mask: npt.NDArray[np.bool_]
    """False where the number passes through as it is."""

    def __post_init__(self) -> None:
        """Refuse fields of unequal length and numbers that are not finite."""
        for field in _FIELDS:
            values = getattr(self, field)
            if values.shape != self.mask.shape or values.ndim != 1:
                raise VlaError(f"statistics: '{field}' has shape {values.shape}, the mask {self.mask.shape}")
            if not np.isfinite(values).all():
                raise VlaError(f"statistics: '{field}' is not finite; compute the statistics again")

    @property
    def size(self) -> int:
        """Length of the vectors described."""
        return self.mask.shape[0]

    @staticmethod
    def of(values: npt.ArrayLike, mask: npt.ArrayLike | None = None) -> Statistics:
        """Measure `values`; every axis but the last is counted over.

        Args:
            values: Data, shape (..., size).
            mask: False where numbers shall pass through unchanged; all True by default.
        """
        data = np.atleast_2d(np.asarray(values, dtype=np.float64))
        if not data.size:
            raise VlaError("statistics of no data at all: record or generate demonstrations first")
        axes = tuple(range(data.ndim - 1))
        q01, q99 = (np.quantile(data, share, axis=axes) for share in (0.01, 0.99))
        fields = (data.mean(axes), data.std(axes), data.min(axes), data.max(axes), q01, q99)
        chosen = np.asarray([True] * data.shape[-1] if mask is None else mask, np.bool_)
        return Statistics(
            **{name: field.astype(np.float32) for name, field in zip(_FIELDS, fields, strict=True)}, mask=chosen
        )

    @staticmethod
    def from_dict(fields: Mapping[str, Any]) -> Statistics:
        """Read one entry of `dataset_statistics.json`; a missing mask means all True."""
        try:
            arrays = {name: np.asarray(fields[name], np.float32) for name in _FIELDS}
        except KeyError as error:
            raise VlaError(f"statistics lack {error}; there are {sorted(fields)}") from error
        except (TypeError, ValueError) as error:
            raise VlaError(f"statistics are not lists of numbers ({error})") from error
        mask = np.asarray(fields.get("mask", np.ones(arrays["min"].shape)), bool)
        return Statistics(**arrays, mask=mask)

    def to_dict(self) -> dict[str, list[float] | list[bool]]:
        """The JSON form of `from_dict`."""
        return {field.name: getattr(self, field.name).tolist() for field in dataclasses.fields(self)}


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class DatasetStatistics:
    """What normalisation needs to know of one data set."""

    action: Statistics
    """Of the actions in the frame the policy predicts (`action_frame`)."""
    proprio: Statistics
    """Of the measured joint states."""
    num_transitions: int
    num_trajectories: int

    @staticmethod
    def from_dict(fields: Mapping[str, Any]) -> DatasetStatistics:
        """Read one data set of `dataset_statistics.json`."""
        for name in ("action", "proprio"):
            if not isinstance(fields.get(name), Mapping):
                raise VlaError(f"statistics lack '{name}'; there are {sorted(fields)}")
        return DatasetStatistics(
            action=Statistics.from_dict(fields["action"]),
            proprio=Statistics.from_dict(fields["proprio"]),
            num_transitions=int(fields.get("num_transitions", 0)),
            num_trajectories=int(fields.get("num_trajectories", 0)),
        )

    def to_dict(self) -> dict[str, Any]:
        """The JSON form of `from_dict`."""
        return {
            "action": self.action.to_dict(),
            "proprio": self.proprio.to_dict(),
            "num_transitions": self.num_transitions,
            "num_trajectories": self.num_trajectories,
        }


def read_statistics(path: Path, key: str) -> DatasetStatistics:
    """Read the data set `key` from a `dataset_statistics.json`.

    Raises:
        VlaError: the file is missing or damaged, or has no such key (the message lists those it has).
    """
    try:
        datasets = dict[str, Any](json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise VlaError(f"{path} cannot be read ({error}); copy it from the original checkpoint") from error
    if key not in datasets:
        raise VlaError(f"{path} has no statistics for '{key}'; un-normalise keys there are: {', '.join(datasets)}")
    try:
        return DatasetStatistics.from_dict(datasets[key])
    except (VlaError, AttributeError, TypeError) as error:
        raise VlaError(f"{path}, '{key}': {error}") from error


def write_statistics(path: Path, datasets: Mapping[str, DatasetStatistics]) -> None:
    """Write a `dataset_statistics.json`."""
    text = json.dumps({key: dataset.to_dict() for key, dataset in datasets.items()}, indent=2)
    path.write_text(text, encoding="utf-8")


def normalise(values: npt.ArrayLike, statistics: Statistics, scheme: Scheme) -> Vector:
    """Map real units to [-1, 1]; what the statistics never saw is clipped, and constant dimensions become 0.

    Args:
        values: In real units, shape (..., size).
        statistics: Of the same kind of vector.
        scheme: Range that becomes [-1, 1].
    """
    raw = np.asarray(values, dtype=np.float64)
    low, high = _range(statistics, scheme)
    scaled = np.minimum(np.maximum(2 * (raw - low) / (high - low + _EPSILON) - 1, -1.0), 1.0)
    chosen = np.where(statistics.mask, scaled, raw)
    return np.where(statistics.min == statistics.max, 0.0, chosen).astype(np.float32)


def un_normalise(values: npt.ArrayLike, statistics: Statistics, scheme: Scheme) -> Vector:
    """Inverse of `normalise` inside the range of the statistics."""
    scaled = np.asarray(values, dtype=np.float64)
    low, high = _range(statistics, scheme)
    return np.where(statistics.mask, 0.5 * (scaled + 1) * (high - low + _EPSILON) + low, scaled).astype(np.float32)


def _range(statistics: Statistics, scheme: Scheme) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    if scheme not in SCHEMES:
        raise VlaError(f"unknown normalisation '{scheme}'; choose one of {', '.join(SCHEMES)}")
    low, high = (statistics.min, statistics.max) if scheme == "bounds" else (statistics.q01, statistics.q99)
    return low.astype(np.float64), high.astype(np.float64)
