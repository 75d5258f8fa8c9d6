"""The table of faults as Markdown: `python -m piper_bringup.fault_table docs/hardware.md` renews it there."""

from __future__ import annotations

import sys
from pathlib import Path

from piper_bringup.control.faults import FAULTS
from vla_policy.errors import VlaError

_BEGIN, _END = "<!-- faults -->", "<!-- /faults -->"


def fault_table() -> str:
    """One row a fault."""
    rows = ["| fault | what it means | robot | what to do |", "|---|---|---|---|"]
    rows += [f"| `{name}` | {kind.meaning} | {kind.reaction.value} | {kind.remedy} |" for name, kind in FAULTS.items()]
    return "\n".join(rows)


def with_table(page: str) -> str:
    """The page with the table between its two marks.

    Raises:
        VlaError: a mark is missing.
    """
    before, begin, rest = page.partition(_BEGIN)
    _, end, after = rest.partition(_END)
    if not begin or not end:
        raise VlaError(f"the page lacks {_BEGIN} or {_END}; put both back where the table shall stand")
    return f"{before}{begin}\n{fault_table()}\n{end}{after}"


if __name__ == "__main__":
    file = Path(sys.argv[1])
    file.write_text(with_table(file.read_text(encoding="utf-8")), encoding="utf-8")
