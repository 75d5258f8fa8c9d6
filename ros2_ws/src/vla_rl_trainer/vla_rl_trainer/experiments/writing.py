"""What an experiment leaves behind: a table, a plot, and a page with the paragraph that says whether its claim held."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from vla_rl_trainer.disk import write_atomically
from vla_rl_trainer.experiments.experiment import Experiment, Verdict, names_of
from vla_rl_trainer.experiments.record import Pooled, Record, pool
from vla_rl_trainer.report import Facts, Links, Paragraph, Rate, ReportData, Section, Table, write_report

COLOURS = ("#9aa5b1", "#2f6fde", "#d9822b", "#2b9348", "#8e44ad", "#c0392b")


def judged(experiment: Experiment, records: Sequence[Record], conditions: Sequence[str]) -> Verdict:
    """The verdict; none where some of the conditions were not run."""
    verdict = experiment.judge(records)
    missing = [name for name in conditions if name not in names_of(records, "condition")]
    if not missing or verdict.held == "not decided":
        return verdict
    return Verdict("not decided", f"{verdict.text} Not run yet: {', '.join(missing)}.")


def write_all(out: Path, experiment: Experiment, records: Sequence[Record], conditions: Sequence[str]) -> Verdict:
    """Write `table.md`, `plot.png` and `report.html`; returns the verdict over all `conditions`."""
    verdict = judged(experiment, records, conditions)
    write_atomically(out / "table.md", _markdown(experiment, records, verdict))
    draw(out / "plot.png", experiment.name, records)
    films = sorted(page.relative_to(out).as_posix() for page in (out / "films").glob("*.html"))
    write_report(out / "report.html", page_of(experiment, records, verdict, films))
    return verdict


def rows_of(records: Sequence[Record]) -> list[tuple[str, str, Pooled, float]]:
    """Condition, stage, all seeds and tasks together, and mean seconds of training."""
    rows = []
    for condition in names_of(records, "condition"):
        own = [one for one in records if one.condition == condition]
        for stage in names_of(own, "stage"):
            staged = [one for one in own if one.stage == stage]
            spent = {one.seed: one.seconds for one in staged}
            rows.append((condition, stage, pool(staged), sum(spent.values()) / len(spent)))
    return rows


def sections_of(experiment: Experiment, records: Sequence[Record], verdict: Verdict) -> list[Section]:
    """Claim, verdict and numbers, for this page and for docs/results.html."""
    table = Table(
        ["condition", "stage", "success, 95 % interval", "episodes", "seconds of RL"],
        [
            [condition, stage, Rate(part.successes, part.episodes), part.episodes, f"{seconds:.0f}"]
            for condition, stage, part, seconds in rows_of(records)
        ],
    )
    single = Table(
        ["condition", "stage", "task", "seed", "success, 95 % interval"],
        [[one.condition, one.stage, one.task, one.seed, Rate(one.successes, one.episodes)] for one in records],
    )
    origins = {f"{one.scale}, {one.hardware}, {one.commit}": one.command for one in records}
    return [
        Section(
            f"{experiment.name}: {verdict.held}",
            [
                Paragraph(f"Claim. {experiment.claim}"),
                Paragraph(f"The paper. {experiment.paper}"),
                Paragraph(f"Ours. {verdict.text}"),
                *([Paragraph(f"Why it may be. {experiment.differs}")] if verdict.held == "did not hold" else []),
                table,
                Facts(origins),
            ],
        ),
        Section("Seed by seed", [single]),
    ]


def page_of(
    experiment: Experiment, records: Sequence[Record], verdict: Verdict, films: Sequence[str] = ()
) -> ReportData:
    """The experiment's own page; `films` are pages beside it."""
    seeds = ", ".join(names_of(records, "seed"))
    return ReportData(
        title=f"{experiment.name}: {verdict.held}",
        subtitle=f"seeds {seeds}; {', '.join(names_of(records, 'scale'))}",
        sections=sections_of(experiment, records, verdict) + ([Section("Films", [Links(films)])] if films else []),
    )


def _markdown(experiment: Experiment, records: Sequence[Record], verdict: Verdict) -> str:
    lines = [f"**{verdict.held}.** {experiment.claim} {verdict.text}", ""]
    lines += ["| condition | stage | success | 95 % | episodes | seconds of RL |", "|---|---|---:|---:|---:|---:|"]
    for condition, stage, part, seconds in rows_of(records):
        low, high = part.interval
        lines.append(
            f"| {condition} | {stage} | {part.rate:.1%} | {low:.1%} to {high:.1%} | {part.episodes} | {seconds:.0f} |"
        )
    return "\n".join(lines) + "\n"


def draw(file: Path, title: str, records: Sequence[Record]) -> None:
    """Success with 95 % intervals, a group of bars a condition and a bar a stage."""
    from matplotlib.figure import Figure

    rows = [row for row in rows_of(records) if row[2].episodes]
    conditions = list(dict.fromkeys(condition for condition, *_ in rows))
    stages = list(dict.fromkeys(stage for _, stage, *_ in rows))
    width = 0.8 / max(1, len(stages))
    figure = Figure(figsize=(max(5.0, 1.2 + 0.9 * len(conditions)), 3.6), layout="constrained")
    axes = figure.add_subplot()
    for number, stage in enumerate(stages):
        own = [(conditions.index(condition), part) for condition, name, part, _ in rows if name == stage]
        places = [index + (number - (len(stages) - 1) / 2) * width for index, _ in own]
        rates = [part.rate for _, part in own]
        below = [part.rate - part.interval[0] for _, part in own]
        above = [part.interval[1] - part.rate for _, part in own]
        axes.bar(places, rates, 0.92 * width, color=COLOURS[number % len(COLOURS)], label=stage)
        axes.errorbar(places, rates, [below, above], fmt="none", ecolor="#333", capsize=2, linewidth=1)
    leaning = {"rotation": 30, "ha": "right"} if len(conditions) > 3 else {}
    axes.set_xticks(range(len(conditions)), conditions, **leaning)
    axes.set_ylim(0.0, 1.0)
    axes.set_ylabel("success, 95 % interval")
    axes.set_title(title)
    axes.spines[["top", "right"]].set_visible(False)
    if stages:
        axes.legend(frameon=False, fontsize=8)
    figure.savefig(file, dpi=130)
