"""What tests of several packages share."""

import os
import uuid

import pytest


@pytest.fixture
def ros_domain(monkeypatch):
    """A ROS graph of the test's own: nodes of tests that run beside it are not seen."""
    beside = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % 4
    from vla_policy.ros.spin import prepare_environment

    domain = str(
        uuid.uuid4().int % 25 * 4 + beside + 1
    )  # above 101 the ports of a domain meet those that Linux hands out
    monkeypatch.setenv("ROS_DOMAIN_ID", domain)
    prepare_environment()
    return domain
