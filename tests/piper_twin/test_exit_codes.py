"""What a script sees of a command that ends."""

import pytest

from piper_twin.exit_codes import exit_after
from vla_policy.errors import VlaError


def code_of(work, *arguments):
    with pytest.raises(SystemExit) as ended:
        exit_after(work, *arguments)
    return ended.value.code


def fail(error):
    def work():
        raise error

    return work


@pytest.mark.parametrize(("returned", "code"), [(None, 0), (0, 0), (3, 3), ("runs/x", 0)])
def test_the_work_may_return_an_exit_code(returned, code):
    assert code_of(lambda: returned) == code


def test_a_mistake_is_one_line_and_exit_code_2(capsys):
    assert code_of(fail(VlaError("the disk is full; free some space"))) == 2
    assert capsys.readouterr().err == "error: the disk is full; free some space\n"


@pytest.mark.parametrize(
    ("arguments", "line"), [((), "stopped\n"), (("stopped; run it again",), "stopped; run it again\n")]
)
def test_ctrl_c_is_one_line_and_exit_code_130(capsys, arguments, line):
    assert code_of(fail(KeyboardInterrupt()), *arguments) == 130
    assert capsys.readouterr().err == line


def test_a_mistake_of_ours_keeps_its_traceback():
    with pytest.raises(ZeroDivisionError):
        exit_after(fail(ZeroDivisionError()))
