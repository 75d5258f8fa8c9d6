"""Speeds of a network of the published design, each beside the floor that the device sets it.

The floor of a forward pass is its matrix products and attention (`vla_policy.openvla.reckoning`) at the rate of the
largest product the device was seen to do, minutes before on the same device. Nothing reaches it: norms, activations
and additions count as free.
"""

from __future__ import annotations

import dataclasses
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from piper_twin.episode import Episode
from vla_policy import precision
from vla_policy.embodiment import Embodiment
from vla_policy.fast_answers import Compile, accelerate
from vla_policy.normalization import DatasetStatistics, Statistics
from vla_policy.openvla import reckoning
from vla_policy.openvla.config import OpenVlaConfig
from vla_policy.policy import VlaPolicy
from vla_policy.presets import OPENVLA_PRESETS
from vla_policy.prompt import train_tokenizer
from vla_policy.types import Observation
from vla_rl_trainer import ranks
from vla_rl_trainer.envs.vector_env import Observations
from vla_rl_trainer.learner import LearnerConfig, make_optimizer, update
from vla_rl_trainer.rollout import sampling
from vla_rl_trainer.trajectory import Group, Trajectory

TEMPERATURE = 1.6
INSTRUCTION = "pick up the black bowl between the plate and the ramekin and place it on the plate"
"""One of LIBERO's."""
_WARM_UPS = 3
_GROUPS = 4
"""Shared by the processes of a learner that is measured."""


def fresh_policy(preset: str, robot: Embodiment, device: torch.device, use_proprio: bool) -> VlaPolicy:
    """Random weights, one camera, chunks of 8 actions, as published token checkpoints read a robot; small motions."""
    state_dim = robot.num_joints if use_proprio else 0
    config = dataclasses.replace(
        OPENVLA_PRESETS[preset](robot),
        camera_names=robot.camera_names[:1],
        use_proprio=use_proprio,
        state_dim=state_dim,
    )
    spread = np.linspace(-1.0, 1.0, 101)[:, None]
    described = DatasetStatistics(
        action=Statistics.of(0.02 * np.repeat(spread, robot.num_joints, axis=1)),
        proprio=_statistics(np.repeat(3.0 * spread, state_dim, axis=1)),
        num_transitions=101,
        num_trajectories=1,
    )
    # Trained on the whole prompt it makes 31 tokens of it, about as many as Llama's own.
    tokenizer = train_tokenizer([config.prompt_template.replace("{instruction}", INSTRUCTION)])
    return VlaPolicy.create(config, robot, described, tokenizer, device=device)


def random_observations(policy: VlaPolicy, batch: int, seed: int = 0) -> Observations:
    """Noise as large as the cameras draw it, and one instruction."""
    rng, camera = np.random.default_rng(seed), policy.embodiment.cameras[0]
    shape = (batch, policy.config.num_cameras, camera.height, camera.width, 3)
    states = rng.uniform(-0.5, 0.5, (batch, policy.embodiment.num_joints)).astype(np.float32)
    return Observations(rng.integers(0, 256, shape, dtype=np.uint8), states, (INSTRUCTION,) * batch)


def prompt_tokens(policy: VlaPolicy) -> int:
    """Tokens of the instruction, without BOS."""
    return _inputs(policy, 1).prompt_BL.shape[1]


def matmul_flops(device: torch.device, sizes: Sequence[int], seconds: float) -> dict[str, float]:
    """Rate of products of square matrices in the precision that networks run in [1/s], by size."""
    found = {}
    for size in sizes:
        one, other = (torch.randn(size, size, device=device).to(_dtype(device)) for _ in range(2))
        found[str(size)] = 2.0 * size**3 / fastest(lambda a=one, b=other: a @ b, device, seconds)
    return found


def forward_rates(
    policy: VlaPolicy, batches: Sequence[int], ways: Sequence[Compile], peak: float, seconds: float
) -> list[dict[str, Any]]:
    """Observations a second through the network alone, by batch and way of asking it, beside the floor."""
    flops = sum(reckoning.forward_flops(_config(policy), prompt_tokens(policy)).values())
    found = []
    for way in ways:
        accelerate(policy, way)
        for batch in batches:
            inputs = _inputs(policy, batch)
            rate = batch / fastest(_without_gradient(lambda given=inputs: policy.answer(given)), policy.device, seconds)
            ratio = peak / flops / rate
            found.append({"compile": way, "batch": batch, "samples_per_s": rate, "floor_ratio": ratio})
    accelerate(policy, "off")
    return found


def latencies(policy: VlaPolicy, ways: Sequence[Compile], seconds: float) -> list[dict[str, Any]]:
    """Median times of one observation [ms]: the network alone, and from camera images to joint targets."""
    seen = random_observations(policy, 1)
    names = policy.embodiment.camera_names
    images = {name: seen.images_BCHW3[0, 0] for name in names}
    observation = Observation(images=images, state=seen.state_BS[0], instruction=INSTRUCTION, stamp=0.0)
    found = []
    for way in ways:
        accelerate(policy, way)
        inputs = _inputs(policy, 1)
        network = median(_without_gradient(lambda given=inputs: policy.answer(given)), policy.device, seconds)
        whole = median(lambda: policy.infer([observation]), policy.device, seconds)
        images_s = median(lambda: policy.inputs([observation]), policy.device, seconds)
        found.append({"compile": way, "network": 1e3 * network, "policy": 1e3 * whole, "inputs": 1e3 * images_s})
    accelerate(policy, "off")
    return found


