"""Turning a configuration dataclass into a command: arguments, one-line errors, exit codes, Ctrl-C."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from typing import Any, NoReturn, TypeVar

from piper_twin.exit_codes import exit_after
from vla_policy.errors import VlaError

Value = TypeVar("Value")

_WHEN_STOPPED = "stopped; the same command resumes"


def run_command(main: Callable[[Any], object], config: type | Any) -> NoReturn:
    """Parse the command line into `config` (a dataclass type, or an instance that gives the defaults) and run `main`.

    A `VlaError` becomes one line and exit code 2, Ctrl-C one line and 130; `main` may return an exit code.
    """
    import tyro

    def parse() -> Any:
        return tyro.cli(config) if isinstance(config, type) else tyro.cli(type(config), default=config)

    exit_after(lambda: main(parse()), _WHEN_STOPPED)


def run_presets(main: Callable[[Any], object], presets: Mapping[str, Callable[[Any], Any]]) -> NoReturn:
    """As `run_command`, with a preset's name as the first word of the command line.

    Each preset is a function of the starting checkpoint; the command line must give that, and may override the rest.
    """
    import tyro

    choices = {name: ((preset.__doc__ or "").split("\n")[0], preset(tyro.MISSING)) for name, preset in presets.items()}
    exit_after(lambda: main(tyro.extras.overridable_config_cli(choices)), _WHEN_STOPPED)


def find(choices: Mapping[str, Value], name: str, kind: str) -> Value:
    """The choice of that name.

    Raises:
        VlaError: there is none; the message names the nearest and lists all.
    """
    if name in choices:
        return choices[name]
    near = difflib.get_close_matches(name, choices, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    raise VlaError(f"{kind} {name!r} does not exist; {hint}choose one of {', '.join(sorted(choices))}")
