"""The processes of a graph are started as one and stopped as one."""

import dataclasses
import io
import os
import signal
import sys
import time
from pathlib import Path

import pytest
import yaml

from piper_bringup.graph.node_spec import NodeSpec
from piper_bringup.graph.processes import Processes, running


@dataclasses.dataclass(frozen=True, kw_only=True)
class Script(NodeSpec):
    """A node that is a few lines of Python."""

    text: str

    def command(self, parameter_file: Path) -> list[str]:
        return [sys.executable, "-c", self.text, str(parameter_file)]


def script(text, name="node", **fields):
    return Script(module="none", name=name, text=text, **fields)


FOR_EVER = "import time; print('up', flush=True); time.sleep(600)"
DEAF = "import signal, time; signal.signal(signal.SIGINT, signal.SIG_IGN); print('up', flush=True); time.sleep(600)"


def wait_for(output, text, count=1):
    deadline = time.monotonic() + 60.0
    while output.getvalue().count(text) < count:
        assert time.monotonic() < deadline, output.getvalue()
        time.sleep(0.02)


def test_every_line_is_marked_with_its_node():
    output = io.StringIO()
    with running(
        [script("print('hello')", "robot"), script("print('hi')", "policy", is_essential=False)], output
    ) as all_:
        wait_for(output, "hi\n")
        assert all_.wait() == 0
    assert sorted(output.getvalue().splitlines()) == ["[policy] hi", "[robot ] hello"]


def test_a_node_is_handed_its_parameters_as_a_file():
    spec = script("import sys; print(open(sys.argv[1]).read())", parameters={"seed": 3, "names": ["a", "b"]})
    output = io.StringIO()
    with running([spec], output) as all_:
        all_.wait()
    text = "\n".join(line.removeprefix("[node] ") for line in output.getvalue().splitlines())
    assert yaml.safe_load(text) == {"/**": {"ros__parameters": {"seed": 3, "names": ["a", "b"]}}}


def test_an_essential_process_that_fails_ends_the_graph_with_its_code():
    with running([script(FOR_EVER, "policy"), script("raise SystemExit(7)", "robot")], io.StringIO()) as all_:
        assert all_.wait() == 7
        others = [process for process in all_._running if process.poll() is None]
        assert len(others) == 1
    assert others[0].poll() is not None


@pytest.mark.parametrize(("number", "code"), [("SIGALRM", 0), ("SIGKILL", 9)])
def test_a_node_that_is_kept_from_leaving_did_its_work(number, code):
    ends = f"import os, signal; os.kill(os.getpid(), signal.{number})"
    with running([script(ends, "evaluator")], io.StringIO()) as all_:
        assert all_.wait() == code


def test_a_process_that_is_not_essential_may_end(monkeypatch):
    with running([script("pass", is_essential=False), script("import time; time.sleep(0.5)")], io.StringIO()) as all_:
        started = time.monotonic()
        assert all_.wait() == 0
        assert time.monotonic() - started > 0.2


def test_one_that_does_not_listen_is_ended_all_the_same(monkeypatch):
    monkeypatch.setattr("piper_bringup.graph.processes.PATIENCE", ((signal.SIGINT, 0.2), (signal.SIGTERM, 5.0)))
    output = io.StringIO()
    with running([script(DEAF)], output) as all_:
        wait_for(output, "up")
    assert all_._running[0].returncode == -signal.SIGTERM


def test_the_robot_ends_last():
    ends = "import atexit, time; atexit.register(lambda: print('end', flush=True)); print('up', flush=True)\n"
    wait = "try:\n    time.sleep(600)\nexcept KeyboardInterrupt:\n    pass"
    output = io.StringIO()
    with running([script(ends + wait, "robot"), script(ends + wait, "policy")], output):
        wait_for(output, "up", 2)
    assert [line for line in output.getvalue().splitlines() if "end" in line] == ["[policy] end", "[robot ] end"]


def test_one_process_can_die_and_be_started_again():
    output = io.StringIO()
    with running([script(FOR_EVER, "robot"), script(FOR_EVER, "policy")], output) as all_:
        wait_for(output, "up", 2)
        other = all_._running[0]
        all_.kill("policy")
        assert all_.wait() == signal.SIGKILL
        all_.start_again("policy")
        wait_for(output, "[policy] up", 2)
        assert all_._running[0] is other
        assert [process.poll() for process in all_._running] == [None, None]


@pytest.mark.parametrize("uses_terminal", [True, False])
def test_only_what_reads_keys_hears_ctrl_c_of_the_terminal(uses_terminal):
    output = io.StringIO()
    spec = script("import os; print(os.getsid(0))", uses_terminal=uses_terminal)
    processes = Processes([spec], output)
    processes.wait()
    processes.stop()
    assert (int(output.getvalue().split()[-1]) == os.getsid(0)) == uses_terminal
