"""docs/suite.md: a page of all benchmark tasks, written from the tasks themselves and from measured rates.

    python -m piper_twin.rates --num-seeds 200 --randomization standard --out docs/suite_rates.json
    python -m piper_twin.suite_page --rates docs/suite_rates.json --out docs/suite.md

What a task counts as success is its class's docstring, so page and code say the same.
"""

from __future__ import annotations

import dataclasses
import inspect
import json
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import tyro

from piper_twin.exit_codes import exit_after
from piper_twin.robot import CONTROL_PERIOD
from piper_twin.task import Task
from piper_twin.tasks import TASKS
from piper_twin.wilson import wilson_interval
from vla_policy.errors import VlaError

_PREFACE = """# The tasks

Written by `python -m piper_twin.suite_page` from the tasks and from measured rates: change those, not this page.
Pictures by `python -m piper_twin.portraits --out docs/images`: the expert at work, and what the policy sees then.
"""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class SuitePageConfig:
    """What to write from what."""

    rates: Path
    """File that `piper_twin.rates --out` wrote."""
    out: Path
    """The page; pictures are taken to be in `images/` beside it."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """How an expert fared."""

    task: str
    num_successes: int
    num_worlds: int
    mean_steps: float | None
    """Control steps to success."""


def read_rates(file: Path) -> tuple[str, list[Measured]]:
    """The command that measured, and what it found.

    Raises:
        VlaError: the file is not what `piper_twin.rates --out` writes.
    """
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        return str(content["command"]), [Measured(**one) for one in content["rates"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise VlaError(f"{file} holds no rates; write it with python -m piper_twin.rates --out {file}") from error


def page_of(command: str, rates: Sequence[Measured], images: Path) -> str:
    """The page; a picture is shown where `images` has one."""
    found = {rate.task: rate for rate in rates}
    intro = f"Experts by `{command}`; 95 % intervals by Wilson.\n"
    rows = [
        "| task | horizon | expert | 95 % | steps to success |",
        "|---|---|---|---|---|",
        *(_row(task, found.get(name)) for name, task in TASKS.items()),
    ]
    sections = [_section(task, found.get(name), images) for name, task in TASKS.items()]
    return "\n".join([_PREFACE, intro, *rows, "", *sections])


def _row(task: Task, rate: Measured | None) -> str:
    link = f"[{task.name}](#{task.name})"
    if rate is None:
        return f"| {link} | {task.horizon} | not measured | | |"
    steps = "-" if rate.mean_steps is None else f"{rate.mean_steps:.0f}"
    return f"| {link} | {task.horizon} | {rate.num_successes} of {rate.num_worlds} | {_interval(rate)} | {steps} |"


def _section(task: Task, rate: Measured | None, images: Path) -> str:
    picture = images / f"{task.name}.png"
    expert = "not measured" if rate is None else f"{rate.num_successes} of {rate.num_worlds} ({_interval(rate)})"
    lines = [
        f"## {task.name}",
        "",
        *([f"![{task.name}]({picture.parent.name}/{picture.name})", ""] if picture.is_file() else []),
        "Told: " + "; ".join(f'"{words}"' for words in task.instructions) + ".",
        "",
        f"Success: {' '.join((inspect.getdoc(type(task)) or '').split())}",
        "",
        f"Horizon: {task.horizon} steps, {task.horizon * CONTROL_PERIOD:.1f} s. Expert: {expert}.",
        "",
    ]
    return "\n".join(lines)


def _interval(rate: Measured) -> str:
    low, high = wilson_interval(rate.num_successes, rate.num_worlds)
    return f"{100 * low:.1f} to {100 * high:.0f} %"


def write_page(config: SuitePageConfig) -> None:
    """Write the page that the command line asks for."""
    command, rates = read_rates(config.rates)
    config.out.write_text(page_of(command, rates, config.out.parent / "images"), encoding="utf-8")


def main() -> NoReturn:
    """Write the page."""
    exit_after(lambda: write_page(tyro.cli(SuitePageConfig)))


if __name__ == "__main__":
    main()
