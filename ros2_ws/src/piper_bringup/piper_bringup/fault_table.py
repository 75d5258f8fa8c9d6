"""The table of faults as Markdown: `python -m piper_bringup.fault_table docs/hardware.md` renews it there."""

from __future__ import annotations

import sys
from pathlib import Path

from piper_bringup.control.faults import FAULTS
from vla_policy.errors import VlaError


def fault_table() -> str:
    """One row a fault."""
    rows = ["| fault | what it means | robot | what to do |", "|---|---|---|---|"]
    rows += [f"| `{name}` | {kind.meaning} | {kind.reaction.value} | {kind.remedy} |" for name, kind in FAULTS.items()]
    return "\n".join(rows)


def with_table(page: str, table: str, mark: str) -> str:
    """The page with a table between its two marks, such as <!-- faults --> and <!-- /faults -->.

    Raises:
        VlaError: a mark is missing.
    """
    begin, end = f"<!-- {mark} -->", f"<!-- /{mark} -->"
    before, found, rest = page.partition(begin)
    _, ended, after = rest.partition(end)
    if not found or not ended:
        raise VlaError(f"the page lacks {begin} or {end}; put both back where the table shall stand")
    return f"{before}{begin}\n{table}\n{end}{after}"


if __name__ == "__main__":
    file = Path(sys.argv[1])
    file.write_text(with_table(file.read_text(encoding="utf-8"), fault_table(), "faults"), encoding="utf-8")
