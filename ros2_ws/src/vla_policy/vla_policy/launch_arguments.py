"""Arguments of what is launched: a frozen dataclass, told as `name:=value` to `ros2 launch` and to `start` alike."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from vla_policy.errors import VlaError
from vla_policy.field_docs import field_docs

Arguments = TypeVar("Arguments")

_TRUTH = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}


@dataclasses.dataclass(frozen=True, slots=True)
class Argument:
    """One argument as a user sees it."""

    name: str
    default: str
    description: str


def arguments_of(kind: type[Any]) -> list[Argument]:
    """Every argument of a dataclass of bool, int, float and str fields, all with defaults."""
    docs = field_docs(kind)
    return [Argument(field.name, _text(field.default), docs.get(field.name, "")) for field in dataclasses.fields(kind)]


def fill(kind: type[Arguments], told: Mapping[str, str]) -> Arguments:
    """The dataclass with the values told as text.

    Raises:
        VlaError: an argument is unknown (the known ones are named), or its value is of the wrong type.
    """
    hints = typing.get_type_hints(kind)
    if unknown := sorted(told.keys() - hints.keys()):
        raise VlaError(f"there is no argument {', '.join(unknown)}; choose among {', '.join(hints)}")
    return kind(**{name: _value(name, text, hints[name]) for name, text in told.items()})


def parse(words: Sequence[str]) -> dict[str, str]:
    """`name:=value` words as a mapping.

    Raises:
        VlaError: a word has another form, or a name comes twice.
    """
    told: dict[str, str] = {}
    for word in words:
        name, separator, value = word.partition(":=")
        if not separator or not name:
            raise VlaError(f"'{word}' is no argument; write name:=value, as with ros2 launch")
        if name in told:
            raise VlaError(f"argument {name} is given twice")
        told[name] = value
    return told


def _value(name: str, text: str, kind: Any) -> Any:
    try:
        return _TRUTH[text.lower()] if kind is bool else kind(text)
    except (KeyError, ValueError) as error:
        expected = {bool: "true or false", int: "a whole number", float: "a number"}[kind]
        raise VlaError(f"argument {name} is '{text}'; it must be {expected}") from error


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
