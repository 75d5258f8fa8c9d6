"""The parts of a report page that show evaluations: success, how it came about, videos, where it all comes from."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from vla_rl_trainer.evaluation import Evaluation
from vla_rl_trainer.report import Facts, Paragraph, Rate, Section, Table, Video, Videos

Named = Sequence[tuple[str, Evaluation]]
"""Evaluations, each with what it is called in the first column."""


def success_table(heading: str, evaluations: Named) -> Table:
    """Success rates with intervals; `heading` says what the names are (stage, task)."""
    rows = [[name, one.decoding, Rate(one.num_successes, len(one.outcomes))] for name, one in evaluations]
    return Table([heading, "decoding", "success, 95 % interval"], rows)


def comparison_table(heading: str, names: Sequence[str], stages: Mapping[str, Sequence[Evaluation]]) -> Table:
    """Success rates with intervals, one column a stage; `heading` says what the names are."""
    rows = [
        [name, *(Rate(found[number].num_successes, len(found[number].outcomes)) for found in stages.values())]
        for number, name in enumerate(names)
    ]
    return Table([heading, *stages], rows)


def strategy_table(heading: str, evaluations: Named) -> Table:
    """How many successes showed each combination of signals."""
    rows = [[name, signals, str(count)] for name, one in evaluations for signals, count in one.strategies().items()]
    return Table([heading, "seen to happen", "successes"], rows)


def video_grid(videos: Sequence[Video]) -> Videos | Paragraph:
    """Videos two by two."""
    return Videos(videos) if videos else Paragraph("No videos were asked for.")


def origin_section(summary: Mapping[str, Any], config: Any) -> Section:
    """The command, the machine and the configuration dataclass behind a summary."""
    names = ("command", "seed", "hardware", "commit")
    provenance = {name: summary[name] for name in names if name in summary}
    return Section(
        "Where this comes from", [Facts(provenance), Facts(dataclasses.asdict(config), folded_under="configuration")]
    )
