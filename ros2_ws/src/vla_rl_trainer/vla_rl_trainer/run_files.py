"""What lies in a run folder as text: config.yaml and metrics.jsonl, read without locking the folder."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from vla_policy.errors import VlaError


def read_config(path: str | Path) -> dict[str, Any]:
    """The configuration of a run folder, without locking it.

    Raises:
        VlaError: no run folder, or config.yaml is damaged.
    """
    file = Path(path) / "config.yaml"
    try:
        config = yaml.safe_load(file.read_text())
    except FileNotFoundError as error:
        raise VlaError(f"{path} is not a run folder: config.yaml is missing; give the folder of a run") from error
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise VlaError(f"{file} cannot be read; restore it, choose another --out or delete the folder") from error
    if not isinstance(config, dict):
        raise VlaError(f"{file} holds no configuration; restore it, choose another --out or delete the folder")
    return config


def read_metrics(path: str | Path) -> list[dict[str, Any]]:
    """The metrics of a run folder, without locking it; a line torn by a kill at the very end is left out.

    Raises:
        VlaError: a line before the last one is damaged.
    """
    file = Path(path) / "metrics.jsonl"
    if not file.exists():
        return []
    pieces = file.read_bytes().split(b"\n")
    complete = pieces[:-1]  # whatever follows the last newline was torn
    return [_parse_line(piece, f"{file} line {number}") for number, piece in enumerate(complete, start=1)]


def _parse_line(piece: bytes, owner: str) -> dict[str, Any]:
    try:
        line = json.loads(piece)
        return {**line, "step": int(line["step"])}
    except (ValueError, TypeError, KeyError) as error:
        raise VlaError(f"{owner} is damaged; delete that line or restore the file") from error


def finite(value: float) -> float | None:
    """The value, or None where JSON has no word for it."""
    return value if math.isfinite(value) else None


def without_nan(value: Any) -> Any:
    """JSON has no NaN and no infinity; they become null."""
    if isinstance(value, dict):
        return {key: without_nan(item) for key, item in value.items()}
    if isinstance(value, list):
        return [without_nan(item) for item in value]
    return finite(value) if isinstance(value, float) else value


def to_yaml(config: Mapping[str, Any]) -> str:
    """The text of config.yaml."""
    return yaml.safe_dump(config, sort_keys=False, allow_unicode=True)


def plain(value: Any) -> Any:
    """What YAML and JSON give back after a round trip: tuples become lists, paths and the like strings."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, (np.generic, np.ndarray)):
        return plain(value.tolist())
    return value if value is None or isinstance(value, (bool, int, float, str)) else str(value)


def _flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested keys joined by dots."""
    flat: dict[str, Any] = {}
    for key, value in config.items():
        flat.update(_flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) and value else {prefix + key: value})
    return flat


def first_difference(
    stored: Mapping[str, Any],
    asked: Mapping[str, Any],
    may_differ: Collection[str],
    defaults: Mapping[str, Any] | None = None,
) -> tuple[str, object, object] | None:
    """Dotted key, stored and asked value of the first difference; None when there is none.

    Args:
        stored: Of the folder.
        asked: Of this start.
        may_differ: Dotted keys that are not compared.
        defaults: What stands for a key that `stored` lacks: it was made before there was such an option.
    """
    stored, asked, usual = _flat(stored), _flat(asked), _flat(defaults or {})
    for key in (*asked, *(key for key in stored if key not in asked)):
        mine, theirs = stored.get(key, usual.get(key, "(not set)")), asked.get(key, "(not set)")
        if mine != theirs and key not in may_differ:
            return key, mine, theirs
    return None
