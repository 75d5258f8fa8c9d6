"""The page of all tasks: written from tasks and counts, and nothing on it that neither of them says."""

import sys

import pytest

from piper_twin import suite_page
from piper_twin.rates import ExpertRate, RatesConfig, Try, write_rates
from piper_twin.suite_page import Measured, page_of, read_rates
from piper_twin.tasks import TASKS
from vla_policy.errors import VlaError


@pytest.fixture
def rates_file(tmp_path):
    config = RatesConfig(tasks=("click_bell", "lift_pot"), num_seeds=2, out=tmp_path / "rates.json")
    bell = ExpertRate("click_bell", (Try("click_bell", True, 20), Try("click_bell", True, 30)))
    pot = ExpertRate("lift_pot", (Try("lift_pot", False, 90), Try("lift_pot", False, 0)))
    write_rates(config, [bell, pot])
    return config.out


def test_counts_are_read_as_they_were_written(rates_file):
    command, rates = read_rates(rates_file)
    assert command == (
        "python -m piper_twin.rates --tasks click_bell lift_pot --num-seeds 2 --first-seed 0 "
        "--randomization standard --split demonstration"
    )
    assert rates == [
        Measured(task="click_bell", num_successes=2, num_worlds=2, mean_steps=25.0),
        Measured(task="lift_pot", num_successes=0, num_worlds=2, mean_steps=None),
    ]


def test_the_page_has_every_task_with_its_phrasings_predicate_and_horizon(rates_file, tmp_path):
    page = page_of(*read_rates(rates_file), images=tmp_path / "images")
    for task in TASKS.values():
        section = page.split(f"## {task.name}\n")[1].split("\n## ")[0]
        assert all(f'"{words}"' in section for words in task.instructions)
        words = type(task).__doc__
        assert words is not None
        assert words.split("\n")[0] in section
        assert f"Horizon: {task.horizon} steps" in section
    assert "| [click_bell](#click_bell) | 64 | 2 of 2 | 34.2 to 100 % | 25 |" in page
    assert "| 0 of 2 | 0.0 to 66 % | - |" in page
    assert "| [pick_bottle](#pick_bottle) | 120 | not measured |" in page


def test_only_pictures_that_exist_are_shown(rates_file, tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "lift_pot.png").write_bytes(b"")
    page = page_of(*read_rates(rates_file), images=tmp_path / "images")
    assert "![lift_pot](images/lift_pot.png)" in page
    assert page.count("![") == 1


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"command": "x", "rates": [{"task": "click_bell"}]}'])
def test_what_holds_no_rates_is_refused(tmp_path, content):
    file = tmp_path / "rates.json"
    file.write_text(content)
    with pytest.raises(VlaError, match=r"write it with python -m piper_twin.rates --out"):
        read_rates(file)


def test_the_command_writes_the_page(rates_file, tmp_path, monkeypatch):
    out = tmp_path / "suite.md"
    monkeypatch.setattr(sys, "argv", ["suite_page", "--rates", str(rates_file), "--out", str(out)])
    with pytest.raises(SystemExit) as ended:
        suite_page.main()
    assert ended.value.code == 0
    assert out.read_text().startswith("# The tasks")
