"""A configuration dataclass is the schema of a node's parameters: one for the command line, YAML, ROS and tests."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar, cast

from rcl_interfaces.msg import ParameterDescriptor
from rclpy.node import Node

from vla_policy.errors import VlaError
from vla_policy.field_docs import field_docs

Config = TypeVar("Config")


def declare(node: Node, config: type[Config]) -> Config:
    """Declare every field of a frozen dataclass as a read-only, described parameter; returns it filled.

    Fields may be bool, int, float, str, a Literal of strings, Path, tuples of str or float, and any of these or None
    (an empty string means None). A field without a default must be given.

    Raises:
        VlaError: a parameter has the wrong type or is missing, or the dataclass refuses its value.
    """
    texts, hints = field_docs(config), typing.get_type_hints(config)
    values: dict[str, Any] = {}
    for field in dataclasses.fields(cast(Any, config)):
        # Dynamic, or 30 would be refused where 30.0 is meant; `_from_parameter` looks at types itself.
        descriptor = ParameterDescriptor(description=texts.get(field.name, ""), read_only=True, dynamic_typing=True)
        told: Any = node.declare_parameter(field.name, _to_parameter(_default(field)), descriptor).value
        is_required = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        if told == "" and is_required:
            raise VlaError(f"parameter {field.name} is missing; give it with -p {field.name}:=VALUE")
        values[field.name] = _from_parameter(told, hints[field.name], field.name)
    return config(**values)


def _default(field: dataclasses.Field[Any]) -> Any:
    if field.default is not dataclasses.MISSING:
        return field.default
    return None if field.default_factory is dataclasses.MISSING else field.default_factory()


def _to_parameter(value: Any) -> Any:
    if value is None:
        return ""
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, tuple):
        return list(cast(tuple[Any, ...], value)) or [""]  # ROS has no empty list without a type
    return value


def _from_parameter(value: Any, hint: Any, name: str) -> Any:
    options = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    kind = next(option for option in options if option is not type(None))
    if value == "" and type(None) in options:
        return None
    try:
        return _converted(value, kind)
    except (TypeError, ValueError) as error:
        raise VlaError(f"parameter {name} is {value!r}; it must be {error}") from error


def _converted(value: Any, kind: Any) -> Any:
    """`value` as a `kind`; TypeError tells what was expected."""
    if typing.get_origin(kind) is tuple:
        if not isinstance(value, Sequence) or isinstance(value, str):
            raise TypeError("a list")
        entries = cast(Sequence[Any], value)
        return tuple(_converted(entry, typing.get_args(kind)[0]) for entry in entries if entry != "")
    if typing.get_origin(kind) is typing.Literal:
        if value not in typing.get_args(kind):
            raise TypeError(f"one of {', '.join(typing.get_args(kind))}")
        return value
    if kind is Path and isinstance(value, str):
        return Path(value)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if type(value) is not kind:
        raise TypeError({bool: "true or false", int: "a whole number", float: "a number"}.get(kind, "a text"))
    return value
