"""The hardware page tells of every fault what the code does."""

from pathlib import Path

import pytest

from piper_bringup.control.faults import FAULTS
from piper_bringup.fault_table import fault_table, with_table
from vla_policy.errors import VlaError

PAGE = Path(__file__).parents[2] / "docs" / "hardware.md"


def test_the_hardware_page_is_up_to_date():
    page = PAGE.read_text(encoding="utf-8")
    assert with_table(page, fault_table(), "faults") == page, (
        "run: python -m piper_bringup.fault_table docs/hardware.md"
    )


def test_every_fault_is_a_row():
    assert [line.split("`")[1] for line in fault_table().splitlines()[2:]] == list(FAULTS)


def test_a_page_without_marks_is_refused():
    with pytest.raises(VlaError, match="put both back"):
        with_table("<!-- faults --> and nothing more", "", "faults")
