"""How every command ends: errors and Ctrl-C as one line, and a code that scripts can tell apart."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import NoReturn

from vla_policy.errors import VlaError


def exit_after(work: Callable[[], object], when_stopped: str = "stopped") -> NoReturn:
    """Do the work of a command and end the process.

    The code is 0, or the number that `work` returns; 2 after a `VlaError`, 130 after Ctrl-C. Other errors are mistakes
    of ours and keep their traceback.

    Args:
        work: Parses the command line, too: configurations refuse what they cannot mean.
        when_stopped: The line Ctrl-C leaves behind.
    """
    try:
        code = work()
    except VlaError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print(when_stopped, file=sys.stderr)
        sys.exit(130)
    sys.exit(code if isinstance(code, int) else 0)
