"""LIBERO's assets, from LIBERO_ASSETS or the archive beside the checkout, and tasks compiled once for all tests."""

from __future__ import annotations

import os
import tarfile
from pathlib import Path

import pytest

import piper_twin  # noqa: F401  chooses an off-screen OpenGL before any test module imports mujoco

ROOT = Path(__file__).resolve().parents[2]
ARCHIVE = ROOT.parent / "shared" / "libero" / "assets.tar.xz"
TASKS = ("libero_object/0", "libero_spatial/2", "libero_goal/7", "libero_10/3")
"""One of each suite: nothing but objects; fixtures and an open drawer; a stove to turn on; a drawer to shut."""


@pytest.fixture(scope="session")
def shared_folder(tmp_path_factory) -> Path:
    """One folder for all worker processes of pytest-xdist."""
    base = tmp_path_factory.getbasetemp()
    return base.parent if os.environ.get("PYTEST_XDIST_WORKER") else base


@pytest.fixture(scope="session")
def assets(shared_folder):
    """LIBERO's assets; the benchmark's modules read the variable."""
    import fcntl

    if "LIBERO_ASSETS" not in os.environ:
        assert ARCHIVE.is_file(), f"set LIBERO_ASSETS to LIBERO's assets folder, or put {ARCHIVE} there"
        folder = shared_folder / "libero_assets"
        with (shared_folder / "libero_assets.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not folder.is_dir():
                with tarfile.open(ARCHIVE) as archive:
                    archive.extractall(folder.with_suffix(".part"), filter="data")
                folder.with_suffix(".part").rename(folder)
        os.environ["LIBERO_ASSETS"] = str(folder)
    return Path(os.environ["LIBERO_ASSETS"])


@pytest.fixture(scope="session")
def cache(assets, shared_folder):
    """A cache with `TASKS`, models as the benchmark draws them included; LIBERO_TEST_CACHE keeps it between runs."""
    from vla_rl_trainer.libero.compile_task import ensure_compiled
    from vla_rl_trainer.libero.suites import TaskName

    folder = Path(os.environ.get("LIBERO_TEST_CACHE") or shared_folder / "libero_cache")
    for task in TASKS:
        ensure_compiled(folder, TaskName.parse(task), "stock")
    return folder
