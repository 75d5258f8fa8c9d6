"""What a person sees of a command that goes wrong."""

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import pytest

from vla_policy.errors import VlaError
from vla_rl_trainer.command import find, run_command, run_presets
from vla_rl_trainer.config_checks import require_above, require_at_least, require_at_most


@dataclasses.dataclass(frozen=True, kw_only=True)
class Inner:
    num_steps: int = 3
    """Steps."""

    def __post_init__(self) -> None:
        require_at_least(self, 1, "num_steps")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    inner: Inner = dataclasses.field(default_factory=Inner)
    task: str = "click_bell"
    """Task."""


def run(monkeypatch, main, *arguments, config=Config):
    monkeypatch.setattr(sys, "argv", ["command", *arguments])
    with pytest.raises(SystemExit) as ended:
        run_command(main, config)
    return ended.value.code


def fail(error):
    def main(config):
        raise error

    return main


def test_arguments_reach_main_and_success_is_zero(monkeypatch):
    seen = []
    assert run(monkeypatch, seen.append, "--task", "stack_bowls", "--inner.num-steps", "7") == 0
    assert seen == [Config(task="stack_bowls", inner=Inner(num_steps=7))]


def test_an_instance_gives_the_defaults(monkeypatch):
    seen = []
    run(monkeypatch, seen.append, "--task", "x", config=Config(inner=Inner(num_steps=9)))
    assert seen == [Config(task="x", inner=Inner(num_steps=9))]


@pytest.mark.parametrize(("returned", "code"), [(None, 0), (0, 0), (3, 3), ("runs/x", 0)])
def test_main_may_return_an_exit_code(monkeypatch, returned, code):
    assert run(monkeypatch, lambda config: returned) == code


def test_a_mistake_is_one_line_and_exit_code_2(monkeypatch, capsys):
    assert run(monkeypatch, fail(VlaError("the disk is full; free some space"))) == 2
    assert capsys.readouterr().err == "error: the disk is full; free some space\n"


def test_ctrl_c_is_one_line_and_exit_code_130(monkeypatch, capsys):
    assert run(monkeypatch, fail(KeyboardInterrupt())) == 130
    assert capsys.readouterr().err == "stopped; the same command resumes\n"


def test_a_mistake_of_ours_keeps_its_traceback(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["command"])
    with pytest.raises(ZeroDivisionError):
        run_command(fail(ZeroDivisionError()), Config)


def test_an_unknown_key_is_exit_code_2_and_a_hint(monkeypatch, capsys):
    assert run(monkeypatch, print, "--inner.num-stepz", "3") == 2
    message = capsys.readouterr()
    assert "--inner.num-stepz" in message.err + message.out
    assert "--inner.num-steps" in message.err + message.out


def test_a_value_of_the_wrong_type_is_exit_code_2(monkeypatch, capsys):
    assert run(monkeypatch, print, "--inner.num-steps", "many") == 2
    assert "num-steps" in "".join(capsys.readouterr())


def test_a_value_the_configuration_refuses_is_one_line_and_exit_code_2(monkeypatch, capsys):
    assert run(monkeypatch, print, "--inner.num-steps", "-4") == 2
    assert capsys.readouterr().err == "error: num_steps is -4; give at least 1\n"


def test_help_says_what_a_field_means(monkeypatch, capsys):
    assert run(monkeypatch, print, "--help") == 0
    assert "Steps." in capsys.readouterr().out


def test_find_gives_the_choice_of_that_name():
    assert find({"tiny": 1, "small": 2}, "small", "preset") == 2


def test_find_suggests_the_nearest():
    with pytest.raises(VlaError, match=r"preset 'smal' does not exist; did you mean 'small'. choose one of small"):
        find({"tiny": 1, "small": 2}, "smal", "preset")


def test_find_suggests_nothing_far_fetched():
    with pytest.raises(VlaError, match=r"task 'zzz' does not exist; choose one of .*click_bell"):
        find({"click_bell": 1}, "zzz", "task")


@pytest.mark.parametrize(
    ("check", "bound", "good", "bad"),
    [
        (require_at_least, 1, (1, 2), (0, -3)),
        (require_above, 0.0, (1e-9, 1), (0.0, -1)),
        (require_at_most, 1.0, (1.0, 0), (1.1, 5)),
    ],
)
def test_numbers_out_of_range_are_named(check, bound, good, bad):
    for value in good:
        check(dataclasses.make_dataclass("Numbers", ["size"])(value), bound, "size")
    for value in (*bad, float("nan")):
        with pytest.raises(VlaError, match=f"size is {value}; give"):
            check(dataclasses.make_dataclass("Numbers", ["size"])(value), bound, "size")


def test_idle_threads_of_torch_sleep_in_every_command():
    code = "import sys, os, vla_rl_trainer; print(os.environ['OMP_WAIT_POLICY'], 'torch' in sys.modules)"
    environment = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    environment["PYTHONPATH"] = os.pathsep.join(sys.path)
    answer = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert answer.stdout.split() == ["PASSIVE", "False"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Training:
    checkpoint: Path
    num_steps: int = 3


PRESETS = {
    "ours": lambda checkpoint: Training(checkpoint=checkpoint),
    "paper": lambda checkpoint: Training(checkpoint=checkpoint, num_steps=300),
}


def run_preset(monkeypatch, main, *arguments):
    monkeypatch.setattr(sys, "argv", ["command", *arguments])
    with pytest.raises(SystemExit) as ended:
        run_presets(main, PRESETS)
    return ended.value.code


def test_a_preset_is_the_first_word_and_the_rest_overrides_it(monkeypatch):
    seen = []
    assert run_preset(monkeypatch, seen.append, "paper", "--checkpoint", "sft") == 0
    assert run_preset(monkeypatch, seen.append, "ours", "--checkpoint", "sft", "--num-steps", "7") == 0
    assert seen == [Training(checkpoint=Path("sft"), num_steps=300), Training(checkpoint=Path("sft"), num_steps=7)]


@pytest.mark.parametrize("arguments", [("papper", "--checkpoint", "sft"), ("paper",), ("paper", "--num-stepz", "3")])
def test_a_preset_that_cannot_be_run_is_exit_code_2(monkeypatch, capsys, arguments):
    assert run_preset(monkeypatch, print, *arguments) == 2
    assert "paper" in "".join(capsys.readouterr())
