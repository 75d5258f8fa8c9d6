"""Which off-screen OpenGL MuJoCo draws with: decided once, before MuJoCo is imported."""

from __future__ import annotations

import ctypes.util
import os
import sys


def choose_opengl() -> None:
    """Set `MUJOCO_GL` unless the user has: EGL where a GPU can draw, OSMesa elsewhere.

    Where neither library is found nothing is set; physics works all the same, and the first image says what to
    install.
    """
    if os.environ.get("MUJOCO_GL") or sys.platform != "linux":
        return
    has_gpu = os.path.exists("/dev/nvidiactl") or os.path.exists("/dev/dri/renderD128")
    for library in ("EGL", "OSMesa") if has_gpu else ("OSMesa", "EGL"):
        if ctypes.util.find_library(library):
            os.environ["MUJOCO_GL"] = library.lower()
            return
    os.environ["MUJOCO_GL"] = "disable"
