"""Simulation processes start without the inverse kinematics, which experts and play alone need."""

import subprocess
import sys

import pytest

pytestmark = pytest.mark.sim

HEAVY = ("mink", "qpsolvers", "scipy", "torch")


@pytest.mark.parametrize("module", ["piper_twin.tasks", "piper_twin.worlds", "piper_twin.demonstrate"])
def test_importing_the_twin_does_not_load_inverse_kinematics_yet(module):
    code = f"import sys, {module}; print(*[name for name in {HEAVY!r} if name in sys.modules])"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert loaded == [], f"{module} loads {loaded}: import it inside the function that needs it."
