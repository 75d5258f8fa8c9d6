"""Supervised fine-tuning: cross-entropy on the bins of demonstrated action chunks."""

from __future__ import annotations

import dataclasses
import math
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional

from vla_policy.action_frame import to_frame
from vla_policy.config import VlaConfig
from vla_policy.embodiment import Embodiment
from vla_policy.errors import VlaError
from vla_policy.inputs import PolicyInputs
from vla_policy.normalization import DatasetStatistics, Statistics
from vla_policy.policy import VlaPolicy
from vla_rl_trainer import ranks, sharding
from vla_rl_trainer.config_checks import require_above, require_at_least
from vla_rl_trainer.dataset import FrameTable
from vla_rl_trainer.optimizer import clip_gradient
from vla_rl_trainer.out_of_memory import advised
from vla_rl_trainer.progress import Progress
from vla_rl_trainer.run_folder import Run
from vla_rl_trainer.shared_run import SharedRun
from vla_rl_trainer.trainable import LoraConfig, choose
from vla_rl_trainer.training_state import load_state, save_state


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class SftConfig:
    """Optimisation and augmentation."""

    num_steps: int = 300
    batch_size: int = 32
    learning_rate: float = 5e-4
    """Largest; warmed up over the first twentieth, then a cosine down to a tenth."""
    weight_decay: float = 0.01
    max_grad_norm: float = 1.0
    brightness: float = 0.15
    """Images are brightened or darkened by up to this share."""
    contrast: float = 0.15
    colour: float = 0.05
    """Each colour channel is scaled by up to this share."""
    shift: int = 0
    """Images are moved by up to this many pixels [px of the policy's image]."""
    state_noise: float = 0.02
    """Standard deviation added to the normalised joint state, so that pixels count more than poses."""
    micro_batch: int | None = None
    """Samples a forward and backward pass; bounds memory. By default the whole batch at once."""
    lora: LoraConfig = dataclasses.field(default_factory=LoraConfig)
    recompute: bool = False
    """Compute activations again in the backward pass instead of keeping them."""

    def __post_init__(self) -> None:
        """Refuse what cannot be trained with."""
        require_at_least(self, 1, "num_steps", "batch_size")
        require_at_least(self, 0.0, "weight_decay", "brightness", "contrast", "colour", "shift", "state_noise")
        require_above(self, 0.0, "learning_rate", "max_grad_norm")
        if self.micro_batch is not None:
            require_at_least(self, 1, "micro_batch")


def statistics_of(table: FrameTable, embodiment: Embodiment, config: VlaConfig) -> DatasetStatistics:
    """Statistics of all action chunks (in the policy's frame) and joint states of a table."""
    indices = np.arange(len(table))
    framed = to_frame(
        table.chunks(indices, config.chunk_length), table.state_NS, embodiment, config.action_frame
    ).reshape(-1, config.action_dim)
    return DatasetStatistics(
        action=Statistics.of(framed),
        proprio=Statistics.of(table.state_NS),
        num_transitions=len(table),
        num_trajectories=int(table.episode_N.max()) + 1,
    )


