"""The benchmark's own code, imported and run without its prompts; only compiling tasks and comparing need it.

hf-libero asks questions on standard input when it has no configuration file, looks for assets in one place only, and
repeats a reset that fails for ever. Here it gets a configuration file in a folder of its own, the assets that
`find_assets` found, and a bounded number of tries.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import io
import logging
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from vla_policy.errors import VlaError
from vla_rl_trainer.libero.assets import find_assets
from vla_rl_trainer.libero.suites import TaskName

MAX_RESETS = 100
"""Tries to place the objects without overlap."""
_REMEDY = (
    "the LIBERO benchmark is not installed: pip install -c constraints.txt -e '.[libero]' && "
    "pip install --no-deps hf-libero==0.1.4, or bring a compiled cache (LIBERO_CACHE) from a machine that has it"
)


def is_installed() -> bool:
    """True where tasks can be compiled."""
    return all(importlib.util.find_spec(name) is not None for name in ("libero", "robosuite", "bddl"))


def _write_configuration(package: Path) -> None:
    """Answer LIBERO's questions before it asks them; the user's own ~/.libero is left alone."""
    folder = Path(tempfile.mkdtemp(prefix="libero-config-"))
    entries = {
        "benchmark_root": package,
        "bddl_files": package / "bddl_files",
        "init_states": package / "init_files",
        "datasets": package.parent / "datasets",
        "assets": find_assets(),
    }
    (folder / "config.yaml").write_text("".join(f"{name}: {path}\n" for name, path in entries.items()))
    os.environ["LIBERO_CONFIG_PATH"] = str(folder)


def import_libero(name: str) -> Any:
    """A module of LIBERO ("benchmark", "envs.env_wrapper").

    Raises:
        VlaError: LIBERO or its assets are missing.
    """
    if not is_installed():
        raise VlaError(_REMEDY)
    spec = importlib.util.find_spec("libero")
    assert spec is not None and spec.submodule_search_locations, "is_installed has found it"
    first = "LIBERO_CONFIG_PATH" not in os.environ or not Path(os.environ["LIBERO_CONFIG_PATH"]).is_dir()
    if first:
        _write_configuration(Path(next(iter(spec.submodule_search_locations))) / "libero")
    logging.getLogger("robosuite_logs").setLevel(logging.ERROR)  # asks for a private macro file
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        root: Any = importlib.import_module("libero.libero")
        root._assets_path_cache = str(find_assets())
        return importlib.import_module(f"libero.libero.{name}")


def benchmark_task(task: TaskName) -> tuple[str, Path, npt.NDArray[np.float64]]:
    """Instruction, BDDL file and initial states (states, 1 + nq + nv) of a task."""
    benchmark = import_libero("benchmark")
    with contextlib.redirect_stdout(io.StringIO()):
        suite = benchmark.get_benchmark(task.suite)()
    states = np.asarray(suite.get_task_init_states(task.index), dtype=np.float64)
    return suite.get_task(task.index).language, Path(suite.get_task_bddl_file_path(task.index)), states


def make_environment(task: TaskName, *, images: int = 0) -> Any:
    """LIBERO's own environment of a task, seeded as published evaluations do; `images` is their side [px], 0: none."""
    wrapper = import_libero("envs.env_wrapper")
    _, bddl, _ = benchmark_task(task)
    with contextlib.redirect_stdout(io.StringIO()):
        environment = wrapper.ControlEnv(
            bddl_file_name=str(bddl),
            has_offscreen_renderer=images > 0,
            use_camera_obs=images > 0,
            camera_heights=images or 128,
            camera_widths=images or 128,
        )
    environment.seed(0)
    return environment


def reset(environment: Any) -> Any:
    """Reset as LIBERO does, with an end.

    Raises:
        VlaError: no placement without overlap was found, or the reset fails otherwise.
    """
    refused = importlib.import_module("robosuite.utils.errors").RandomizationError
    for _ in range(MAX_RESETS):
        try:
            with contextlib.redirect_stdout(io.StringIO()):
                return environment.env.reset()
        except refused:
            continue
    raise VlaError(f"LIBERO found no placement of the objects in {MAX_RESETS} tries; its assets may be damaged")


def soft_reset(environment: Any, number: int) -> Any:
    """Reset number `number` after seeding, without building the scene anew: the same random draws, a tenth of the time.

    LIBERO adds its joint samplers once more whenever it rebuilds a scene, and each copy draws; so do they here.
    """
    inner = environment.env
    if not hasattr(inner, "joint_samplers_once"):
        inner.joint_samplers_once = list(inner.object_property_initializers)
    inner.object_property_initializers = inner.joint_samplers_once * (number + 2)
    inner.hard_reset = False
    return reset(environment)
