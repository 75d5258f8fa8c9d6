"""Which of a published folder's statistics to un-normalise with.

Files and users name one data set in several ways: LIBERO's suites with and without `_no_noops`, RoboTwin's tasks with
`robotwin2_` before or `_1k` after them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from vla_policy.errors import VlaError
from vla_policy.normalization import DatasetStatistics, Statistics

FILE = "dataset_statistics.json"
_ROBOTWIN = "robotwin2_"
_ENDINGS = ("", "_no_noops", "_1k")


def read(folder: Path, config: Mapping[str, Any]) -> dict[str, Any]:
    """Read all data sets' statistics: of the file of their own, else of `config.json`.

    Raises:
        VlaError: there are none, or the file is damaged.
    """
    path = folder / FILE
    if path.is_file():
        try:
            datasets = dict[str, Any](json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError) as error:
            raise VlaError(f"{path} cannot be read ({error}); download it again") from error
    else:
        datasets = config.get("norm_stats") or {}
    if not isinstance(datasets, dict) or not datasets:
        raise VlaError(
            f"{folder} has no statistics: neither {FILE} nor norm_stats in config.json; copy {FILE} from the "
            "checkpoint it was fine-tuned beside (for LIBERO: moojink/openvla-7b-oft-finetuned-libero-*)"
        )
    return datasets


def resolve(datasets: Mapping[str, Any], wanted: str | None, owner: str) -> str:
    """Find the entry that `wanted` means; without a wish, the only one there is.

    Raises:
        VlaError: there is none, or no telling which; lists those there are.
    """
    there = ", ".join(sorted(datasets))
    if wanted is None:
        if len(datasets) == 1:
            return next(iter(datasets))
        raise VlaError(f"{owner} has statistics of several data sets; choose an un-normalise key: {there}")
    stem = wanted.removeprefix(_ROBOTWIN)
    for ending in _ENDINGS:
        for name in (wanted + ending, stem + ending):
            if name in datasets:
                return name
    hint = ""
    if wanted.startswith("libero"):
        hint = f"; {FILE} of the matching moojink/openvla-7b-oft-finetuned-libero-* has LIBERO's, copy it over"
    raise VlaError(f"{owner} has no statistics for '{wanted}'; un-normalise keys there are: {there}{hint}")


def of(datasets: Mapping[str, Any], key: str, with_proprio: bool, owner: str) -> DatasetStatistics:
    """One data set's statistics; without proprio its numbers are left out, and may be missing.

    Raises:
        VlaError: they are damaged.
    """
    nothing = np.zeros(0, np.float32)
    try:
        fields: dict[str, Any] = dict(datasets[key])
        if with_proprio:
            return DatasetStatistics.from_dict(fields)
        action = Statistics.from_dict(fields["action"])
    except (VlaError, KeyError, AttributeError, TypeError, ValueError) as error:
        raise VlaError(f"{owner}: statistics of '{key}' cannot be read ({error}); download {FILE} again") from error
    empty = Statistics(
        mean=nothing, std=nothing, min=nothing, max=nothing, q01=nothing, q99=nothing, mask=np.zeros(0, np.bool_)
    )
    return DatasetStatistics(
        action=action,
        proprio=empty,
        num_transitions=int(fields.get("num_transitions", 0)),
        num_trajectories=int(fields.get("num_trajectories", 0)),
    )
