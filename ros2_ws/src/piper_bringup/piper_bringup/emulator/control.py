"""Faults from outside: a socket on 127.0.0.1 that takes one JSON object a line and answers with one.

    {"inject": "silent", "channel": "can_left", "groups": ["joints_12"]}    a fault of `faults.py` with its fields
    {"clear": "silent", "channel": "can_left"}    {"clear": "all"}          without a channel: every arm
    {"drag": [0, 1.2, -1, 0, 0.9, 0, 0.07], "channel": "can_leader_left"}   by hand, leaders and limp arms only
    {"power_cycle": true}                                                   off and on, supported
    {"state": true}                                                         what the arms do, and counted

The answer is {"ok": true}, {"ok": true, "arms": {...}} or {"ok": false, "error": "..."}.
"""

from __future__ import annotations

import dataclasses
import json
import math
import socket
import socketserver
import threading
from collections.abc import Mapping
from typing import Any, cast

from piper_bringup.emulator.faults import FAULTS, Fault
from piper_bringup.emulator.server import Emulator
from piper_twin.robot import DOF
from vla_policy.errors import VlaError

HOST = "127.0.0.1"
_TIMEOUT = 5.0
"""Of a client waiting for an answer [s]."""


def make_fault(name: str, settings: Mapping[str, Any]) -> Fault:
    """A fault from its name and the values of its fields, as JSON has them.

    Raises:
        VlaError: the name or a field is unknown (the message lists the known ones), or a value has a wrong type.
    """
    if name not in FAULTS:
        raise VlaError(f"there is no fault '{name}'; choose among {', '.join(FAULTS)}")
    known = {field.name: field.default for field in dataclasses.fields(FAULTS[name]) if field.init}
    if unknown := sorted(settings.keys() - known.keys()):
        raise VlaError(f"fault '{name}' has no {', '.join(unknown)}; it has {', '.join(known)}")
    return FAULTS[name](**{key: _fitting(key, value, known[key]) for key, value in settings.items()})


def _fitting(key: str, value: Any, default: object) -> Any:
    """`value` in the type of the field's default; None stands where a field says so."""
    if isinstance(default, tuple):
        return tuple(str(word) for word in cast(list[object], value)) if isinstance(value, list) else (str(value),)
    if isinstance(default, float) and isinstance(value, (int, float)) and math.isfinite(value):
        return float(value)
    if isinstance(value, type(default)) or (key == "software" and value is None):
        return value
    if key == "temperature" and isinstance(value, int):
        return value
    raise VlaError(f"{key} cannot be {json.dumps(value)}; it is like {json.dumps(default)}")


class ControlServer:
    """Answers requests for an emulator, on a thread."""

    def __init__(self, emulator: Emulator, port: int = 0) -> None:
        """Listen on `port` of 127.0.0.1; 0: one that is free.

        Raises:
            VlaError: the port is taken.
        """

        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                for line in self.rfile:
                    self.wfile.write(json.dumps(answer(emulator, line)).encode() + b"\n")

        try:
            self._server = socketserver.ThreadingTCPServer((HOST, port), Handler)
        except OSError as error:
            raise VlaError(f"cannot listen on port {port}: {error}; choose another control port, or 0") from error
        self._server.daemon_threads = True
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, name="emulator_control", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def answer(emulator: Emulator, line: bytes) -> dict[str, Any]:
    """Do what one line asks for."""
    try:
        request = json.loads(line)
        if not isinstance(request, dict):
            raise VlaError('a request is a JSON object, such as {"state": true}')
        return {"ok": True} | _do(emulator, cast(dict[str, Any], request))
    except (VlaError, ValueError, TypeError) as error:
        return {"ok": False, "error": str(error)}


def _do(emulator: Emulator, request: dict[str, Any]) -> dict[str, Any]:
    channel = request.pop("channel", None)
    match request:
        case {"inject": str(name), **settings}:
            emulator.inject(make_fault(name, settings), channel)
        case {"clear": str(name)}:
            if name not in (*FAULTS, "all"):
                raise VlaError(f"there is no fault '{name}'; choose among all, {', '.join(FAULTS)}")
            emulator.clear(None if name == "all" else name, channel)
        case {"drag": [*joints]} if channel and len(cast(list[object], joints)) == DOF:
            emulator.drag([float(joint) for joint in cast(list[float], joints)], channel)
        case {"power_cycle": True}:
            emulator.power_cycle(channel)
        case {"state": True}:
            return {"arms": emulator.state()}
        case _:
            raise VlaError("say inject, clear, drag (a channel and seven numbers), power_cycle or state")
    return {}


class ControlClient:
    """Asks an emulator in another process."""

    def __init__(self, port: int) -> None:
        """Connect to its control port.

        Raises:
            VlaError: nobody listens there.
        """
        try:
            self._socket = socket.create_connection((HOST, port), timeout=_TIMEOUT)
        except OSError as error:
            raise VlaError(f"no emulator listens on control port {port} ({error}); start it first") from error
        self._answers = self._socket.makefile("rb")

    def ask(self, **request: Any) -> dict[str, Any]:
        """The answer to a request.

        Raises:
            VlaError: the emulator refused it, saying why, or has ended.
        """
        try:
            self._socket.sendall(json.dumps(request).encode() + b"\n")
            line = self._answers.readline()
        except OSError as error:
            raise VlaError(f"the emulator does not answer ({error}); start it again") from error
        if not line:
            raise VlaError("the emulator has ended; start it again")
        found = cast(dict[str, Any], json.loads(line))
        if not found["ok"]:
            raise VlaError(str(found["error"]))
        return found

    def inject(self, fault: str, channel: str | None = None, **settings: Any) -> None:
        """Let something go wrong with the arm of a channel, or with all."""
        self.ask(inject=fault, channel=channel, **settings)

    def clear(self, fault: str = "all", channel: str | None = None) -> None:
        """End a fault."""
        self.ask(clear=fault, channel=channel)

    def state(self, channel: str) -> dict[str, Any]:
        """What an arm does and saw."""
        return self.ask(state=True)["arms"][channel]

    def close(self) -> None:
        """Disconnect."""
        self._answers.close()
        self._socket.close()
