"""The gym: vector environments, datasets, supervised fine-tuning, GRPO, evaluation."""

import os

# Idle OpenMP threads that spin would take the cores the simulation needs. libgomp reads this once, when torch is
# imported; every module of this package is imported after this file.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
