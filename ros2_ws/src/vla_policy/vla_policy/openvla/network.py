"""The published network: the sequence of `sequence` on the features of two vision towers.

Placeholders are zero, as published. The head holds the 256 rows of the vocabulary that are actions, and only they are
computed; the other rows wait beside the network (`weights`) to be written back.

B batch, C cameras, H and W pixels, T tokens, D hidden, K steps, A dimensions, S state.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from vla_policy import precision
from vla_policy.errors import VlaError
from vla_policy.inputs import PolicyInputs
from vla_policy.openvla.config import OpenVlaConfig
from vla_policy.openvla.l1_head import L1Head
from vla_policy.openvla.preprocessing import prepare
from vla_policy.openvla.vision import FusedVision
from vla_policy.sequence import ActionSequence, make_llama
from vla_policy.tokenizer import NUM_BINS

NO_TOKENS = (
    "this checkpoint was trained with L1 regression: its language-model head never learned action tokens, so that "
    "rollouts by tokens succeed in no episode and RL has nothing to start from. It can be evaluated and deployed; for "
    "RL take a checkpoint trained on tokens, such as Haozhan72's Openvla-oft-SFT ones, or fine-tune a copy of this one "
    "on tokens, without its action_head--*_checkpoint.pt"
)
_INITIAL_STD = 0.02
_PROJECTOR_FACTOR = 4
"""The projector's first layer is this many times as wide as the features."""


class OpenVlaNetwork(ActionSequence):
    """Observations in, logits over the action bins out; or actions, with an L1 head."""

    config: OpenVlaConfig

    def __init__(self, config: OpenVlaConfig) -> None:
        """Build the network; its weights are to be loaded or drawn (`fill`)."""
        super().__init__()
        self.config = config
        hidden, features = config.hidden_size, config.dinov2.width + config.siglip.width
        self.vision = FusedVision(config)
        self.projector = _Layers(features, _PROJECTOR_FACTOR * features, hidden, hidden)
        if config.use_proprio:
            self.proprio_projector = _Layers(config.state_dim, hidden, hidden)
        self.llama = make_llama(config, config.num_kv_heads, std=_INITIAL_STD)
        self.head = nn.Linear(hidden, NUM_BINS, bias=False)
        if config.action_head == "l1":
            self.l1_head = L1Head(hidden, config.action_dim)

    @staticmethod
    def without_memory(config: OpenVlaConfig) -> OpenVlaNetwork:
        """Build the network on no device: shapes and names alone, until weights are assigned to it."""
        with torch.device("meta"):
            return OpenVlaNetwork(config).eval()

    def fill_buffers(self, device: torch.device | str) -> None:
        """Make on `device` what no checkpoint holds, after the weights of a network without memory were assigned."""
        self.vision.fill_buffers(torch.device(device))
        self.llama.rotary_emb = type(self.llama.rotary_emb)(self.llama.config).to(device)

    @staticmethod
    def fresh(config: OpenVlaConfig, device: torch.device | str, dtype: torch.dtype, seed: int) -> OpenVlaNetwork:
        """Draw random weights on `device`: for measuring speed and memory, and for small networks."""
        network = OpenVlaNetwork.without_memory(config).to(dtype)
        network = network.to_empty(device=device)
        generator = torch.Generator(device).manual_seed(seed)
        with torch.no_grad():
            for name, weight in network.named_parameters():
                if "norm" in name and name.endswith("weight"):
                    weight.fill_(1.0)
                elif name.endswith("bias"):
                    weight.zero_()
                else:
                    weight.normal_(std=_INITIAL_STD, generator=generator)
        network.fill_buffers(device)
        return network

    def prepare(self, images_BCHW3: Tensor) -> Tensor:
        """Bring camera images of any size to what the network reads, once; uint8 to uint8."""
        images = prepare(images_BCHW3.flatten(0, 1), self.config.images, self.config.image_size)
        return images.unflatten(0, images_BCHW3.shape[:2])

    def forward(self, inputs: PolicyInputs) -> Tensor:
        """Compute the logits of every action token, logits_BKAV.

        Raises:
            VlaError: the checkpoint regresses its actions.
        """
        self.require_tokens()
        return super().forward(inputs)

    def require_tokens(self) -> None:
        """Refuse to be asked for probabilities of regressed actions."""
        if not self.config.predicts_tokens:
            raise VlaError(NO_TOKENS)

    def regress(self, inputs: PolicyInputs) -> Tensor:
        """Regress normalised actions, values_BKA, with an L1 head."""
        config = self.config
        hidden_BTD = self.action_states(inputs.images_BCHW3, inputs.prompt_BL, inputs.mask_if_padded(), inputs.state_BS)
        with precision.autocast(hidden_BTD.device, self.head.weight.dtype):
            values_BKA = self.l1_head(hidden_BTD.reshape(len(inputs), config.chunk_length, -1))
        return values_BKA.float()

    def image_tokens(self, images_BCHW3: Tensor) -> Tensor:
        """Projected patches of all cameras, one camera after the other, tokens_BTD."""
        features = self.projector(self.vision(images_BCHW3.flatten(0, 1)))
        return features.unflatten(0, images_BCHW3.shape[:2]).flatten(1, 2)

    def proprio_token(self, state_BS: Tensor) -> Tensor:
        """The state as one token, token_BD."""
        return self.proprio_projector(state_BS)

    def placeholders(self) -> Tensor:
        """Zeros, tokens_TD."""
        return self.llama.embed_tokens.weight.new_zeros(self.config.num_action_tokens, self.config.hidden_size)


class _Layers(nn.Module):
    """Linear layers with exact GELU between them, named fc1, fc2, ... as published."""

    def __init__(self, *widths: int) -> None:
        super().__init__()
        self._names = [f"fc{number}" for number in range(1, len(widths))]
        for name, width, following in zip(self._names, widths, widths[1:], strict=False):
            self.add_module(name, nn.Linear(width, following))

    def forward(self, features: Tensor) -> Tensor:
        features = features.to(next(self.parameters()).dtype)
        for name in self._names[:-1]:
            features = functional.gelu(self.get_submodule(name)(features))
        return self.get_submodule(self._names[-1])(features)
