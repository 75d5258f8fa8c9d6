"""One number of an experiment and where it comes from: what docs/results.json holds, and the pages are made of."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from piper_twin.wilson import wilson_interval
from vla_policy.errors import VlaError
from vla_rl_trainer.disk import write_atomically


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """Successes of one condition of an experiment with one seed."""

    experiment: str
    condition: str
    stage: str
    """Of the condition: SFT, RL, and whatever else it tells apart."""
    task: str
    seed: int
    successes: int
    episodes: int
    ci95: tuple[float, float]
    seconds: float
    """Training behind it, rollouts and updates of GRPO alone [s]."""
    scale: str
    command: str
    commit: str
    hardware: str
    outcomes: str
    """File of the single episodes, below the experiment's folder."""

    @property
    def key(self) -> tuple[Any, ...]:
        """What a newer record replaces."""
        return self.experiment, self.condition, self.stage, self.task, self.seed, self.scale, self.hardware


@dataclasses.dataclass(frozen=True, slots=True)
class Pooled:
    """Records counted together."""

    successes: int
    episodes: int

    @property
    def rate(self) -> float:
        """Share of successes; 0 without any episode."""
        return self.successes / max(1, self.episodes)

    @property
    def interval(self) -> tuple[float, float]:
        """95 % of Wilson's."""
        return wilson_interval(self.successes, self.episodes)

    def __str__(self) -> str:
        """Rate and interval in percent."""
        low, high = self.interval
        return f"{self.rate:.0%} ({100 * low:.0f} to {100 * high:.0f})" if self.episodes else "-"


def pool(records: Iterable[Record], **wanted: str) -> Pooled:
    """Count the records whose fields are as `wanted` together."""
    chosen = [one for one in records if all(getattr(one, name) == value for name, value in wanted.items())]
    return Pooled(sum(one.successes for one in chosen), sum(one.episodes for one in chosen))


def read_records(path: Path) -> list[Record]:
    """Read what `write_records` wrote; nothing where there is no file.

    Raises:
        VlaError: the file is damaged.
    """
    if not path.exists():
        return []
    try:
        return [Record(**fields | {"ci95": tuple(fields["ci95"])}) for fields in json.loads(path.read_text())]
    except (ValueError, TypeError, KeyError) as error:
        raise VlaError(f"{path} holds no records ({error}); restore it, or delete it to begin anew") from error


def write_records(path: Path, records: Sequence[Record]) -> None:
    """Write records, one a line, in one move."""
    lines = ",\n".join(json.dumps(dataclasses.asdict(one)) for one in records)
    write_atomically(path, f"[\n{lines}\n]\n")


def merged(old: Sequence[Record], new: Sequence[Record]) -> list[Record]:
    """Both, in the order they came; of two with one key the newer."""
    return list({one.key: one for one in (*old, *new)}.values())
