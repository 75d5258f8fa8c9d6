"""How fast seven billion weights answer, learn and go through a step of GRPO here, beside the floor of the device.

    python -m vla_rl_trainer.bench_vla --out runs/bench_vla
    python -m vla_rl_trainer.bench_vla --out runs/bench_vla --parts forward latency --compile fused
    torchrun --nproc-per-node 2 -m vla_rl_trainer.bench_vla --out runs/bench_vla_2 --parts learner --lora-rank 0

Weights are random, of the true size: speed does not depend on what was learned. Parts that are not asked for keep
their figures in `summary.json`, so that several short runs make one summary.
"""

from __future__ import annotations

import dataclasses
import gc
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from rich.console import Console
from rich.table import Table

from piper_twin.robot import DUAL_PIPER
from vla_policy import precision
from vla_policy.embodiment import Embodiment
from vla_policy.errors import VlaError
from vla_policy.fast_answers import Compile
from vla_policy.openvla import memory, reckoning
from vla_policy.openvla.config import OpenVlaConfig
from vla_policy.policy import VlaPolicy
from vla_policy.presets import OPENVLA_PRESETS
from vla_policy.provenance import provenance
from vla_rl_trainer import ranks
from vla_rl_trainer.bench_vla_iteration import IterationConfig, iteration
from vla_rl_trainer.bench_vla_parts import (
    forward_rates,
    fresh_policy,
    latencies,
    learner_rate,
    matmul_flops,
    prompt_tokens,
)
from vla_rl_trainer.command import find, run_command
from vla_rl_trainer.config_checks import require_above, require_at_least
from vla_rl_trainer.devices import pick_device
from vla_rl_trainer.disk import write_atomically
from vla_rl_trainer.learner import LearnerConfig
from vla_rl_trainer.libero.embodiment import LIBERO_PANDA
from vla_rl_trainer.progress import Progress
from vla_rl_trainer.trainable import LoraConfig

Part = Literal["matmul", "forward", "latency", "learner", "iteration"]
PARTS: tuple[Part, ...] = ("matmul", "forward", "latency", "learner", "iteration")


@dataclasses.dataclass(frozen=True, kw_only=True)
class BenchVlaConfig:
    """What is measured; a step of GRPO is last and longest."""

    out: Path = Path("runs/bench_vla")
    """Folder of summary.json."""
    parts: tuple[Part, ...] = PARTS
    """Which figures; the others are kept as they stand in summary.json. The floors need `matmul` once."""
    preset: str = "openvla_7b"
    """openvla_7b, or openvla_tiny to try the command."""
    compile: tuple[Compile, ...] = ("off", "graphs")
    """Ways of asking the network. fused: compiled first, which takes minutes the first time."""
    batches: tuple[int, ...] = (8, 64)
    seconds: float = 3.0
    """Of every figure of matmul, forward and latency."""
    matmul_sizes: tuple[int, ...] = (4096, 8192, 16384)
    lora_rank: int = 32
    """Of the learner, here and in the step of GRPO; 0: all weights are trained."""
    micro_batch: int = 16
    """Chunks a pass of the learner."""
    recompute: bool = False
    """As in the learner's configuration."""
    num_chunks: int = 64
    """Learned from in one update, over all processes."""
    chunk_fraction: float = 1.0
    """Share of the chunks that a step of GRPO back-propagates."""
    iteration: IterationConfig = dataclasses.field(default_factory=IterationConfig)

    def __post_init__(self) -> None:
        """Refuse what measures nothing."""
        require_above(self, 0.0, "seconds", "chunk_fraction")
        require_at_least(self, 1, "micro_batch")
        require_at_least(self, 8, "num_chunks")
        find(OPENVLA_PRESETS, self.preset, "preset")
        if not self.parts or not self.compile or not self.batches or min(self.batches) < 1:
            raise VlaError("give at least one part, one way of asking, and one batch of at least 1")

    @property
    def learner(self) -> LearnerConfig:
        """Steps so small that random weights stay what they are."""
        return LearnerConfig(
            learning_rate=1e-6,
            num_minibatches=1,
            micro_batch=self.micro_batch,
            recompute=self.recompute,
            lora=LoraConfig(rank=self.lora_rank),
        )


