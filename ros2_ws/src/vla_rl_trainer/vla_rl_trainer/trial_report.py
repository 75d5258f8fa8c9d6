"""The table of trials: policies down, sim, emulated and real across, and who beats whom on the same worlds."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from vla_policy.provenance import provenance
from vla_rl_trainer.disk import write_atomically
from vla_rl_trainer.report import Cell, Facts, Rate, ReportData, Section, Table, write_report
from vla_rl_trainer.trials import COLUMNS, Trial, summarise


def write_results(out: Path, trials: Sequence[Trial]) -> str:
    """Write `summary.json` and `report.html` into `out`; returns the result in one line."""
    origin = {name: value for name, value in provenance(0).items() if name != "seed"}
    summary = summarise(trials) | origin
    write_atomically(out / "summary.json", json.dumps(summary, indent=2))
    sections = [
        Section("Success", [success_table(trials)]),
        Section("Policies on the same worlds", [comparison_table(trials)]),
        Section("Every trial", [trial_table(trials)]),
        Section("Where this comes from", [Facts(origin)]),
    ]
    write_report(
        out / "report.html",
        ReportData(
            title=f"{len(trials)} trials through the robot's graph",
            subtitle=", ".join(dict.fromkeys(trial.task for trial in trials)),
            sections=sections,
        ),
    )
    solved = sum(trial.success for trial in trials)
    return f"{solved} of {len(trials)} trials succeeded; {out / 'report.html'}"


def success_table(trials: Sequence[Trial]) -> Table:
    """One row a policy, one column for each place trials were run in."""
    columns = [column for column in COLUMNS if any(trial.column == column for trial in trials)]
    rows: list[list[Cell]] = []
    for policy in dict.fromkeys(trial.policy for trial in trials):
        row: list[Cell] = [policy]
        for column in columns:
            chosen = [trial.success for trial in trials if (trial.policy, trial.column) == (policy, column)]
            row.append(Rate(sum(chosen), len(chosen)))
        rows.append(row)
    return Table(["policy", *columns], rows, caption="Success with 95 % Wilson intervals.")


def comparison_table(trials: Sequence[Trial]) -> Table:
    """McNemar's exact test of every two policies."""
    rows: list[list[Cell]] = [
        [
            one["column"],
            f"{one['first']} / {one['second']}",
            one["num_pairs"],
            one["only_first"],
            one["only_second"],
            f"{one['p_value']:.3g}",
        ]
        for one in summarise(trials)["comparisons"]
    ]
    heads = ["where", "first / second", "shared worlds", "only first solved", "only second solved", "p (McNemar)"]
    return Table(heads, rows, caption="" if rows else "One policy only: nothing to compare yet.")


def trial_table(trials: Sequence[Trial]) -> Table:
    """One row a trial."""
    rows: list[list[Cell]] = [
        [one.column, one.policy, one.task, one.seed, "success" if one.success else "failure", f"{one.seconds:.1f} s"]
        for one in trials
    ]
    return Table(["where", "policy", "task", "seed", "outcome", "time"], rows)
