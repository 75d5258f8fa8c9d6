"""Inject every fault into the real path while the arms move, and judge what becomes of it.

    make fault-matrix        # or: python -m piper_bringup.fault_matrix --out runs/fault-matrix

Emulated arms speak CAN to the unmodified piper_sdk in robot_node; cameras and policy run beside it. For each fault:
do the arms hold, do the diagnostics name it, does the operator get them to move again, and was torque ever taken?
`summary.json` has a record of each; the exit code is 1 if one of them failed.
"""

from __future__ import annotations

import dataclasses
import json
import os
import random
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any

import tyro
from rich.console import Console
from rich.table import Table

from piper_bringup.fault_matrix.cases import Case, cases
from piper_bringup.fault_matrix.judge import Record
from piper_bringup.fault_matrix.play import play
from piper_bringup.fault_matrix.stage import Stage
from piper_twin.exit_codes import exit_after
from piper_twin.robot import ARMS
from vla_policy.errors import VlaError
from vla_policy.provenance import provenance

DOMAINS = range(1, 102)
"""Above 101 the ports of a domain meet those that Linux hands out."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class MatrixConfig:
    """Which faults, and where to."""

    out: Path = Path("runs/fault-matrix")
    """Folder for summary.json and the output of the nodes (graph.log)."""
    only: tuple[str, ...] = ()
    """Play only faults with one of these words in their names."""

    def chosen(self) -> list[Case]:
        """The faults to play.

        Raises:
            VlaError: there is none of these words.
        """
        found = [case for case in cases() if not self.only or any(word in case.name for word in self.only)]
        if not found:
            raise VlaError(f"no fault has {' or '.join(self.only)} in its name; there are: {_names()}")
        return found


def _names() -> str:
    return ", ".join(case.name for case in cases())


def matrix(config: MatrixConfig) -> int:
    """Play them all; 1 if one failed."""
    chosen, console = config.chosen(), Console()
    config.out.mkdir(parents=True, exist_ok=True)
    os.environ.setdefault("ROS_DOMAIN_ID", str(random.choice(DOMAINS)))  # nobody else's robot shall hear of this
    began = time.monotonic()
    records: list[Record] = []
    with (config.out / "graph.log").open("w", encoding="utf-8") as log:
        for number, record in enumerate(played(chosen, log), start=1):
            records.append(record)
            mark = "[green]ok[/]" if record.is_good else f"[red]{'; '.join(record.problems)}[/]"
            console.print(f"{number:2}/{len(chosen)} {record.name}: {mark}", highlight=False)
    summary = summarize(records) | {"seconds": round(time.monotonic() - began, 1)} | provenance(seed=0)
    (config.out / "summary.json").write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
    console.print(table(records))
    words = ("faults", "held", "named", "recovered", "disables", "resets")
    console.print(", ".join(f"{summary[word]} {word}" for word in words), highlight=False)
    return int(not all(record.is_good for record in records))


def played(chosen: Sequence[Case], log: IO[str]) -> Iterator[Record]:
    """The record of each, as soon as there is one; arms take turns."""
    from piper_bringup.ros.fault_operator import FaultOperator  # the parts above are used without ROS

    with tempfile.TemporaryDirectory(prefix="fault_matrix_") as folder:
        stage = Stage(Path(folder), log, FaultOperator)
        try:
            for number, case in enumerate(chosen):
                yield play(case, ARMS[number % len(ARMS)], stage)
        finally:
            stage.close()


def summarize(records: Sequence[Record]) -> dict[str, Any]:
    """Counts, and every record."""
    return {
        "faults": len(records),
        **{name: sum(getattr(record, name) for record in records) for name in ("held", "named", "recovered")},
        **{name: sum(getattr(record, name) for record in records) for name in ("disables", "resets")},
        "falls": sum(record.counted.get("falls", 0) for record in records),
        "failed": [record.name for record in records if not record.is_good],
        "records": [dataclasses.asdict(record) for record in records],
    }


def table(records: Sequence[Record]) -> Table:
    """One row a fault."""
    found = Table(title="Fault matrix")
    for head in ("fault", "state", "diagnostic", "held after [s]", "drift [mrad]", "recovered by"):
        found.add_column(head)
    for record in records:
        seconds = "-" if record.seconds_to_hold is None else f"{record.seconds_to_hold:.2f}"
        gone = "-" if record.drift is None else f"{1000.0 * record.drift:.1f}"
        row = (record.name, record.state, record.diagnostic, seconds, gone, record.how)
        found.add_row(*row, style=None if record.is_good else "red")
    return found


if __name__ == "__main__":
    exit_after(lambda: matrix(tyro.cli(MatrixConfig)))
