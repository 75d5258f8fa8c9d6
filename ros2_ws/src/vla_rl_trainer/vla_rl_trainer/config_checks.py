"""Refusing numbers no configuration can mean, before anything is started or written."""

from __future__ import annotations

from vla_policy.errors import VlaError


def require_at_least(config: object, minimum: float, *names: str) -> None:
    """Refuse fields below `minimum`.

    Raises:
        VlaError: names the field and its value.
    """
    for name in names:
        if not getattr(config, name) >= minimum:
            raise VlaError(f"{name} is {getattr(config, name)}; give at least {minimum}")


def require_above(config: object, bound: float, *names: str) -> None:
    """Refuse fields that are not above `bound`.

    Raises:
        VlaError: names the field and its value.
    """
    for name in names:
        if not getattr(config, name) > bound:
            raise VlaError(f"{name} is {getattr(config, name)}; give more than {bound}")


def require_at_most(config: object, maximum: float, *names: str) -> None:
    """Refuse fields above `maximum`.

    Raises:
        VlaError: names the field and its value.
    """
    for name in names:
        if not getattr(config, name) <= maximum:
            raise VlaError(f"{name} is {getattr(config, name)}; give at most {maximum}")
