"""Arguments of what is launched, told as text."""

import dataclasses

import pytest

from vla_policy.errors import VlaError
from vla_policy.launch_arguments import Argument, arguments_of, fill, parse


@dataclasses.dataclass(frozen=True, kw_only=True)
class Arguments:
    """Of something."""

    checkpoint: str = "hold"
    """Folder of the policy."""
    emulate: bool = False
    seed: int = 3
    speed: float = 0.5


def test_arguments_carry_their_docstrings_and_defaults():
    assert arguments_of(Arguments)[:2] == [
        Argument("checkpoint", "hold", "Folder of the policy."),
        Argument("emulate", "false", ""),
    ]


def test_what_arguments_of_shows_fills_the_same_dataclass():
    assert fill(Arguments, {argument.name: argument.default for argument in arguments_of(Arguments)}) == Arguments()


def test_values_are_read_by_their_type():
    told = parse(["checkpoint:=runs/a:=b", "emulate:=True", "seed:=-1", "speed:=2"])
    assert fill(Arguments, told) == Arguments(checkpoint="runs/a:=b", emulate=True, seed=-1, speed=2.0)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--seed=1"], "'--seed=1' is no argument; write name:=value"),
        (["seed:=1", "seed:=2"], "seed is given twice"),
        (["sed:=1"], "no argument sed; choose among checkpoint, emulate, seed, speed"),
        (["seed:=1.5"], "seed is '1.5'; it must be a whole number"),
        (["emulate:=maybe"], "emulate is 'maybe'; it must be true or false"),
    ],
)
def test_wrong_words_are_refused_with_the_remedy(words, message):
    with pytest.raises(VlaError, match=message):
        fill(Arguments, parse(words))
