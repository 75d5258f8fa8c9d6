"""What tests of several packages share."""

import faulthandler
import functools
import os
import sys
import time
import uuid

import pytest

LONGEST_TEST = 300.0
"""[s]."""


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item):
    """A test that hangs, be it in C with the interpreter locked, tells where and ends its worker."""
    patience = item.get_closest_marker("patience")
    seconds = patience.args[0] if patience else LONGEST_TEST
    faulthandler.dump_traceback_later(seconds, exit=True, file=sys.__stderr__)
    try:
        return (yield)
    finally:
        faulthandler.cancel_dump_traceback_later()


@pytest.fixture
def ros_domain(monkeypatch):
    """A ROS graph of the test's own: nodes of tests that run beside it are not seen."""
    from rclpy.node import Node

    from vla_policy.ros.spin import prepare_environment

    beside = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % 4
    # above 101 the ports of a domain meet those that Linux hands out
    domain = str(uuid.uuid4().int % 25 * 4 + beside + 1)
    monkeypatch.setenv("ROS_DOMAIN_ID", domain)
    prepare_environment()
    destroy = Node.destroy_node

    def destroy_in_peace(node):
        time.sleep(0.1)  # for the reason that vla_policy.ros.leaving tells
        destroy(node)

    monkeypatch.setattr(Node, "destroy_node", destroy_in_peace)
    monkeypatch.setattr(os, "sched_setscheduler", functools.partial(refuse_realtime, os.sched_setscheduler))
    return domain


def refuse_realtime(set_scheduler, process, policy, parameter):
    """Nodes of tests live in pytest's process, which shall not be preferred ever after."""
    if policy == os.SCHED_FIFO:
        raise PermissionError
    set_scheduler(process, policy, parameter)
