"""The one place that decides in which precision, and with which attention kernel, the network runs.

Weights we train from nothing are float32. On CUDA, and on CPUs that multiply bfloat16 natively (avx512_bf16 or AMX),
matrix products run in bfloat16 under autocast; everywhere else all is float32. Weights that are bfloat16 themselves, as
published ones of seven billion are, need no autocast, which costs time at every operation. The network enters this
context itself, so that sampling and the learner's recomputation cannot differ in it.

Measured on one avx512_bf16 core, `tiny` with 181 tokens, samples/s forward | forward and backward: float32 with SDPA
109 | 46, bfloat16 with SDPA 196 | 54, bfloat16 with plain attention 213 | 76. The CPU's flash kernel loses its time
in the backward pass.
"""

from __future__ import annotations

import functools
import os
from pathlib import Path

import torch

_CPU_FLAGS = frozenset({"avx512_bf16", "amx_bf16"})
_OVERRIDE = "VLA_POLICY_PRECISION"
"""Environment variable: 'float32' or 'bfloat16' instead of what the device suggests."""


def autocast(device: torch.device, weights: torch.dtype = torch.float32) -> torch.autocast:
    """Context in which layers with such weights run on `device`."""
    if weights is not torch.float32 or compute_dtype(device.type) is torch.float32:
        return torch.autocast(device.type, enabled=False)
    return torch.autocast(device.type, dtype=torch.bfloat16)


def attention(device: torch.device) -> str:
    """Name, as `transformers` has it, of the fastest attention on `device`."""
    return "eager" if device.type == "cpu" and compute_dtype("cpu") is torch.bfloat16 else "sdpa"


@functools.cache
def compute_dtype(device_type: str) -> torch.dtype:
    """Precision of matrix products on a kind of device: bfloat16 where the hardware has it, else float32."""
    chosen = os.environ.get(_OVERRIDE)
    if chosen:
        return {"float32": torch.float32, "bfloat16": torch.bfloat16}[chosen]
    if device_type == "cuda":
        return torch.bfloat16
    return torch.bfloat16 if device_type == "cpu" and _cpu_flags() & _CPU_FLAGS else torch.float32


def _cpu_flags() -> frozenset[str]:
    cpuinfo = Path("/proc/cpuinfo")
    if not cpuinfo.exists():
        return frozenset()
    for line in cpuinfo.read_text(encoding="utf-8").splitlines():
        if line.startswith("flags"):
            return frozenset(line.split())
    return frozenset()
