"""Where a result comes from: the command, the commit, the hardware, the versions."""

from __future__ import annotations

import datetime
import importlib.metadata
import os
import platform
import shlex
import subprocess
import sys
from pathlib import Path

_PACKAGES: tuple[str, ...] = ("torch", "numpy", "mujoco", "transformers")


def _output_of(command: list[str], folder: Path | None = None) -> str | None:
    """What a short-lived command prints, or None when it is missing, fails or hangs."""
    environment = {**os.environ, "GIT_OPTIONAL_LOCKS": "0"}
    try:
        done = subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, timeout=10, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None


def commit(folder: Path | None = None) -> str:
    """`git describe --always --dirty` of the code that runs, 'unknown' outside git.

    Args:
        folder: Any folder of the work tree; left out, the one this file lies in.
    """
    folder = folder or Path(__file__).resolve().parent
    return _output_of(["git", "describe", "--always", "--dirty"], folder) or "unknown"


def num_cores() -> int:
    """CPU cores this process may use."""
    return len(os.sched_getaffinity(0))


def hardware() -> str:
    """Processor, memory and GPUs in one line: "2 cores of AMD EPYC 7763, 23 GiB, no GPU".

    Asks nvidia-smi instead of torch, so that CUDA is not started in a process that may still fork.
    """
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{num_cores()} cores of {_processor()}, {memory:.0f} GiB, {_gpus()}"


def command_line() -> str:
    """The command that started this process, ready to be pasted into a shell."""
    module = getattr(sys.modules["__main__"], "__spec__", None)
    program = (
        ["python", "-m", module.name.removesuffix(".__main__")] if module is not None else [Path(sys.argv[0]).name]
    )
    return shlex.join([*program, *sys.argv[1:]])


def provenance(seed: int) -> dict[str, str]:
    """Everything needed to run it again, for `summary.json` and the report.

    Args:
        seed: The seed of the run.
    """
    versions = {name: _version(name) for name in _PACKAGES}
    return {
        "command": command_line(),
        "seed": str(seed),
        "commit": commit(),
        "hardware": hardware(),
        "python": platform.python_version(),
        **{name: version for name, version in versions.items() if version is not None},
        "date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, "") or platform.machine()


def _gpus() -> str:
    listing = _output_of(["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"])
    names = (listing or "").splitlines()
    if not names:
        return "no GPU"
    return ", ".join(f"{names.count(name)}x {name}" for name in dict.fromkeys(names))


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
