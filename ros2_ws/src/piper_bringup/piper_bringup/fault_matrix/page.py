"""The matrix as a table of docs/safety.md.

python -m piper_bringup.fault_matrix.page runs/fault-matrix/summary.json docs/safety.md
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from piper_bringup.fault_table import with_table

MARK = "fault matrix"


def matrix_table(summary: Mapping[str, Any]) -> str:
    """What was measured where, and one row a fault."""
    counts = ", ".join(f"{summary[name]} {name}" for name in ("faults", "held", "named", "recovered"))
    never = ", ".join(f"{summary[name]} {name}" for name in ("disables", "resets", "falls"))
    records: Sequence[Mapping[str, Any]] = summary["records"]
    return "\n".join(
        [
            f"**{counts}; {never}.** {summary['hardware']}, commit {summary['commit']}, {summary['date']}.",
            "",
            "| fault | state | diagnostic | held after [s] | drift [mrad] | recovered by |",
            "|---|---|---|---:|---:|---|",
            *(_row(record) for record in records),
        ]
    )


def _row(record: Mapping[str, Any]) -> str:
    drift = "" if record["drift"] is None else f"{1000.0 * record['drift']:.1f}"
    cells = (record["name"], record["state"], record["diagnostic"], record["seconds_to_hold"], drift, record["how"])
    return f"| {' | '.join('' if cell is None else str(cell) for cell in cells)} |"


if __name__ == "__main__":
    measured, page = (Path(word) for word in sys.argv[1:])
    table = matrix_table(json.loads(measured.read_text(encoding="utf-8")))
    page.write_text(with_table(page.read_text(encoding="utf-8"), table, MARK), encoding="utf-8")
