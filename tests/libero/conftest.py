"""LIBERO's assets, and tasks compiled once for all tests."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

import piper_twin  # noqa: F401  chooses an off-screen OpenGL before any test module imports mujoco

ROOT = Path(__file__).resolve().parents[2]
TASKS = ("libero_object/0", "libero_spatial/2", "libero_goal/7", "libero_10/3")
"""One of each suite: nothing but objects; fixtures and an open drawer; a stove to turn on; a drawer to shut."""


@pytest.fixture(scope="session")
def shared_folder(tmp_path_factory) -> Path:
    """One folder for all worker processes of pytest-xdist."""
    base = tmp_path_factory.getbasetemp()
    return base.parent if os.environ.get("PYTEST_XDIST_WORKER") else base


@pytest.fixture(scope="session")
def assets():
    """LIBERO's assets; the benchmark's modules read the variable."""
    found = subprocess.run([ROOT / ".ci" / "libero-assets"], capture_output=True, text=True, check=True).stdout.strip()
    assert found, "set LIBERO_ASSETS to LIBERO's assets folder, or put assets.tar.xz into ../shared/libero"
    os.environ["LIBERO_ASSETS"] = found
    return Path(found)


@pytest.fixture(scope="session")
def cache(assets, shared_folder):
    """A cache with `TASKS`, models as the benchmark draws them included; LIBERO_TEST_CACHE keeps it between runs."""
    from vla_rl_trainer.libero.compile_task import ensure_compiled
    from vla_rl_trainer.libero.suites import TaskName

    folder = Path(os.environ.get("LIBERO_TEST_CACHE") or shared_folder / "libero_cache")
    for task in TASKS:
        ensure_compiled(folder, TaskName.parse(task), "stock")
    return folder
