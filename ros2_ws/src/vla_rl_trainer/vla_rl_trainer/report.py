"""One self-contained html page that shows what a run did: tables, curves, videos, configuration; no script, no request.

A page is a list of sections, a section a list of blocks; every kind of block draws itself. Nothing here knows of
GRPO or of any task, so that evaluation and experiments use the same page.
"""

from __future__ import annotations

import base64
import dataclasses
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote

from piper_twin.wilson import wilson_interval
from vla_rl_trainer.charts import NUM_COLOURS, Point, interval_bar, line_chart, smoothed
from vla_rl_trainer.disk import write_atomically
from vla_rl_trainer.report_template import PAGE, STYLE


class Block(Protocol):
    """Something that can stand in a section."""

    def html(self) -> str:
        """The block as html, everything from outside escaped."""
        ...


@dataclasses.dataclass(frozen=True, slots=True)
class Rate:
    """A table cell: a success rate, drawn with its interval."""

    successes: int
    episodes: int

    def html(self) -> str:
        """Number, bar and interval."""
        if not self.episodes:
            return '<div class="rate"><b>–</b><span>no episodes</span></div>'
        low, high = wilson_interval(self.successes, self.episodes)
        value = self.successes / self.episodes
        return (
            f'<div class="rate"><b>{100 * value:.1f} %</b>{interval_bar(value, low, high)}'
            f"<span>{100 * low:.1f} – {100 * high:.1f} %</span></div>"
        )


Cell = str | int | float | Rate


@dataclasses.dataclass(frozen=True, slots=True)
class Paragraph:
    """Plain text."""

    text: str

    def html(self) -> str:
        """One paragraph."""
        return f"<p>{escape(self.text)}</p>"


@dataclasses.dataclass(frozen=True, slots=True)
class Table:
    """Rows under headings. Numbers stand to the right, rates are drawn."""

    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    caption: str = ""

    def html(self) -> str:
        """The table on a card."""
        numeric = [
            bool(self.rows) and all(isinstance(row[number], (int, float)) for row in self.rows)
            for number in range(len(self.columns))
        ]
        classes = [' class="number"' if flag else "" for flag in numeric]
        head = "".join(f"<th{kind}>{escape(name)}</th>" for kind, name in zip(classes, self.columns, strict=True))
        body = "".join(
            "<tr>" + "".join(f"<td{kind}>{_cell(cell)}</td>" for kind, cell in zip(classes, row, strict=True)) + "</tr>"
            for row in self.rows
        )
        caption = f"<caption>{escape(self.caption)}</caption>" if self.caption else ""
        return f'<div class="card"><table>{caption}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


@dataclasses.dataclass(frozen=True, slots=True)
class Chart:
    """Lines over a common x axis."""

    title: str
    lines: Mapping[str, Sequence[Point]]
    percent: bool = False
    """True when y is a share between 0 and 1."""
    x_label: str = "step"

    def html(self) -> str:
        """A figure with the last value beside its title, or a legend where there are several lines."""
        note = ""
        if len(self.lines) == 1:
            points = smoothed(next(iter(self.lines.values())))
            if points:
                last = points[-1][1]
                note = f"<small>last {f'{100 * last:.1f} %' if self.percent else f'{last:.3g}'}</small>"
        legend = "".join(
            f'<span><i style="background:var(--c{number % NUM_COLOURS})"></i>{escape(name)}</span>'
            for number, name in enumerate(self.lines)
        )
        legend = f'<div class="legend">{legend}</div>' if len(self.lines) > 1 else ""
        drawing = line_chart(self.lines, self.percent, self.x_label)
        return f"<figure><figcaption>{escape(self.title)}{note}</figcaption>{legend}{drawing}</figure>"


@dataclasses.dataclass(frozen=True, slots=True)
class Charts:
    """Charts side by side."""

    charts: Sequence[Chart]

    def html(self) -> str:
        """A grid of figures."""
        return f'<div class="charts">{"".join(chart.html() for chart in self.charts)}</div>'


