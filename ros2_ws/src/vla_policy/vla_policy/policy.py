"""The trained policy: network, statistics, embodiment and text tokenizer as one thing that can be saved.

Two entrances to the same code. `infer` takes observations and is what a robot or an evaluation uses; the array
methods are for rollouts and training. Pixels stay uint8 up to the network. Joint states and actions are numpy arrays
in radians and metres; only `PolicyInputs` and token tensors live on the network's device.

B batch, C cameras, H and W pixels, K steps, A action dimensions, S state dimensions, V bins.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from tokenizers import Tokenizer
from torch import Tensor

from vla_policy import checkpoint, decoding, networks
from vla_policy.action_frame import from_frame, to_frame
from vla_policy.checkpoint import Checkpoint
from vla_policy.config import DECODINGS, Decoding, PolicyConfig
from vla_policy.decoding import SampledChunk
from vla_policy.embodiment import Embodiment
from vla_policy.errors import VlaError
from vla_policy.inputs import PolicyInputs, stack_images, to_pixels
from vla_policy.normalization import DatasetStatistics, normalise, un_normalise
from vla_policy.origin import Adapted, AdapterSize, Origin
from vla_policy.prompt import PromptEncoder
from vla_policy.sequence import ActionSequence
from vla_policy.tokenizer import ActionTokenizer
from vla_policy.types import ActionChunk, Observation, Vector


class VlaPolicy:
    """A `Policy` with a network inside."""

    network: ActionSequence
    """What learns."""
    whole: ActionSequence
    """What answers and is saved: another than `network` only where what learns is shared by several GPUs."""
    answer: Callable[[PolicyInputs], Tensor]
    """Observations to logits, without gradients: the whole network, or a faster form of it."""
    extra: dict[str, Any]
    """Further JSON that is saved with the checkpoint, by file name without suffix."""
    folder: Path | None = None  # what the policy was read from
    origin: Origin | None = None  # what a published folder holds besides
    adapted: Adapted | None = None  # the base, where adapters alone are trained and saved

    def __init__(
        self,
        network: ActionSequence,
        config: PolicyConfig,
        statistics: DatasetStatistics,
        embodiment: Embodiment,
        tokenizer: Tokenizer,
        decoding: Decoding | None = None,
        temperature: float = 1.0,
        device: torch.device | str = "cpu",
        seed: int = 0,
    ) -> None:
        """Put the parts together; they must belong together.

        Args:
            network: Built from `config`.
            config: Shape of the network and how its numbers are to be read.
            statistics: Of the data the network learns from, actions in `config.action_frame`.
            embodiment: The robot.
            tokenizer: Of the instructions.
            decoding: How `infer` and `act` choose among the bins; the config's way by default.
            temperature: Of decoding by 'sample' or 'expectation'.
            device: Where the network runs.
            seed: Of decoding by 'sample'.

        Raises:
            VlaError: the parts do not fit each other.
        """
        if decoding and not config.predicts_tokens:
            raise VlaError(
                f"this checkpoint regresses its actions: '{decoding}' has no bins to choose among; leave it out"
            )
        self.decoding: Decoding = decoding or config.decoding
        if self.decoding not in DECODINGS:
            raise VlaError(f"unknown decoding '{decoding}'; choose one of {', '.join(DECODINGS)}")
        self.device = torch.device(device)
        self.network = network.to(self.device)
        self.whole = self.network
        self.config = config
        self.statistics = statistics
        self.embodiment = embodiment
        self.tokenizer = tokenizer
        self.temperature = temperature
        self.answer = self.whole
        self.extra = {}
        self.generator = torch.Generator().manual_seed(seed)
        self._bins = ActionTokenizer()
        self._centres_V = torch.from_numpy(self._bins.centres.copy()).to(self.device)
        self._prompts = PromptEncoder(tokenizer, config.prompt_template, config.prompt_end_id, config.max_prompt_tokens)
        self._parts().require_consistent("this policy")

    @staticmethod
    def create(
        config: PolicyConfig,
        embodiment: Embodiment,
        statistics: DatasetStatistics,
        tokenizer: Tokenizer,
        seed: int = 0,
        device: torch.device | str = "cpu",
    ) -> VlaPolicy:
        """Make an untrained policy; the same seed gives the same weights and leaves torch's generator alone."""
        network = networks.build(config, seed, device)
        return VlaPolicy(network, config, statistics, embodiment, tokenizer, device=device, seed=seed)

    @staticmethod
    def load(
        folder: Path | str,
        device: torch.device | str = "cpu",
        robot: Embodiment | None = None,
        decoding: Decoding | None = None,
        temperature: float = 1.0,
        dtype: torch.dtype | None = None,
    ) -> VlaPolicy:
        """Read a checkpoint folder, of ours or of OpenVLA-OFT's.

        Args:
            folder: The checkpoint.
            device: Where the network runs.
            robot: Refuse the checkpoint unless it was made for this robot; a published one that says nothing is read
                for it.
            decoding: As in the constructor.
            temperature: As in the constructor.
            dtype: Precision of published weights; by default as stored where the device multiplies bfloat16. Ours are
                always float32.

        Raises:
            VlaError: the checkpoint is damaged, or belongs to another robot; the message says what differs.
        """
        network, parts = networks.read(Path(folder), device, robot, dtype)
        policy = VlaPolicy(
            network, parts.config, parts.statistics, parts.embodiment, parts.tokenizer, decoding, temperature, device
        )
        policy.extra, policy.origin, policy.adapted = dict(parts.extra), parts.origin, parts.adapted
        policy.folder = Path(folder)
        return policy

    def adapt(self, size: AdapterSize, seed: int = 0) -> None:
        """Freeze the network and train adapters (LoRA) instead: from now on they alone are saved.

        Raises:
            VlaError: the network is none of OpenVLA-OFT's, or has adapters already.
        """
        self.adapted = networks.adapt(self.network, self.folder, size, seed)

    def restore(self, folder: Path | str) -> None:
        """Take over the weights, and only those, of what `save` wrote.

        Raises:
            VlaError: the checkpoint is damaged, or not one of this policy.
        """
        networks.restore(self.whole, Path(folder), self.adapted, self.device, self.embodiment)

    def save(
        self, folder: Path | str, dtype: torch.dtype | None = None, extra: Mapping[str, Any] | None = None
    ) -> None:
        """Write a checkpoint folder; `extra` are further JSON files by name without suffix.

        Raises:
            VlaError: the folder exists and is no checkpoint.
        """
        self.extra |= extra or {}
        checkpoint.save(Path(folder), self._parts(), dtype)

    def inputs(self, observations: Sequence[Observation]) -> PolicyInputs:
        """Gather observations into a batch.

        Raises:
            VlaError: a camera is missing, or its image or the state has the wrong shape.
        """
        images = stack_images(observations, self.config.camera_names)
        states = np.stack([seen.state for seen in observations])
        return self.inputs_from_arrays(images, states, [seen.instruction for seen in observations])

    def inputs_from_arrays(
        self,
        images_BCHW3: npt.NDArray[np.uint8] | Tensor,
        state_BS: npt.NDArray[np.float32],
        instructions: Sequence[str],
    ) -> PolicyInputs:
        """Make a batch on the network's device; the arrays are copied, so they may be reused.

        Args:
            images_BCHW3: Cameras in the order of `config.camera_names`, sides multiples of `config.image_size`. A
                tensor that is on the device already is taken as it is.
            state_BS: Measured joints [rad, m], not normalised.
            instructions: One a row.
        """
        batch, read = len(instructions), self.config.camera_names
        if len(read) < len(self.embodiment.cameras) == images_BCHW3.shape[1]:
            images_BCHW3 = images_BCHW3[:, [self.embodiment.camera_names.index(name) for name in read]]
        if not self.config.use_proprio:
            state_BS = state_BS[:, : self.config.state_dim]
        pixels = to_pixels(images_BCHW3, (batch, self.config.num_cameras), self.device)
        if state_BS.shape != (batch, self.config.state_dim) or not np.isfinite(state_BS).all():
            raise VlaError(f"states have shape {state_BS.shape}; expected finite {(batch, self.config.state_dim)}")
        prompt_BL, mask_BL = self._prompts.encode(instructions)
        proprio_BS = normalise(state_BS, self.statistics.proprio, self.config.normalisation)
        return PolicyInputs(
            images_BCHW3=self.network.prepare(pixels),
            prompt_BL=torch.tensor(prompt_BL, device=self.device),
            prompt_mask_BL=torch.tensor(mask_BL),
            state_BS=torch.tensor(proprio_BS, device=self.device),
        )

    def encode_actions(self, actions_BKA: npt.ArrayLike, state_BS: npt.ArrayLike) -> npt.NDArray[np.int64]:
        """Bins of absolute joint targets, indices_BKA: the labels of supervised training."""
        framed = to_frame(actions_BKA, state_BS, self.embodiment, self.config.action_frame)
        return self._bins.encode_index(normalise(framed, self.statistics.action, self.config.normalisation))

    def decode_indices(self, indices_BKA: npt.NDArray[np.int64] | Tensor, state_BS: npt.ArrayLike) -> Vector:
        """Absolute joint targets of bins; undoes `encode_actions` within half a bin."""
        return self.decode_values(self._bins.decode_index(_array(indices_BKA)), state_BS)

    def decode_values(self, values_BKA: npt.NDArray[np.float32] | Tensor, state_BS: npt.ArrayLike) -> Vector:
        """Absolute joint targets of normalised values in [-1, 1]."""
        framed = un_normalise(_array(values_BKA), self.statistics.action, self.config.normalisation)
        return from_frame(framed, state_BS, self.embodiment, self.config.action_frame)

    def require_tokens(self) -> None:
        """Refuse to be trained by RL if there are no tokens to learn probabilities of.

        Raises:
            VlaError: the checkpoint regresses its actions; says what to take instead.
        """
        self.network.require_tokens()

    def log_probs(self, inputs: PolicyInputs, indices_BKA: Tensor, temperature: float) -> Tensor:
        """Log-probabilities of given bins, log_probs_BKA, differentiable; equal to those `sample` returned."""
        return decoding.log_probs(self.network(inputs), indices_BKA, temperature)

    @torch.no_grad()
    def sample(
        self,
        inputs: PolicyInputs,
        state_BS: npt.ArrayLike,
        temperature: float,
        generator: torch.Generator | None = None,
    ) -> SampledChunk:
        """Draw every action token from its distribution; `generator` may live on any device."""
        indices_BKA, log_probs_BKA = decoding.sample(self.answer(inputs), temperature, generator or self.generator)
        return SampledChunk(
            actions_BKA=self.decode_indices(indices_BKA, state_BS),
            indices_BKA=indices_BKA,
            log_probs_BKA=log_probs_BKA,
        )

    @torch.no_grad()
    def act(self, inputs: PolicyInputs, state_BS: npt.ArrayLike) -> Vector:
        """Absolute joint targets, actions_BKA, by the configured decoding."""
        if self.decoding == "sample":
            return self.sample(inputs, state_BS, self.temperature).actions_BKA
        if not self.config.predicts_tokens:
            return self.decode_values(self.whole.regress(inputs), state_BS)
        logits_BKAV = self.answer(inputs)
        if self.decoding == "argmax":
            return self.decode_indices(decoding.argmax(logits_BKAV), state_BS)
        return self.decode_values(decoding.expectation(logits_BKAV, self._centres_V, self.temperature), state_BS)

    def infer(self, observations: Sequence[Observation]) -> list[ActionChunk]:
        """Answer every observation with one forward pass for all."""
        if not observations:
            return []
        state_BS = np.stack([seen.state for seen in observations])
        actions_BKA = self.act(self.inputs(observations), state_BS)
        period = self.embodiment.control_period
        return [
            ActionChunk(actions=actions, period=period, stamp=seen.stamp)
            for actions, seen in zip(actions_BKA, observations, strict=True)
        ]

    def _parts(self) -> Checkpoint:
        return Checkpoint(
            config=self.config,
            weights=self.whole.state_dict(),
            statistics=self.statistics,
            tokenizer=self.tokenizer,
            embodiment=self.embodiment,
            extra=self.extra,
            origin=self.origin,
            adapted=self.adapted,
        )


def _array(values: npt.NDArray[Any] | Tensor) -> npt.NDArray[Any]:
    return values.cpu().numpy() if isinstance(values, Tensor) else values
