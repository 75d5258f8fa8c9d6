"""What to do when a GPU's memory does not suffice: which setting to lower, and to what."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch

from vla_policy.errors import VlaError
from vla_policy.openvla import reckoning
from vla_policy.openvla.config import OpenVlaConfig
from vla_policy.policy import VlaPolicy

_SHARE = 0.85
"""Of what was free, that is counted on: the rest is lost between blocks."""
_USUAL_PROMPT = 40
"""Tokens."""


@contextlib.contextmanager
def advised(policy: VlaPolicy, setting: str, value: int, learns: bool = True) -> Iterator[None]:
    """Turn running out of GPU memory into an error that says what to lower.

    Args:
        policy: Whose pass this is.
        setting: Name on the command line of the number of observations in the pass.
        value: That number.
        learns: Whether a backward pass follows, which keeps activations.

    Raises:
        VlaError: instead of torch's error.
    """
    free = _free(policy.device)
    try:
        yield
    except torch.OutOfMemoryError as error:
        fitting, again = _fitting(policy, value, free, learns), f"{setting.partition('.')[0]}.recompute"
        if value == 1:
            remedy = "a single observation does not fit: use a larger GPU, or close what else runs on this one"
            if learns and not policy.network.recomputes:
                remedy = f"give {again}, which keeps a tenth"
        else:
            remedy = f"lower it to {setting} {fitting}"
            if learns and not policy.network.recomputes:
                remedy += f", or give {again}, which keeps a tenth at a third more work"
        raise VlaError(
            f"{policy.device} ran out of memory at {setting} {value} with {free / 1e9:.1f} GB free before; {remedy}"
        ) from error


def _free(device: torch.device) -> int:
    """What can be had, torch's own reserve included [bytes]."""
    if device.type != "cuda":
        return 0
    reserve = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return torch.cuda.mem_get_info(device)[0] + reserve


def _fitting(policy: VlaPolicy, value: int, free: int, learns: bool) -> int:
    """Observations that fit by reckoning, at most half of those that did not."""
    config = policy.config
    if not learns or not isinstance(config, OpenVlaConfig):
        return max(1, value // 2)
    each = reckoning.activation_bytes(config, _USUAL_PROMPT, policy.network.recomputes)
    return max(1, min(value // 2, int(_SHARE * free / each)))
