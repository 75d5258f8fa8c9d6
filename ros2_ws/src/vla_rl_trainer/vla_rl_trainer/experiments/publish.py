"""The page of all experiments, made from the numbers that were published.

python -m vla_rl_trainer.experiments.publish --records docs/results.json --page docs/results.html
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

from vla_policy.errors import VlaError
from vla_rl_trainer.command import run_command
from vla_rl_trainer.experiments.choose import ALL
from vla_rl_trainer.experiments.experiment import names_of
from vla_rl_trainer.experiments.record import Record, read_records
from vla_rl_trainer.experiments.scale import SCALES
from vla_rl_trainer.experiments.writing import judged, sections_of
from vla_rl_trainer.report import Paragraph, ReportData, Section, Table, write_report


@dataclasses.dataclass(frozen=True, kw_only=True)
class PublishConfig:
    """From numbers to a page."""

    records: Path = Path("docs/results.json")
    page: Path = Path("docs/results.html")


def page_of(records: list[Record]) -> ReportData:
    """What each experiment claims, what the paper has, what we have; where nothing was measured, it says so."""
    overview, sections = [], []
    for experiment in ALL:
        of_it = [one for one in records if one.experiment == experiment.name]
        for scale in names_of(of_it, "scale"):
            own = [one for one in of_it if one.scale == scale]
            verdict = judged(experiment, own, experiment.conditions(SCALES[scale]))
            overview.append([experiment.name, scale, verdict.held, experiment.paper, verdict.text])
            sections += sections_of(experiment, own, verdict)
        if not of_it:
            overview.append([experiment.name, "", "not measured", experiment.paper, ""])
    table = Table(["experiment", "scale", "claim", "the paper", "ours"], overview)
    note = Paragraph(
        "Numbers of the paper are from arXiv v1 of SimpleVLA-RL; intervals are Wilson's, 95 %, seeds pooled."
    )
    return ReportData(
        title="What reinforcement learning does on two simulated Pipers",
        subtitle=f"{sum(one.episodes for one in records):,} evaluated episodes",
        sections=[Section("All claims", [table, note]), *sections],
    )


def main(config: PublishConfig) -> None:
    """Write the page.

    Raises:
        VlaError: there are no numbers.
    """
    records = read_records(config.records)
    if not records:
        raise VlaError(f"{config.records} holds no numbers; run an experiment with --publish {config.records} first")
    write_report(config.page, page_of(records))
    print(config.page)


if __name__ == "__main__":
    run_command(main, PublishConfig)
