"""The table of experts: who succeeds how often, the same for any number of processes."""

import io
import sys
from pathlib import Path

import pytest
from rich.console import Console

from piper_twin import rates
from piper_twin.rates import ExpertRate, RatesConfig, Try, expert_rates, table_of
from piper_twin.tasks import TASKS
from vla_policy.errors import VlaError


@pytest.fixture(scope="module")
def bells():
    return expert_rates(RatesConfig(tasks=("click_bell",), num_seeds=4, num_workers=1))


def text_of(found):
    console = Console(width=80, file=io.StringIO())
    console.print(table_of(found))
    return console.file.getvalue()


def test_the_expert_of_the_bell_succeeds(bells):
    (bell,) = bells
    assert (bell.task, bell.num_successes, bell.num_unreachable, len(bell.tries)) == ("click_bell", 4, 0, 4)
    assert 0 < bell.mean_steps < TASKS["click_bell"].horizon
    assert bell.interval == pytest.approx((0.5101, 1.0), abs=5e-5)
    assert "100.0%" in text_of(bells)


def test_the_table_does_not_depend_on_the_number_of_processes(bells):
    assert expert_rates(RatesConfig(tasks=("click_bell",), num_seeds=4, num_workers=2)) == bells


def test_failures_and_plans_out_of_reach_are_told_apart():
    tries = (Try("click_bell", True, 40), Try("click_bell", True, 60), Try("click_bell", False, 90))
    rate = ExpertRate("click_bell", (*tries, Try("click_bell", False, 0)))
    assert (rate.num_successes, rate.num_unreachable, rate.mean_steps) == (2, 1, 50)
    row = next(line for line in text_of([rate]).splitlines() if "click_bell" in line)
    assert [cell.strip() for cell in row.strip("│").split("│")] == [
        "click_bell", "50.0%", "15% .. 85%", "4", "1", "50", "64",
    ]  # fmt: skip


def test_without_a_success_there_are_no_steps_to_it():
    rate = ExpertRate("click_bell", (Try("click_bell", False, 90),))
    assert rate.mean_steps is None
    assert " - " in text_of([rate])


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"tasks": ("fold_towel",)}, "choose one of .*click_bell"),
        ({"tasks": ()}, "--tasks"),
        ({"num_seeds": 0}, "at least 1"),
        ({"num_workers": 0}, "at least 1"),
        ({"first_seed": -1}, "count from 0"),
        ({"randomization": "wild"}, "choose one of off"),
        ({"split": "test"}, "choose one of train"),
        ({"out": Path("no/such/folder/rates.json")}, "make it first"),
    ],
)
def test_what_names_no_worlds_is_refused(wrong, message):
    with pytest.raises(VlaError, match=message):
        RatesConfig(**wrong)


def test_a_mistake_is_one_line_and_exit_code_2(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["rates", "--tasks", "fold_towel"])
    with pytest.raises(SystemExit) as ended:
        rates.main()
    assert ended.value.code == 2
    assert capsys.readouterr().err.startswith("error: task 'fold_towel' does not exist;")


def test_the_command_prints_the_table(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["rates", "--tasks", "click_bell", "--num-seeds", "1", "--num-workers", "1"])
    with pytest.raises(SystemExit) as ended:
        rates.main()
    assert ended.value.code == 0
    assert "click_bell" in capsys.readouterr().out
