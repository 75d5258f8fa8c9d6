"""The twin's tests need the twin's choice of an off-screen OpenGL, which MuJoCo reads when it is imported."""

import piper_twin  # noqa: F401  before any test module imports mujoco