@dataclasses.dataclass(frozen=True, slots=True)
class Video:
    """An mp4 file (H.264) and what it shows."""

    caption: str
    mp4: bytes = dataclasses.field(repr=False)


@dataclasses.dataclass(frozen=True, slots=True)
class Videos:
    """Videos in rows of `columns`: before and after side by side."""

    videos: Sequence[Video]
    columns: int = 2

    def html(self) -> str:
        """A grid of players."""
        players = "".join(
            f"<figure><figcaption>{escape(video.caption)}</figcaption>"
            '<video controls loop muted playsinline preload="auto" '
            f'src="data:video/mp4;base64,{base64.b64encode(video.mp4).decode()}"></video></figure>'
            for video in self.videos
        )
        return f'<div class="videos" style="grid-template-columns:repeat({self.columns},1fr)">{players}</div>'


@dataclasses.dataclass(frozen=True, slots=True)
class Facts:
    """Names and values, such as a configuration; nested names are joined by dots."""

    values: Mapping[str, Any]
    folded_under: str = ""
    """When given, the list is folded away under this line."""

    def html(self) -> str:
        """A list on a card."""
        pairs = "".join(f"<dt>{escape(name)}</dt><dd>{escape(text)}</dd>" for name, text in _flat(self.values))
        content = f'<dl class="facts">{pairs}</dl>'
        if self.folded_under:
            content = f"<details><summary>{escape(self.folded_under)}</summary>{content}</details>"
        return f'<div class="card">{content}</div>'


@dataclasses.dataclass(frozen=True, slots=True)
class Links:
    """Other pages, by names relative to this one's folder."""

    pages: Sequence[str]

    def html(self) -> str:
        """A list on a card."""
        items = "".join(
            f'<li><a href="{escape(quote(page))}">{escape(Path(page).stem)}</a></li>' for page in self.pages
        )
        return f'<div class="card"><ul>{items}</ul></div>'


@dataclasses.dataclass(frozen=True, slots=True)
class Section:
    """A heading and what stands under it."""

    title: str
    blocks: Sequence[Block]

    def html(self) -> str:
        """Heading and blocks; the heading is left out where it is empty."""
        heading = f"<h2>{escape(self.title)}</h2>" if self.title else ""
        return "\n".join((f"<section>{heading}", *(block.html() for block in self.blocks), "</section>"))


@dataclasses.dataclass(frozen=True, slots=True)
class ReportData:
    """All that a page shows.

    Example:
        ReportData(
            title="click_bell",
            subtitle="GRPO from 20 demonstrations",
            sections=[Section("Result", [Table(["stage", "success"], [["SFT", Rate(45, 100)]])])],
        )
    """

    title: str
    subtitle: str
    sections: Sequence[Section]


def write_report(path: str | Path, data: ReportData) -> None:
    """Write the page, replacing an older one in one step.

    Raises:
        VlaError: the disk is full; the older page is untouched.
    """
    page = PAGE.format(
        title=escape(data.title),
        subtitle=escape(data.subtitle),
        style=STYLE,
        body="\n".join(section.html() for section in data.sections),
    )
    write_atomically(Path(path), page)


def charts_of(metrics: Sequence[Mapping[str, Any]], names: Mapping[str, bool]) -> Charts:
    """Charts of the lines of metrics.jsonl.

    Args:
        metrics: As `Run.metrics` gives them, each with a "step".
        names: Metric to whether it is a share to be drawn in percent; metrics nobody logged are left out.
    """
    charts = []
    for name, percent in names.items():
        points = [(float(line["step"]), float(line[name])) for line in metrics if line.get(name) is not None]
        if points:
            charts.append(Chart(name, {name: points}, percent))
    return Charts(charts)


def _cell(cell: Cell) -> str:
    if isinstance(cell, Rate):
        return cell.html()
    return f"{cell:.4g}" if isinstance(cell, float) else escape(str(cell))


def _flat(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    pairs: list[tuple[str, str]] = []
    for name, value in values.items():
        pairs += _flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else [(prefix + name, str(value))]
    return pairs
