"""The base layer is numpy."""

import subprocess
import sys

BASE = (
    "types",
    "embodiment",
    "errors",
    "tokenizer",
    "normalization",
    "action_frame",
    "chunking",
    "baselines",
    "config",
)
HEAVY = ("torch", "transformers", "tokenizers", "safetensors", "mujoco", "rclpy", "piper_twin")


def loaded_after(modules: tuple[str, ...], heavy: tuple[str, ...]) -> list[str]:
    imports = "; ".join(f"import vla_policy.{name}" for name in modules)
    code = f"import sys; {imports}; print(*[name for name in {heavy!r} if name in sys.modules])"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()


def test_the_base_layer_loads_numpy_alone():
    assert loaded_after(BASE, HEAVY) == []


def test_importing_the_policy_does_not_import_transformers_yet():
    assert loaded_after(("policy",), ("transformers",)) == []
