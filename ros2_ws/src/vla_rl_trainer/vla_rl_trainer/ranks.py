"""The processes of one run, one a GPU, as torchrun starts them; a run that nobody shares has one.

    torchrun --nproc-per-node 2 -m vla_rl_trainer.train_grpo ours --checkpoint models/spatial ...

Every process does the whole run: its own worlds, its share of the learning. What they tell each other is bytes and
tensors, never a pickle. Whoever calls a function of this module calls it in all processes.
"""

from __future__ import annotations

import atexit
import dataclasses
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

Value = TypeVar("Value")


@dataclasses.dataclass(frozen=True, slots=True)
class Ranks:
    """Which process of how many this is."""

    own: int = 0
    count: int = 1
    local: int = 0
    """Number of this process on its machine, and of the GPU it uses."""
    local_count: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this process writes what is written once."""
        return self.own == 0

    def file(self, path: Path) -> Path:
        """Name of this process's share of a file: that of the file itself where there is one process."""
        if self.count == 1:
            return path
        return path.with_name(f"{path.stem}-{self.own:05d}-of-{self.count:05d}{path.suffix}")


def join() -> Ranks:
    """Meet the other processes that torchrun started; without it, or done before, nothing happens."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1 and not dist.is_initialized():
        if torch.cuda.is_available():
            torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
        dist.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo")
        atexit.register(_leave)
    return here()


def here() -> Ranks:
    """Which process this is; there is one unless `join` met others."""
    if not dist.is_initialized():
        return Ranks()
    local, count = int(os.environ.get("LOCAL_RANK", "0")), int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    return Ranks(dist.get_rank(), dist.get_world_size(), local, count)


def wait() -> None:
    """Go on once all processes are here."""
    if here().count > 1:
        dist.barrier()


def gather_bytes(payload: bytes) -> list[bytes]:
    """What every process hands in, in their order."""
    if here().count == 1:
        return [payload]
    sizes = [torch.zeros(1, dtype=torch.int64) for _ in range(here().count)]
    dist.all_gather(sizes, torch.tensor([len(payload)]))
    longest = max(1, *(int(size) for size in sizes))
    own = torch.zeros(longest, dtype=torch.uint8)
    own[: len(payload)] = torch.frombuffer(bytearray(payload), dtype=torch.uint8) if payload else own[:0]
    found = [torch.zeros(longest, dtype=torch.uint8) for _ in sizes]
    dist.all_gather(found, own)
    return [bytes(part[: int(size)].numpy()) for part, size in zip(found, sizes, strict=True)]


def gather(value: Any) -> list[Any]:
    """What every process hands in, anything JSON holds."""
    return [json.loads(text) for text in gather_bytes(json.dumps(value).encode())]


def of_first(value: Any) -> Any:
    """What the first process hands in, anything JSON holds."""
    return gather(value if here().is_first else None)[0]


def sum_fields(values: Value) -> Value:
    """A dataclass of counts, each summed over the processes."""
    everyones = gather(dataclasses.asdict(values))  # type: ignore[call-overload]
    return total([type(values)(**own) for own in everyones])


def total(values: Sequence[Value]) -> Value:
    """Dataclasses of counts, each count summed; truth values hold if they hold anywhere."""
    fields = [dataclasses.asdict(one) for one in values]  # type: ignore[call-overload]
    summed = {name: sum(one[name] for one in fields) for name in fields[0]}
    truths = {name: bool(summed[name]) for name, value in fields[0].items() if isinstance(value, bool)}
    return type(values[0])(**summed | truths)


def add_up(tensors: Iterable[Tensor]) -> None:
    """Replace tensors, all of one device, by their sums over the processes."""
    if here().count == 1:
        return
    for tensor in tensors:
        dist.all_reduce(tensor)


def add_up_numbers(numbers: Mapping[str, Tensor]) -> dict[str, float]:
    """Numbers summed over the processes."""
    stacked = torch.stack([value.detach().double().cpu() for value in numbers.values()])
    add_up([stacked])
    return dict(zip(numbers, stacked.tolist(), strict=True))


def _leave() -> None:
    if dist.is_initialized():
        dist.destroy_process_group()