def learning_rate_at(step: int, config: SftConfig) -> float:
    """Warm-up over the first twentieth, then half a cosine down to a tenth."""
    warmup = max(1, config.num_steps // 20)
    if step < warmup:
        return config.learning_rate * (step + 1) / warmup
    progress = (step - warmup) / max(1, config.num_steps - warmup)
    return config.learning_rate * (0.1 + 0.9 * 0.5 * (1.0 + math.cos(math.pi * progress)))


class SftTrainer:
    """Steps through random batches; what batch comes when depends on the seed and the step alone."""

    def __init__(self, policy: VlaPolicy, table: FrameTable, config: SftConfig, seed: int) -> None:
        """Train `policy` in place on `table`.

        Raises:
            VlaError: the table is empty, shows other cameras than the robot has, or the batch cannot be shared.
        """
        policy.require_tokens()
        if not len(table):
            raise VlaError("there are no frames to train on; collect demonstrations first")
        if table.cameras != policy.embodiment.camera_names:
            raise VlaError(f"the frames show cameras {table.cameras}, the robot has {policy.embodiment.camera_names}")
        if config.batch_size % ranks.here().count:
            raise VlaError(f"a batch of {config.batch_size} cannot be shared evenly by {ranks.here().count} processes")
        self.policy = policy
        self.step = 0
        self._table = table
        self.config = config
        self._seed = seed
        self._thread = ThreadPoolExecutor(max_workers=1)
        self._gathered: Future[tuple[PolicyInputs, torch.Tensor]] | None = None
        self._gathered_step = -1
        settings = {"lr": config.learning_rate, "weight_decay": config.weight_decay, "betas": (0.9, 0.99)}
        self.optimizer = choose(policy, config.lora, config.recompute, **settings)

    def train_step(self) -> dict[str, float]:
        """One batch; returns its metrics. The next batch is gathered meanwhile.

        Raises:
            VlaError: the GPU's memory does not suffice; says which setting to lower, and to what.
        """
        config, policy = self.config, self.policy
        gathered = self._gathered if self._gathered_step == self.step else None
        inputs, labels = gathered.result() if gathered else self._gather(self.step)
        if self.step + 1 < config.num_steps:
            self._gathered_step, self._gathered = self.step + 1, self._thread.submit(self._gather, self.step + 1)
        inputs = augment(inputs, config, torch.Generator().manual_seed(self._mix()))
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate_at(self.step, config)
        policy.network.train()
        self.optimizer.zero_grad(set_to_none=True)
        loss = self._accumulate(inputs, labels)
        sharding.add_up_gradients(policy, self.optimizer)
        norm = clip_gradient(self.optimizer, config.max_grad_norm)
        self.optimizer.step()
        policy.network.eval()
        self.step += 1
        return {"sft/loss": ranks.add_up_numbers({"loss": loss})["loss"], "sft/grad_norm": norm}

    def _accumulate(self, inputs: PolicyInputs, labels: torch.Tensor) -> torch.Tensor:
        """Add up the gradients of the passes; returns this process's part of the mean loss over the batch."""
        config, policy = self.config, self.policy
        size = config.micro_batch or len(inputs)
        losses = []
        with advised(policy, "--sft.micro-batch", size):
            for first in range(0, len(inputs), size):
                part = slice(first, first + size)
                logits = policy.network(inputs[part])
                mean = functional.cross_entropy(logits.flatten(0, 2), labels[part].flatten())
                loss = mean * (len(logits) / config.batch_size)
                (loss * sharding.gradient_factor(policy)).backward()
                losses.append(loss.detach())
        return torch.stack(losses).sum()

    def _gather(self, step: int) -> tuple[PolicyInputs, torch.Tensor]:
        table, policy, here = self._table, self.policy, ranks.here()
        batch = np.random.default_rng([self._seed, step]).integers(len(table), size=self.config.batch_size)
        indices = batch[here.own :: here.count]
        states = table.state_NS[indices]
        inputs = policy.inputs_from_arrays(table.images_NCHW3[indices], states, table.instructions_of(indices))
        actions = table.chunks(indices, policy.config.chunk_length)
        return inputs, torch.from_numpy(policy.encode_actions(actions, states)).to(policy.device)

    def _mix(self) -> int:
        return int(np.random.default_rng([self._seed, self.step, 1]).integers(2**62)) + ranks.here().own

    def save(self, folder: Path) -> None:
        """Write policy, optimiser and step into a checkpoint folder."""
        sharding.refresh(self.policy)
        if ranks.here().is_first:
            self.policy.save(folder)
        ranks.wait()
        save_state(folder, self.optimizer, {"step": self.step})

    def resume(self, folder: Path) -> None:
        """Go on from what `save` wrote."""
        self.policy.restore(folder)
        self.step = int(load_state(folder, self.optimizer)["step"])


def train_in_run(run: Run | SharedRun, trainer: SftTrainer, checkpoint_every: int) -> Path:
    """Run all remaining steps inside a run folder; returns the last checkpoint.

    The newest checkpoint found there is resumed from, so that an interrupted run gives the same curve as an unbroken
    one.

    Raises:
        VlaError: `checkpoint_every` is not positive, or the newest checkpoint is damaged.
    """
    if checkpoint_every < 1:
        raise VlaError(f"checkpoint_every is {checkpoint_every}; give at least 1")
    latest = run.latest_checkpoint()
    if latest is not None:
        trainer.resume(latest)
    run.truncate_metrics(trainer.step)
    total = trainer.config.num_steps
    with Progress("supervised steps", total, trainer.step) as progress:
        while trainer.step < total:
            metrics = trainer.train_step()
            run.log(trainer.step - 1, metrics)
            progress.advance(note=f"loss {metrics['sft/loss']:.3f}")
            if trainer.step % checkpoint_every == 0 or trainer.step == total:
                with run.saving_checkpoint(trainer.step) as folder:
                    trainer.save(folder)
    return run.checkpoint_path(total)


def augment(inputs: PolicyInputs, config: SftConfig, generator: torch.Generator) -> PolicyInputs:
    """Vary brightness, contrast, colour and position of the images, and the joint state; images stay uint8."""
    batch, cameras = inputs.images_BCHW3.shape[:2]
    device = inputs.images_BCHW3.device

    def uniform(width: float, *shape: int) -> torch.Tensor:
        return ((torch.rand(shape, generator=generator) * 2.0 - 1.0) * width).to(device)

    images = inputs.images_BCHW3.float()
    scale = 1.0 + uniform(config.contrast, batch, 1, 1, 1, 1)
    offset = 255.0 * uniform(config.brightness, batch, cameras, 1, 1, 1)
    tint = 1.0 + uniform(config.colour, batch, 1, 1, 1, 3)
    images = ((images - 127.5) * scale + 127.5 + offset) * tint
    if config.shift:
        rows, columns = torch.randint(-config.shift, config.shift + 1, (2,), generator=generator).tolist()
        images = torch.roll(images, (rows, columns), dims=(2, 3))
    noise = torch.randn(inputs.state_BS.shape, generator=generator).to(device) * config.state_noise
    return dataclasses.replace(
        inputs, images_BCHW3=images.clamp(0.0, 255.0).to(torch.uint8), state_BS=inputs.state_BS + noise
    )
