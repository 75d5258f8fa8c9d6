"""A bag shall tell which code recorded it, wherever that was installed from."""

import subprocess

from piper_bringup.recording import software_version as module
from piper_bringup.recording.software_version import software_version


def test_a_checkout_tells_its_commit(monkeypatch):
    done = subprocess.CompletedProcess([], 0, stdout="3cb6913-dirty\n")
    monkeypatch.setattr(module.subprocess, "run", lambda *_, **__: done)
    assert software_version() == "3cb6913-dirty"


def test_an_installed_package_tells_its_version(monkeypatch):
    def no_git(*_, **__):
        raise FileNotFoundError("git")

    monkeypatch.setattr(module.subprocess, "run", no_git)
    monkeypatch.setattr(module.importlib.metadata, "version", lambda name: {"piper_bringup": "0.1.0"}[name])
    assert software_version() == "piper_bringup 0.1.0"
