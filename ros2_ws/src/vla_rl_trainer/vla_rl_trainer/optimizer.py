"""AdamW over what is trained of a policy: all of it, or adapters alone.

Weights kept in bfloat16 have float32 copies that the optimiser steps: a step of 5e-6 is a tenth of what bfloat16 can
tell apart at a weight of 0.01, and would be rounded away. Gradients are added up in float32 too.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn


class MasterAdamW(torch.optim.AdamW):
    """AdamW whose parameters are float32 copies of the weights given, which follow at every step.

    The copies are part of the state: a resumed run goes on from them, not from the rounded weights.
    """

    def __init__(self, weights: Iterable[nn.Parameter], **settings: Any) -> None:
        """Take hold of weights: their gradients go to the copies as they come."""
        self._weights = list(weights)
        super().__init__([nn.Parameter(weight.detach().float().clone()) for weight in self._weights], **settings)
        for weight, master in zip(self._weights, parameters(self), strict=True):
            weight.register_post_accumulate_grad_hook(functools.partial(_hand_over, master))

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """Step the copies, then round them into the weights."""
        result = super().step(closure)
        self._round()
        return result

    def state_dict(self) -> dict[str, Any]:
        """As AdamW's, with the copies as `master` among the moments."""
        found = super().state_dict()
        masters = {number: {"master": master.detach()} for number, master in enumerate(parameters(self))}
        return found | {"state": {number: found["state"].get(number, {}) | own for number, own in masters.items()}}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over what `state_dict` gave."""
        state = {number: dict(moments) for number, moments in state_dict["state"].items()}
        with torch.no_grad():
            for number, master in enumerate(parameters(self)):
                master.copy_(state[number].pop("master"))
        filled = {number: moments for number, moments in state.items() if moments}
        super().load_state_dict(state_dict | {"state": filled})
        self._round()

    @torch.no_grad()
    def _round(self) -> None:
        for weight, master in zip(self._weights, parameters(self), strict=True):
            weight.copy_(master)


def adamw(network: nn.Module, **settings: Any) -> torch.optim.AdamW:
    """AdamW over all that wants a gradient."""
    weights = [weight for weight in network.parameters() if weight.requires_grad]
    if all(weight.dtype == torch.float32 for weight in weights):
        return torch.optim.AdamW(weights, **settings)
    return MasterAdamW(weights, **settings)


def parameters(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    """Everything an optimiser steps, in the order of its state."""
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


def clip_gradient(optimizer: torch.optim.Optimizer, max_norm: float) -> float:
    """Scale the gradients down to `max_norm` over all parameters, whatever processes hold them; returns the norm."""
    norm = torch.nn.utils.clip_grad_norm_(parameters(optimizer), max_norm)
    full = getattr(norm, "full_tensor", None)
    return float(norm if full is None else full())


def _hand_over(master: Tensor, weight: Tensor) -> None:
    """Add a weight's fresh gradient to its copy's, and free it."""
    assert weight.grad is not None
    if master.grad is None:
        master.grad = weight.grad.float()
    else:
        master.grad += weight.grad
    weight.grad = None
