"""Answers to large batches on a CPU: parts side by side, each on a core of its own.

torch's own threads meet after every operation, parts once, at the end of the batch: on two cores a rollout with `tiny`
takes 154 to 177 chunks/s this way, and 133 to 148 the other. A learner gains nothing by it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch
from torch import Tensor

from vla_policy.inputs import PolicyInputs
from vla_policy.policy import VlaPolicy

PART = 16
"""Rows."""

Part = TypeVar("Part")
Result = TypeVar("Result")


def count(device: torch.device) -> int:
    """Parts that run side by side; 1 on a GPU, which needs no help."""
    return torch.get_num_threads() if device.type == "cpu" else 1


def in_parts(work: Callable[[Part], Result], parts: Iterable[Part]) -> Iterator[Result]:
    """Do the work on all parts, as many at a time as torch has threads; results in the order of the parts."""
    return _pool(torch.get_num_threads()).map(work, parts)


def answer_in_parts(policy: VlaPolicy) -> None:
    """Let a policy on a CPU answer large batches in parts from now on."""
    network = policy.whole

    def answer(inputs: PolicyInputs) -> Tensor:
        if len(inputs) <= PART:
            return network(inputs)
        parts = (inputs[first : first + PART] for first in range(0, len(inputs), PART))
        return torch.cat(list(in_parts(torch.no_grad()(network), parts)))

    if count(policy.device) > 1:
        policy.answer = answer


@functools.cache
def _pool(num_threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(num_threads, "parts", initializer=torch.set_num_threads, initargs=(1,))
