"""The VLA network: OpenVLA-OFT's design, at every size.

[BOS | image tokens | proprio token | prompt | K*A placeholders | stop] goes through a Llama whose attention is made
bidirectional, and all action tokens come out of one forward pass. The next-token shift of a language model is kept:
the first action is read at the last prompt token, every other one at the placeholder before its own. What differs
from OpenVLA-OFT by default: placeholders are learned instead of zero, a head of 256 rows replaces the slice of the
vocabulary, image tokens are slots (`vision`), and weights start at std 1/sqrt(hidden), not 0.02, which is made for
widths of thousands.

B batch, C cameras, H and W pixels, L prompt tokens, T all tokens, D hidden, K steps, A dimensions, V bins, S state.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vla_policy import precision
from vla_policy.config import VlaConfig
from vla_policy.inputs import PolicyInputs
from vla_policy.tokenizer import NUM_BINS
from vla_policy.vision import SlotEncoder

_INITIAL_STD = 0.02


class VlaNetwork(nn.Module):
    """Observations in, logits over the action bins out."""

    def __init__(self, config: VlaConfig) -> None:
        """Build the network with fresh weights from torch's global generator."""
        super().__init__()
        from transformers import LlamaConfig, LlamaModel  # takes seconds to import

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
        self.llama = LlamaModel(
            LlamaConfig(
                vocab_size=config.text_vocab_size,
                hidden_size=hidden,
                intermediate_size=config.intermediate_size,
                num_hidden_layers=config.num_layers,
                num_attention_heads=config.num_heads,
                rms_norm_eps=1e-6,
                initializer_range=hidden**-0.5,
                use_cache=False,
            )
        )
        self.head = nn.Linear(hidden, NUM_BINS, bias=False)
        nn.init.normal_(self.head.weight, std=_INITIAL_STD)

    def forward(self, inputs: PolicyInputs) -> Tensor:
        """Compute the logits of every action token.

        Returns:
            logits_BKAV in float32, V in the order of `ActionTokenizer.centres`.
        """
        config = self.config
        with precision.autocast(inputs.images_BCHW3.device):
            prefix_BTD = self._prefix(inputs)
            tokens_BTD = torch.cat((prefix_BTD, self._embed(inputs.prompt_BL), self._suffix(len(inputs))), dim=1)
            hidden_BTD = self.hidden_states(tokens_BTD, self._is_token(inputs, prefix_BTD.shape[1]))
        last_prompt_B = prefix_BTD.shape[1] + inputs.prompt_mask_BL.sum(1) - 1
        first_B1D = hidden_BTD[torch.arange(len(inputs), device=hidden_BTD.device), last_prompt_B, None]
        start = prefix_BTD.shape[1] + inputs.prompt_BL.shape[1]
        rest_BTD = hidden_BTD[:, start : start + config.num_action_tokens - 1]
        logits_BTV = self.head(torch.cat((first_B1D, rest_BTD), dim=1).float())
        return logits_BTV.view(len(inputs), config.chunk_length, config.action_dim, NUM_BINS)

    def hidden_states(self, tokens_BTD: Tensor, is_token_BT: Tensor) -> Tensor:
        """Run the language model with bidirectional attention.

        Padding is neither attended to nor counted in the positions, so results do not depend on how far a batch is
        padded. A 4-D mask replaces the causal one that `transformers` would make.
        """
        attention = precision.attention(tokens_BTD.device)
        if self.llama.config._attn_implementation != attention:
            self.llama.set_attn_implementation(attention)
        mask_B11T = torch.zeros(is_token_BT.shape, dtype=tokens_BTD.dtype, device=tokens_BTD.device)
        mask_B11T = mask_B11T.masked_fill(~is_token_BT, float("-inf"))[:, None, None, :]
        positions_BT = (is_token_BT.cumsum(1) - 1).clamp(min=0)
        output = self.llama(inputs_embeds=tokens_BTD, attention_mask=mask_B11T, position_ids=positions_BT)
        return output.last_hidden_state

    def _prefix(self, inputs: PolicyInputs) -> Tensor:
        """BOS, image tokens and proprio token."""
        batch, cameras = inputs.images_BCHW3.shape[:2]
        features = self.projector(self.vision(inputs.images_BCHW3.flatten(0, 1)))
        images_BCTD = features.view(batch, cameras, *features.shape[1:]) + self.camera_embedding + self.slot_embedding
        bos_BT = torch.full_like(inputs.prompt_BL[:, :1], self.config.bos_id)
        parts = [self._embed(bos_BT), images_BCTD.flatten(1, 2)]
        if self.config.use_proprio:
            parts.append(self.proprio_projector(inputs.state_BS)[:, None].float())
        return torch.cat(parts, dim=1)

    def _suffix(self, batch: int) -> Tensor:
        """Placeholders and stop token."""
        config = self.config
        stop_1D = self.llama.embed_tokens.weight[config.stop_id, None]
        if config.placeholders == "learned":
            # Token j is where action j + 1 is read, hence the shift; the last one is read by nobody.
            actions_TD = (self.step_embedding + self.dimension_embedding).flatten(0, 1)
            placeholders_TD = actions_TD.roll(-1, dims=0)
        else:
            placeholders_TD = stop_1D.new_zeros(config.num_action_tokens, config.hidden_size)
        return torch.cat((placeholders_TD, stop_1D)).expand(batch, -1, -1)

    def _is_token(self, inputs: PolicyInputs, prefix: int) -> Tensor:
        mask_BL = inputs.prompt_mask_BL
        before = mask_BL.new_ones(len(inputs), prefix)
        after = mask_BL.new_ones(len(inputs), self.config.num_action_tokens + 1)
        return torch.cat((before, mask_BL, after), dim=1)

    def _embed(self, ids_BT: Tensor) -> Tensor:
        return self.llama.embed_tokens(ids_BT)


def _two_layers(inputs: int, outputs: int) -> tuple[nn.Module, nn.Module, nn.Module]:
    return nn.Linear(inputs, outputs), nn.GELU(), nn.Linear(outputs, outputs)


def _embedding(*shape: int) -> nn.Parameter:
    return nn.Parameter(torch.randn(shape) * _INITIAL_STD)