def measure(config: BenchVlaConfig, part: Part, known: Mapping[str, Any]) -> dict[str, Any]:
    """Measure one part; returns its figures.

    Args:
        config: What is measured, and how long.
        part: Which part.
        known: Figures of earlier parts.

    Raises:
        VlaError: the weights do not fit, or the floor is not known.
    """
    device = pick_device()
    if part == "matmul":
        rates = matmul_flops(device, config.matmul_sizes, config.seconds)
        return {"matmul": {"flops": max(rates.values()), "by_size": rates}}
    if "matmul" not in known:
        raise VlaError(f"{config.out} has no rate of matrix products yet, without which there is no floor; add matmul")
    peak = float(known["matmul"]["flops"])
    if part == "iteration":
        policy = _policy(config, DUAL_PIPER, use_proprio=True)
        learner = dataclasses.replace(config.learner, num_minibatches=4, chunk_fraction=config.chunk_fraction)
        return {part: iteration(policy, config.iteration, learner, config.compile[-1]) | {"flops": _reckoned(policy)}}
    policy = _policy(config, LIBERO_PANDA, use_proprio=False)
    flops = {"flops": _reckoned(policy)}
    if part == "forward":
        by = forward_rates(policy, config.batches, config.compile, peak, config.seconds)
        return flops | {part: max(by, key=lambda row: row["samples_per_s"]) | {"by": by}}
    if part == "latency":
        by = latencies(policy, config.compile, config.seconds)
        return flops | {part: {"by": by}, "latency_ms": min(row["network"] for row in by)}
    row = learner_rate(policy, config.learner, config.num_chunks, peak)
    earlier = [other for other in known.get(part, {}).get("by", []) if not _same_kind(other, row)]
    return flops | {part: row | {"by": [*earlier, row]}}


def _policy(config: BenchVlaConfig, robot: Embodiment, use_proprio: bool) -> VlaPolicy:
    gc.collect()  # the part before had a network of its own
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    device = pick_device()
    if config.preset == "openvla_7b":
        dtype = precision.compute_dtype(device.type)
        memory.require(int(7.5e9) * dtype.itemsize, device, dtype, "a network of seven billion weights")
    return fresh_policy(config.preset, robot, device, use_proprio)


def _reckoned(policy: VlaPolicy) -> dict[str, float]:
    assert isinstance(policy.config, OpenVlaConfig)
    parts = reckoning.forward_flops(policy.config, prompt_tokens(policy))
    return parts | {
        "whole": sum(parts.values()),
        "tokens": reckoning.num_tokens(policy.config, prompt_tokens(policy)),
        "weights": sum(weight.numel() for weight in policy.network.parameters()),
    }


def _same_kind(row: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    return all(row.get(name) == other[name] for name in ("trained", "gpus", "micro_batch", "recompute"))


def print_summary(summary: Mapping[str, Any]) -> None:
    """The figures and the reckoning of the floor, for a terminal."""
    console = Console()
    peak, flops = summary["matmul"]["flops"], summary.get("flops")
    console.print(f"{summary['hardware']}: {peak / 1e12:,.0f} TFLOP/s in the best product of matrices")
    if flops is not None:
        parts = ", ".join(f"{name} {flops[name] / 1e12:.3f}" for name in ("llama", "dinov2", "siglip", "projectors"))
        console.print(
            f"a forward pass of {flops['tokens']} tokens: {flops['whole'] / 1e12:.3f} TFLOP ({parts}); floor "
            f"{peak / flops['whole']:,.1f} samples/s, {1e3 * flops['whole'] / peak:.2f} ms each"
        )
    for name in ("forward", "latency", "learner"):
        if name in summary:
            rows = summary[name]["by"]
            table = Table(*rows[0], title=name)
            for row in rows:
                table.add_row(*(f"{value:,.4g}" if isinstance(value, float) else str(value) for value in row.values()))
            console.print(table)
    if "iteration" in summary:
        found = summary["iteration"]
        phases = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in found["phases_s"].items())
        console.print(f"a step of GRPO: {found['env_steps_per_s']:,.0f} env steps/s, counting everything ({phases})")


def main(config: BenchVlaConfig) -> dict[str, Any]:
    """Measure; returns the summary, which is written after every part."""
    here, path = ranks.join(), config.out / "summary.json"
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    wanted: list[Part] = [part for part in PARTS if part in config.parts]
    with Progress("measuring", len(wanted)) as progress:
        for part in wanted:
            progress.advance(0, note=part)
            found |= measure(config, part, found)
            found |= {"gpus": here.count, "preset": config.preset, "device": str(pick_device())}
            found |= {name: value for name, value in provenance(0).items() if name != "seed"}
            if here.is_first:
                config.out.mkdir(parents=True, exist_ok=True)
                write_atomically(path, json.dumps(found, indent=2) + "\n")
            progress.advance(note=part)
    if here.is_first:
        print_summary(found)
    return found


if __name__ == "__main__":
    run_command(main, BenchVlaConfig)
