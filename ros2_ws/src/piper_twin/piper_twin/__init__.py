"""The twin: two AgileX Piper arms in MuJoCo, their tasks, and the guard in front of the motors."""

from piper_twin.opengl import choose_opengl

choose_opengl()  # MuJoCo reads the choice when it is imported, so it must stand before every module here
