"""The VLA network of our own presets: the sequence of `sequence`, on image tokens that are slots (`vision`).

What differs from OpenVLA-OFT by default: placeholders are learned instead of zero, a head of 256 rows replaces the
slice of the vocabulary, cameras and slots have embeddings, and weights start at std 1/sqrt(hidden), not 0.02, which is
made for widths of thousands.

B batch, C cameras, H and W pixels, T tokens, D hidden, K steps, A dimensions, S state.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vla_policy.config import VlaConfig
from vla_policy.sequence import ActionSequence, make_llama
from vla_policy.tokenizer import NUM_BINS
from vla_policy.vision import SlotEncoder

_INITIAL_STD = 0.02


class VlaNetwork(ActionSequence):
    """Observations in, logits over the action bins out."""

    config: VlaConfig

    def __init__(self, config: VlaConfig) -> None:
        """Build the network with fresh weights from torch's global generator."""
        super().__init__()
        self.config = config
        hidden = config.hidden_size
        self.vision = SlotEncoder(config)
        self.projector = nn.Sequential(nn.LayerNorm(hidden), *_two_layers(hidden, hidden))
        self.camera_embedding = _embedding(config.num_cameras, 1, hidden)
        self.slot_embedding = _embedding(1, config.num_image_tokens, hidden)
        if config.use_proprio:
            self.proprio_projector = nn.Sequential(*_two_layers(config.state_dim, hidden))
        if config.placeholders == "learned":
            self.step_embedding = _embedding(config.chunk_length, 1, hidden)
            self.dimension_embedding = _embedding(1, config.action_dim, hidden)
        self.llama = make_llama(config)
        self.head = nn.Linear(hidden, NUM_BINS, bias=False)
        nn.init.normal_(self.head.weight, std=_INITIAL_STD)

    def image_tokens(self, images_BCHW3: Tensor) -> Tensor:
        """Slots of all cameras, tokens_BTD."""
        batch, cameras = images_BCHW3.shape[:2]
        features = self.projector(self.vision(images_BCHW3.flatten(0, 1)))
        images_BCTD = features.view(batch, cameras, *features.shape[1:]) + self.camera_embedding + self.slot_embedding
        return images_BCTD.flatten(1, 2)

    def proprio_token(self, state_BS: Tensor) -> Tensor:
        """The joint state as one token, token_BD."""
        return self.proprio_projector(state_BS)

    def placeholders(self) -> Tensor:
        """Learned or zero, tokens_TD."""
        config = self.config
        if config.placeholders == "learned":
            # Token j is where action j + 1 is read, hence the shift; the last one is read by nobody.
            actions_TD = (self.step_embedding + self.dimension_embedding).flatten(0, 1)
            return actions_TD.roll(-1, dims=0)
        return self.head.weight.new_zeros(config.num_action_tokens, config.hidden_size)


def _two_layers(inputs: int, outputs: int) -> tuple[nn.Module, nn.Module, nn.Module]:
    return nn.Linear(inputs, outputs), nn.GELU(), nn.Linear(outputs, outputs)


def _embedding(*shape: int) -> nn.Parameter:
    return nn.Parameter(torch.randn(shape) * _INITIAL_STD)
