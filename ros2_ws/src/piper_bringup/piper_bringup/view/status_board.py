"""What every part of the graph says of itself, as a few lines of HTML."""

from __future__ import annotations

import dataclasses
import html
from collections.abc import Mapping

SILENT_AFTER = 3.0
"""A part that has said nothing for so long is shown as silent [s]."""

_COLOURS = {"ok": "#2b8a3e", "warning": "#e67700", "error": "#c92a2a", "silent": "#868e96"}
_ROBOT_COLOURS = {"ready": "#2b8a3e", "moving": "#1864ab", "held": "#c92a2a"}


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """One part's last word."""

    level: str
    """ok, warning, error."""
    message: str
    values: Mapping[str, str]
    time: float
    """When it came [s]."""


class StatusBoard:
    """The last word of every part, by name."""

    def __init__(self) -> None:
        """Nobody has said anything yet."""
        self._statuses: dict[str, Status] = {}

    def take(self, name: str, status: Status) -> None:
        """Remember it."""
        self._statuses[name] = status

    def headline(self, now: float) -> str:
        """What the robot does and whether the world is solved, at `now` [s], as HTML."""
        state, colour = "no robot", _COLOURS["silent"]
        robot = self._fresh("robot", now)
        if robot:
            state = robot.values.get("state", "?")
            colour = _ROBOT_COLOURS.get(state, _COLOURS["silent"])
        badges = [_badge(state.upper(), colour)]
        world = self._fresh("world", now)
        if world:
            is_solved = world.values.get("solved") == "True"
            badges.append(_badge("SOLVED" if is_solved else "not solved", _COLOURS["ok" if is_solved else "silent"]))
            badges.append(html.escape(f"{world.values.get('task', '?')}, seed {world.values.get('seed', '?')}"))
        reason = "" if robot is None or robot.message == "ok" else robot.message
        return _box(" ".join(badges) + (f"<br><small>{html.escape(reason)}</small>" if reason else ""))

    def table(self, now: float) -> str:
        """One line a part, at `now` [s], as HTML."""
        rows: list[str] = []
        for name, status in sorted(self._statuses.items()):
            level, message = status.level, status.message
            if now - status.time > SILENT_AFTER:
                level, message = "silent", f"silent for {now - status.time:.0f} s; it said: {message}"
            dot = f'<span style="color:{_COLOURS[level]}">&#9679;</span>'
            rows.append(f"<div>{dot} <b>{html.escape(name)}</b> {html.escape(message)}</div>")
        return _box("".join(rows) or "nobody says anything yet")

    def _fresh(self, name: str, now: float) -> Status | None:
        status = self._statuses.get(name)
        return status if status and now - status.time <= SILENT_AFTER else None


def _badge(text: str, colour: str) -> str:
    style = f"background:{colour};color:white;border-radius:4px;padding:1px 8px;font-weight:600"
    return f'<span style="{style}">{html.escape(text)}</span>'


def _box(content: str) -> str:
    return f'<div style="padding:2px 12px;font-size:13px;line-height:1.6;overflow-wrap:anywhere">{content}</div>'