def learner_rate(policy: VlaPolicy, config: LearnerConfig, num_chunks: int, peak: float) -> dict[str, Any]:
    """Chunks a second through an update of one step, over all processes; its memory, and its loss before any step.

    The chunks are the same however many processes share them, and so is the loss.
    """
    here, device = ranks.here(), policy.device
    optimizer = make_optimizer(policy, config)
    groups = _groups(policy, num_chunks, config.micro_batch)[here.own :: here.count]
    rng = np.random.default_rng(0)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    first = update(policy, optimizer, groups, TEMPERATURE, config, rng)
    took = fastest(lambda: update(policy, optimizer, groups, TEMPERATURE, config, rng), device, 0.0)
    adapters = policy.adapted is not None
    flops = reckoning.learner_flops(_config(policy), prompt_tokens(policy), adapters, config.recompute)
    return {
        "trained": "adapters" if adapters else "all",
        "gpus": here.count,
        "micro_batch": config.micro_batch,
        "recompute": config.recompute,
        "samples_per_s": num_chunks / took,
        "floor_ratio": here.count * peak / flops * took / num_chunks,
        "memory_gb": torch.cuda.max_memory_allocated(device) / 1e9 if device.type == "cuda" else None,
        "reckoned_gb": _reckoned_memory(policy, config) / 1e9,
        "loss": first["loss"],
        "grad_norm": first["grad_norm"],
    }


def _groups(policy: VlaPolicy, num_chunks: int, batch: int) -> list[Group]:
    """Groups of one success and one failure, as many chunks in all; log-probabilities moved, so that ratios are not 1.

    The same in all processes.
    """
    tries = [Trajectory(Episode("click_bell", number // 2), success=number % 2 == 0) for number in range(2 * _GROUPS)]
    decide = sampling(policy, TEMPERATURE, torch.Generator(policy.device).manual_seed(0))
    for first in range(0, num_chunks, batch):
        rows = range(first, min(first + batch, num_chunks))
        decide(random_observations(policy, len(rows), seed=first), [tries[row % len(tries)] for row in rows])
    moved = torch.Generator().manual_seed(0)
    for one in tries:
        one.steps = [policy.config.chunk_length] * len(one.indices)
        one.log_probs = [old + 0.1 * torch.randn(old.shape, generator=moved) for old in one.log_probs]
    return [Group(tries[2 * number].episode, tries[2 * number : 2 * number + 2]) for number in range(_GROUPS)]


def fastest(work: Callable[[], object], device: torch.device, seconds: float) -> float:
    """Least time of a call, after some that warm up [s]."""
    return min(_times(work, device, seconds))


def median(work: Callable[[], object], device: torch.device, seconds: float) -> float:
    """Usual time of a call, after some that warm up [s]."""
    return statistics.median(_times(work, device, seconds))


def _times(work: Callable[[], object], device: torch.device, seconds: float) -> list[float]:
    found: list[float] = []
    for number in range(10**6):
        started = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        if number >= _WARM_UPS or seconds == 0.0:
            found.append(time.perf_counter() - started)
        if len(found) > 1 and sum(found) >= seconds:
            break
    return found


def _without_gradient(work: Callable[[], object]) -> Callable[[], object]:
    return torch.no_grad()(work)


def _inputs(policy: VlaPolicy, batch: int) -> Any:
    seen = random_observations(policy, batch)
    return policy.inputs_from_arrays(seen.images_BCHW3, seen.state_BS, seen.instructions)


def _reckoned_memory(policy: VlaPolicy, config: LearnerConfig) -> float:
    weights = list(policy.network.parameters())
    count, trained = (sum(one.numel() for one in some) for some in (weights, [w for w in weights if w.requires_grad]))
    width = policy.whole.llama.embed_tokens.weight.element_size()
    held = reckoning.training_bytes(count, trained, width, ranks.here().count)
    each = reckoning.activation_bytes(_config(policy), prompt_tokens(policy), config.recompute, width)
    return sum(held.values()) + config.micro_batch * each


def _config(policy: VlaPolicy) -> OpenVlaConfig:
    assert isinstance(policy.config, OpenVlaConfig)
    return policy.config


def _dtype(device: torch.device) -> torch.dtype:
    return precision.compute_dtype(device.type)


def _statistics(values: np.ndarray) -> Statistics:
    """Of a state, which may have no numbers at all."""
    if values.size:
        return Statistics.of(values)
    nothing = np.zeros(0, np.float32)
    return Statistics(
        mean=nothing, std=nothing, min=nothing, max=nothing, q01=nothing, q99=nothing, mask=nothing.astype(bool)
    )
